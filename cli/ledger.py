"""`flask ledger`: check that every kopeck is explained, and print statements."""

import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, islice
from pathlib import Path

import click

import signing
from cli import files, inbox
from cli.output import INN, MOMENT, Group, counted, example, progress, say, table
from context import now, settings
from enums import ExportFormat
from ledger import audit, exports, seals
from ledger.exports import Statement
from ledger.findings import Finding, Progress, Unread
from outbox import audit as events_audit
from pagination import Span
from rules import roubles

FORMATS = [form.value for form in ExportFormat]
"""As they are written: click would offer the names of an Enum's members."""

ROWS = "rows of log, payments and incidents"
"""What `flask ledger verify` counts."""

NOT_COMPARED = "All that can be read adds up; the bodies of banks that are not in the registry were not compared."

group = Group("ledger", help="The log of every kopeck: check it, print it.")


@dataclass
class _Counts:
    """What a check has found."""

    broken: int = 0
    unread: int = 0
    rows: int = 0


@group.command(epilog=example("flask ledger verify", "flask ledger verify --against seal-2026-11-30.jsonl"))
@click.option("--against", "seal", type=files.EXISTING, help="A file that `flask ledger seal` wrote.")
@click.option("--public-key", help="With which that file is verified; the one of SEAL_KEY, if left out.")
def verify(seal: Path | None, public_key: str | None) -> None:
    """Re-add every log and compare it with payments and balances; exit status 1 if anything is off, or overdue."""
    against = iter(()) if seal is None else _against(seal, public_key or _own_public_key())
    counts = _count(chain(audit.verify(), events_audit.verify(), against))
    say(*inbox.summary())
    what_to_do = inbox.advice()
    # Behind whatever else is wrong: it may last, and must not hide that nobody is at work.
    waiting = f" {what_to_do}" if what_to_do is not None else ""
    if counts.broken:
        found = f"{counted(counts.broken, 'finding')} in {counts.rows} {ROWS}."
        raise click.ClickException(f"{found} Nothing was changed; keep a copy and ask why.{waiting}")
    if counts.unread:
        raise click.ClickException(f"{counts.rows} {ROWS} re-added. {NOT_COMPARED}{waiting}")
    if what_to_do is not None:
        raise click.ClickException(f"Every balance is explained, but lacks what waits in the inbox. {what_to_do}")
    say(f"Clean: {counts.rows} {ROWS} re-added, every balance explained.")
    if seal is not None:
        say(f"Nothing that {seal.name} sealed has changed or is gone.")


def _count(steps: Iterator[Finding | Progress]) -> _Counts:
    """Print each finding, and count them."""
    counts, start = _Counts(), next(steps)
    assert isinstance(start, Progress)
    with progress(start.total, "Re-adding") as advance:
        for step in steps:
            if isinstance(step, Progress):
                advance(step.rows)
                counts.rows += step.rows
            else:
                counts.broken += not isinstance(step, Unread)
                counts.unread += isinstance(step, Unread)
                say(f"{step.row}: {step.problem}")
    return counts


def _own_public_key() -> str:
    key = settings().seal_key
    if key is None:
        raise click.UsageError("SEAL_KEY is not set; give --public-key, the line that begins with whpk_.")
    return signing.public_key(key)


def _against(seal: Path, public_key: str) -> Iterator[Finding]:
    try:
        with seal.open("rb") as file:
            yield from seals.verify(file, public_key=public_key)
    except seals.NoSeal as error:
        raise click.ClickException(f"{seal}: {error} Nothing was compared with it.") from None


def _exported(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the arguments of a statement."""
    for option in reversed(
        (
            click.argument("inn", type=INN),
            click.option("--from", "since", type=MOMENT, help="From this moment on."),
            click.option("--to", "until", type=MOMENT, help="Before this moment."),
            click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="Rows of the table."),
            click.option("--format", "form", type=click.Choice(FORMATS), help="The whole span as a file."),
            click.option("--csv", "form", flag_value=ExportFormat.CSV.value, help="The same as --format csv."),
            click.option("--output", type=files.PATH, help="A new file to write; standard output, if left out."),
        )
    ):
        command = option(command)
    return command


@group.command(
    epilog=example(
        "flask ledger statement 1234567890",
        "flask ledger statement 1234567890 --csv > statement.csv",
        "flask ledger statement 1234567890 --format xlsx --output statement.xlsx",
    )
)
@_exported
def statement(
    inn: str, since: datetime | None, until: datetime | None, limit: int, form: str | None, output: Path | None
) -> None:
    """Print the moves of one balance, the newest first; times such as 2024-04-27T21:00:00Z."""
    asked = exports.statement("log", inn, Span(since=since, until=until))
    if form is not None or output is not None:
        _export(asked, form, output)
        return
    header = ("VERSION", "WHEN", "DELTA", "BALANCE", "DOCUMENT", "SOURCE", "OPERATION")
    rows = [
        (
            row.version,
            row.created_at,
            roubles(row.delta),
            roubles(row.balance_after),
            row.document_number,
            row.source,
            row.operation_id,
        )
        for row in islice(asked.listing.rows(), limit)
    ]
    say(*(table(header, rows) if rows else ["No moves."]))


@group.command(
    epilog=example(
        "flask ledger payments 1234567890",
        "flask ledger payments 1234567890 --format excel-csv --output payments.csv",
    )
)
@_exported
def payments(
    inn: str, since: datetime | None, until: datetime | None, limit: int, form: str | None, output: Path | None
) -> None:
    """Print the payments of one organisation, the newest first; times such as 2024-04-27T21:00:00Z."""
    asked = exports.statement("payments", inn, Span(since=since, until=until))
    if form is not None or output is not None:
        _export(asked, form, output)
        return
    header = ("RECEIVED", "AMOUNT", "SOURCE", "PAYER", "DOCUMENT", "DATE", "OPERATION")
    rows = [
        (
            row.received_at,
            roubles(row.amount),
            row.source,
            row.payer_inn,
            row.document_number,
            row.document_date,
            row.operation_id,
        )
        for row in islice(asked.listing.rows(), limit)
    ]
    say(*(table(header, rows) if rows else ["No payments."]))


def _export(asked: Statement, form: str | None, output: Path | None) -> None:
    if form is None:
        raise click.UsageError(f"Say as what, too: --format {', '.join(FORMATS)}.")
    if form == ExportFormat.XLSX and output is None and sys.stdout.isatty():
        raise click.UsageError("A workbook is nothing for a terminal; add --output FILE.")
    export = exports.write(asked, ExportFormat(form), now=now(), seconds=math.inf)
    with export.file:
        files.write(export.file, output)
    if output is not None:
        say(f"{export.rows} rows are in {output}.")
    if asked.waiting:
        say(f"Not in it: {asked.waiting} webhooks that arrived in this time and wait to be credited.", err=True)

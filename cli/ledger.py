"""`flask ledger`: check that every kopeck is explained, and print statements."""

import math
import sys
from collections.abc import Callable
from datetime import datetime
from itertools import islice
from pathlib import Path

import click

from cli import files, inbox
from cli.output import INN, MOMENT, Group, example, progress, say, table
from context import now
from enums import ExportFormat
from ledger import audit, exports
from ledger.audit import Progress
from ledger.exports import Statement
from pagination import Span
from rules import roubles

FORMATS = [form.value for form in ExportFormat]
"""As they are written: click would offer the names of an Enum's members."""

group = Group("ledger", help="The log of every kopeck: check it, print it.")


@group.command(epilog=example("flask ledger verify"))
def verify() -> None:
    """Re-add every log and compare it with payments and balances; exit status 1 if anything is off, or overdue."""
    broken = rows = 0
    steps = audit.verify()
    start = next(steps)
    assert isinstance(start, Progress)
    with progress(start.total, "Re-adding") as advance:
        for step in steps:
            if isinstance(step, Progress):
                advance(step.rows)
                rows += step.rows
            else:
                broken += 1
                say(f"{step.row}: {step.problem}")
    say(*inbox.summary())
    if broken:
        raise click.ClickException(f"{broken} findings in {rows} rows. Nothing was changed; keep a copy and ask why.")
    if inbox.is_overdue():
        raise click.ClickException(f"Every balance is explained, but lacks what waits in the inbox. {inbox.ADVICE}")
    say(f"Clean: {rows} rows re-added, every balance explained.")


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

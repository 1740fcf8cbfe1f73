"""`flask ledger`: check that every kopeck is explained, and print statements."""

import sys
from datetime import datetime
from itertools import islice

import click

import pagination
from cli.output import INN, MOMENT, Group, example, progress, table
from ledger import audit, organizations, statements
from ledger.audit import Progress
from pagination import Span
from rules import roubles

group = Group("ledger", help="The log of every kopeck: check it, print it.")


@group.command(epilog=example("flask ledger verify"))
def verify() -> None:
    """Re-add every log and compare it with payments and balances; exit status 1 if anything is off."""
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
                click.echo(f"{step.row}: {step.problem}")
    if broken:
        raise click.ClickException(f"{broken} findings in {rows} rows. Nothing was changed; keep a copy and ask why.")
    click.echo(f"Clean: {rows} rows re-added, every balance explained.")


@group.command(
    epilog=example("flask ledger statement 1234567890", "flask ledger statement 1234567890 --csv > statement.csv")
)
@click.argument("inn", type=INN)
@click.option("--from", "since", type=MOMENT, help="From this moment on.")
@click.option("--to", "until", type=MOMENT, help="Before this moment.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="At most this many, unless --csv.")
@click.option("--csv", "as_csv", is_flag=True, help="The whole span as CSV, amounts in kopecks.")
def statement(inn: str, since: datetime | None, until: datetime | None, limit: int, as_csv: bool) -> None:
    """Print the moves of one balance, the newest first; times such as 2024-04-27T21:00:00Z."""
    organization = organizations.find(inn)
    listing = statements.log_list(organization.id, Span(since=since, until=until))
    if as_csv:
        for line in pagination.csv_lines(listing):
            sys.stdout.write(line)
        return
    header = ("VERSION", "WHEN", "DELTA", "BALANCE", "DOCUMENT", "OPERATION")
    shown = [
        (
            row.version,
            row.created_at,
            roubles(row.delta),
            roubles(row.balance_after),
            row.document_number,
            row.operation_id,
        )
        for row in islice(listing.rows(), limit)
    ]
    for line in table(header, shown) if shown else ["No moves."]:
        click.echo(line)

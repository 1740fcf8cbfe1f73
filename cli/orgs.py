"""`flask orgs`: seed, list and show organisations."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import click

import rules
from cli import organization_file
from cli.organization_file import Row
from cli.output import INN, NAME, Group, example, money, operator, progress, say, shown, table
from context import now, settings
from ledger import organizations, statements

SEED_ROWS = 500
"""How many organisations are registered in one transaction."""

SAMPLE_INN = "1234567890"
"""The INN of the sample webhook; its checksum fails, and it is accepted all the same."""

group = Group("orgs", help="Organisations: who holds a balance.")


@group.command(epilog=example("flask orgs seed organisations.csv", "flask orgs seed --demo 3"))
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--demo", type=click.IntRange(1, 100_000), help="Register N made-up organisations instead.")
def seed(file: Path | None, demo: int | None) -> None:
    """Register organisations from a CSV FILE with the columns inn,name; safe to run again.

    Existing organisations keep what they have; one without a name takes the one given. If any row is bad, the bad rows
    are named, the first thousand of them, and nothing is written.
    """
    if (file is None) == (demo is None):
        raise click.UsageError("Give either a FILE or --demo N.")
    if demo is not None and settings().production:
        raise click.ClickException("Demo organisations have no place in production; seed from a FILE.")
    if file is None:
        _register(_made_up(demo or 0), count=demo or 0)
        return
    with organization_file.read(file) as (rows, count):
        _register(rows, count=count)


def _register(rows: Iterator[Row], *, count: int) -> None:
    created = 0
    with progress(count, "Registering") as advance:
        while part := list(islice(rows, SEED_ROWS)):
            created += organizations.seed(part, now=now())
            advance(len(part))
    say(f"{created} registered, {count - created} already there.")


@group.command(epilog=example('flask orgs add 7707083893 "Sber"'))
@click.argument("inn", type=INN)
@click.argument("name", type=NAME, default="", required=False)
def add(inn: str, name: str) -> None:
    """Register one organisation with an empty balance."""
    organizations.register(inn=inn, name=name, now=now())
    say("Registered.")


@group.command("list", epilog=example("flask orgs list --limit 20"))
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="At most this many.")
def list_(limit: int) -> None:
    """List organisations, the oldest first."""
    rows = list(islice(statements.organization_list().rows(), limit + 1))
    shown = [(row.inn, money(row.balance), row.version, row.name) for row in rows[:limit]]
    for line in table(("INN", "BALANCE", "MOVES", "NAME"), shown):
        say(line)
    if len(rows) > limit:
        say(f"… and more: raise --limit above {limit} to see them.", err=True)


@group.command(epilog=example("flask orgs show 1234567890"))
@click.argument("inn", type=INN)
def show(inn: str) -> None:
    """Show one organisation."""
    row = organizations.find(inn)
    checksum = "holds" if rules.checksum_holds(inn) else "does not hold (advice only)"
    say(
        f"INN           {row.inn}",
        f"Name          {row.name}",
        f"Balance       {money(row.balance)}",
        f"May owe       {money(row.overdraft_limit)}",
        f"Moves         {row.version}",
        f"Registered    {shown(row.created_at)}",
        f"INN checksum  {checksum}",
    )


@group.command("overdraft", epilog=example("flask orgs overdraft 1234567890 5000000"))
@click.argument("inn", type=INN)
@click.argument("limit", type=click.IntRange(0, -rules.BALANCE_MIN))
def set_overdraft(inn: str, limit: int) -> None:
    """Let the organisation owe up to LIMIT kopecks for what is asked of us; 0 is the default."""
    organizations.set_overdraft_limit(inn, limit, by=operator(), now=now())
    say(f"INN {inn} may owe {money(limit)}.")


def _made_up(count: int) -> Iterator[Row]:
    """Make up organisations, the same ones every time, the INN of the sample webhook first."""
    yield SAMPLE_INN, "Demo organisation 1"
    for number in range(2, count + 1):
        digits = f"{770_000_000 + number:09}"
        yield digits + _check_digit(digits), f"Demo organisation {number}"


def _check_digit(digits: str) -> str:
    return next(digit for digit in "0123456789" if rules.checksum_holds(digits + digit))

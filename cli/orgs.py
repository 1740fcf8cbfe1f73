"""`flask orgs`: seed, list and show organisations."""

import csv
from collections.abc import Iterator
from io import StringIO
from itertools import islice
from pathlib import Path

import click

import rules
import schemas
from cli.output import INN, NAME, Group, example, money, printable, progress, table
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

    Existing organisations keep what they have; one without a name takes the one given. If any row is bad, all bad rows
    are named and nothing is written.
    """
    if (file is None) == (demo is None):
        raise click.UsageError("Give either a FILE or --demo N.")
    if demo is not None and settings().production:
        raise click.ClickException("Demo organisations have no place in production; seed from a FILE.")
    rows = _read(file) if file is not None else list(_made_up(demo or 0))
    created = 0
    with progress(len(rows), "Registering") as advance:
        for start in range(0, len(rows), SEED_ROWS):
            part = rows[start : start + SEED_ROWS]
            created += organizations.seed(part, now=now())
            advance(len(part))
    click.echo(f"{created} registered, {len(rows) - created} already there.")


@group.command(epilog=example('flask orgs add 7707083893 "Sber"'))
@click.argument("inn", type=INN)
@click.argument("name", type=NAME, default="", required=False)
def add(inn: str, name: str) -> None:
    """Register one organisation with an empty balance."""
    organizations.register(inn=inn, name=name, now=now())
    click.echo("Registered.")


@group.command("list", epilog=example("flask orgs list --limit 20"))
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="At most this many.")
def list_(limit: int) -> None:
    """List organisations, the oldest first."""
    rows = list(islice(statements.organization_list().rows(), limit + 1))
    shown = [(row.inn, money(row.balance), row.version, row.name) for row in rows[:limit]]
    for line in table(("INN", "BALANCE", "MOVES", "NAME"), shown):
        click.echo(line)
    if len(rows) > limit:
        click.echo(f"… and more: raise --limit above {limit} to see them.", err=True)


@group.command(epilog=example("flask orgs show 1234567890"))
@click.argument("inn", type=INN)
def show(inn: str) -> None:
    """Show one organisation."""
    row = organizations.find(inn)
    checksum = "holds" if rules.checksum_holds(inn) else "does not hold (advice only)"
    click.echo(f"INN           {row.inn}\nName          {printable(row.name)}\nBalance       {money(row.balance)}")
    click.echo(
        f"Moves         {row.version}\nRegistered    {row.created_at:%Y-%m-%d %H:%M:%SZ}\nINN checksum  {checksum}"
    )


def _read(file: Path) -> list[tuple[str, str]]:
    """Read a whole CSV file; name every bad row with its line number, and stop."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise click.ClickException(f"{file} is not UTF-8; save it as “CSV UTF-8” and try again.") from None
    header = text.partition("\n")[0]
    reader = csv.DictReader(StringIO(text, newline=""), delimiter=";" if ";" in header else ",", restkey="more")
    try:
        rows, bad = _sort_out(reader)
    except csv.Error:
        raise click.ClickException(f"{file} is not CSV from line {reader.line_num} on.") from None
    if bad:
        raise click.ClickException("Nothing was written. These rows are bad:\n" + "\n".join(bad))
    return rows


def _sort_out(reader: "csv.DictReader[str]") -> tuple[list[tuple[str, str]], list[str]]:
    """Tell good rows from bad ones, each bad one with its line number."""
    reader.fieldnames = [name.strip().lower() for name in reader.fieldnames or ()]
    if reader.fieldnames.count("inn") != 1 or reader.fieldnames.count("name") > 1:
        raise click.ClickException("The file has no column inn, or has one twice; its first line must be: inn,name")
    rows, bad = [], []
    seen: dict[str, int] = {}
    for row in reader:
        problem = _problem(row, seen)
        if problem:
            bad.append(f"line {reader.line_num}: {problem}")
        else:
            seen[row["inn"].strip()] = reader.line_num
            rows.append((row["inn"].strip(), (row.get("name") or "").strip()))
    return rows, bad


def _problem(row: dict[str, str], seen: dict[str, int]) -> str | None:
    if "more" in row:
        return "has more cells than the first line; put a name that holds a comma into quotation marks"
    inn, name = (row["inn"] or "").strip(), (row.get("name") or "").strip()
    problems = schemas.OrganizationIn().validate({"inn": inn, "name": name})
    if problems:
        return "; ".join(f"{field}: {' '.join(messages)}" for field, messages in problems.items())
    if inn in seen:
        return f"the INN stands on line {seen[inn]} already"
    return None


def _made_up(count: int) -> Iterator[tuple[str, str]]:
    """Make up organisations, the same ones every time, the INN of the sample webhook first."""
    yield SAMPLE_INN, "Demo organisation 1"
    for number in range(2, count + 1):
        digits = f"{770_000_000 + number:09}"
        yield digits + _check_digit(digits), f"Demo organisation {number}"


def _check_digit(digits: str) -> str:
    return next(digit for digit in "0123456789" if rules.checksum_holds(digits + digit))

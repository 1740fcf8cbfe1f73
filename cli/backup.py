"""`flask backup`: a copy of the database that can be restored."""

import shlex
import sqlite3
from itertools import chain
from pathlib import Path

import click
from sqlalchemy import URL

from cli import files
from cli.ledger import NOT_COMPARED
from cli.output import Group, counted, example, progress, say
from context import settings
from database import backup
from database.columns import MYSQL_FAMILY
from ledger import audit
from ledger.findings import Finding, Unread
from outbox import audit as events_audit

group = Group("backup", help="Copies of the database.")


@group.command(epilog=example("flask backup create /backups/kopeck-2026-03-01.db"))
@click.argument("file", type=files.PATH)
def create(file: Path) -> None:
    """Copy a SQLite database while it serves, and check the copy; for the two servers, say which program does it.

    The copy holds all that was acknowledged before the command began. Only its owner can read it.
    """
    url = settings().database_url
    if url.get_backend_name() != "sqlite":
        raise click.ClickException("\n".join(_lines_for(url, file)))
    if not url.database or url.database == ":memory:":
        raise click.ClickException("This database is in memory, and has no file. Look at DATABASE_URL.")
    with files.new_file(file) as part:
        _copy(part)
        steps = chain(audit.verify_copy(part), events_audit.verify_copy(part))
        findings = [step for step in steps if isinstance(step, Finding)]
    say(f"{file} is a whole copy. To restore it, see docs/operations.md.")
    for finding in findings:
        say(f"{finding.row}: {finding.problem}")
    if broken := sum(not isinstance(finding, Unread) for finding in findings):
        found = counted(broken, "finding")
        raise click.ClickException(
            f"The copy is whole, but what it holds does not add up: {found}. Keep it, and ask why."
        )
    if findings:
        raise click.ClickException(f"The copy is whole. {NOT_COMPARED}")
    say("Clean: every balance in it is explained.")


def _copy(part: Path) -> None:
    try:
        with progress(backup.page_count(), "Copying") as advance:
            backup.copy(part, advance)
    except backup.NotWhole as error:
        raise click.ClickException(f"The database is damaged, and so was the copy. SQLite says: {error}") from None
    except sqlite3.Error as error:
        raise click.ClickException(f"The copy could not be written. SQLite says: {error}. No file was left.") from None


def _lines_for(url: URL, file: Path) -> list[str]:
    """Return what does it on one of the two servers; the password is asked for, or read from a file of yours."""
    name, host, user = url.database or "", url.host or "localhost", url.username or ""
    path = shlex.quote(str(file))
    if url.get_backend_name() in MYSQL_FAMILY:
        line = f"mariadb-dump --single-transaction --hex-blob --triggers --host={shlex.quote(host)}"
        line += (
            f" --port={url.port or 3306} --user={shlex.quote(user)} --password --result-file={path} {shlex.quote(name)}"
        )
    else:
        line = f"pg_dump --format=custom --file={path} --host={shlex.quote(host)}"
        line += f" --port={url.port or 5432} --username={shlex.quote(user)} {shlex.quote(name)}"
    return [
        "Nothing was written: this server has a program of its own for that, which copies while Kopeck serves.",
        f"  umask 077; {line}",
        "docs/operations.md says how to restore it, and what it does not hold.",
    ]

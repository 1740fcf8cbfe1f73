"""Runs migrations with the settings of everything else, but for the time that a statement may take."""

from collections.abc import Callable, Iterable
from typing import Any

import click
from alembic import context
from alembic.runtime.migration import RevisionStep
from flask import current_app
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from context import wall_clock
from database import checks, journal, losses, migration_lock, rights
from database.engine import migration_engine
from database.extension import db
from database.failures import is_lost_connection
from limits import MIGRATION_WAIT_SECONDS

LOSE_ROWS = "lose-rows"
"""The option that lets a downgrade lose rows: `flask db downgrade -x lose-rows=yes`."""


def run() -> None:
    """Bring the database of the running app to the asked revision; a failed run can be made again."""
    with _connect() as connection:
        _configure(connection)
        commanded = context.get_context().opts["fn"]
        _configure(connection, fn=lambda heads, of: _prepare(connection, heads, commanded(heads, of)))
        try:
            with context.begin_transaction():
                migration_lock.take(connection, say=_say_waiting)
                _look_at_empty_database(connection)
                context.run_migrations()
                _look_at_foreign_keys(connection)
            journal.remove(connection)
            connection.commit()
        except migration_lock.HeldByAnotherError:
            raise click.ClickException(f"{_another()} Run this again when it has ended.") from None
        except DBAPIError as error:
            raise click.ClickException(_explain(connection, error)) from None


def _connect() -> Connection:
    engine = migration_engine(db.engine.url)
    try:
        # On SQLite the first statement takes the write lock: what is counted then stays as it is.
        return migration_lock.prepare(engine.connect(), say=_say_waiting)
    except DBAPIError as error:
        raise click.ClickException(
            f"The database is not available. Look at DATABASE_URL. It says: {_reason(error)}"
        ) from None


def _configure(connection: Connection, **options: object) -> None:
    context.configure(
        connection=connection,
        target_metadata=db.metadata,
        transactional_ddl=not journal.is_needed(connection),
        on_version_apply=_finish,
        **current_app.extensions["migrate"].configure_args,
        **options,
    )


def _another() -> str:
    # SQLite has one lock for whoever writes.
    who = "Another program writes to" if db.engine.dialect.name == "sqlite" else "Another `flask db` changes"
    return f"{who} this database."


def _say_waiting() -> None:
    click.echo(f"{_another()} Waiting for it, {MIGRATION_WAIT_SECONDS} seconds at most.", err=True)


def _prepare(connection: Connection, heads: tuple[str, ...], found: Iterable[Any]) -> list[Any]:
    """Look at everything that is to be done before the first of it is, and return it."""
    steps = list(found)
    migrations = [step for step in steps if isinstance(step, RevisionStep)]
    unfinished = journal.unfinished_step(connection)
    _refuse_to_leave(unfinished, migrations)
    if migrations and heads:
        _refuse_database(connection)
    _refuse_losses(connection, migrations, half_way=unfinished is not None)
    for step in migrations:
        step.migration_fn = _journaled(connection, step)
    return steps


def _name(step: RevisionStep) -> str:
    return f"{'upgrade' if step.is_upgrade else 'downgrade'} {step.revision.revision}"


def _journaled(connection: Connection, step: RevisionStep) -> Callable[[], None]:
    migrate = step.migration_fn

    def run_step() -> None:
        repeatable = getattr(step.revision.module, "REPEATABLE", False)
        with journal.keep(connection, _name(step), repeatable=repeatable):
            migrate()

    return run_step


def _refuse_to_leave(unfinished: str | None, migrations: list[RevisionStep]) -> None:
    """End unless a migration that stopped half way is the first to be done."""
    if unfinished is None or (migrations and _name(migrations[0]) == unfinished):
        return
    hint = journal.finish_hint(unfinished)
    raise click.ClickException(f"{hint[0].upper()}{hint[1:]}")


def _look_at_empty_database(connection: Connection) -> None:
    """Look before alembic makes its own table, unless the command only reads."""
    migration_context = context.get_context()
    if not migration_context.get_current_heads() and not migration_context.opts.get("dont_mutate"):
        _refuse_database(connection)


def _look_at_foreign_keys(connection: Connection) -> None:
    """End, on SQLite, when rows refer to nothing: while tables are made anew it does not look itself."""
    if connection.dialect.name == "sqlite":
        lost = connection.execute(text("PRAGMA foreign_key_check")).all()
        if lost:
            raise click.ClickException(
                f"{len(lost)} rows refer to rows that are not there, first of all one of {lost[0][0]}. Nothing was "
                "changed. `flask ledger verify` says more."
            )


def _refuse_database(connection: Connection) -> None:
    """End before the first statement when the database or its user's rights would not do; say what else is wrong."""
    found = checks.look(connection, clock=wall_clock)
    problems = [*found.unusable, *filter(None, [rights.problem(connection, db.metadata.tables)])]
    if problems:
        raise click.ClickException("\n".join([*problems, "Nothing was changed. Then run the same command again."]))
    for finding in found.all():
        click.secho(f"Warning: {finding}", err=True)


def _refuse_losses(connection: Connection, migrations: list[RevisionStep], *, half_way: bool) -> None:
    """End when rows would be lost by a downgrade and nobody has said that they may."""
    options = context.get_x_argument(as_dictionary=True)
    if options.get(LOSE_ROWS) not in (None, "yes", "no"):
        raise click.ClickException(f"-x {LOSE_ROWS} must be yes or no.")
    lost = [step.revision.module.LOSES for step in migrations if not step.is_upgrade]
    losses.hold(connection, [table for tables in lost for table in tables])
    if options.get(LOSE_ROWS) == "yes":
        return
    found = losses.count(connection, lost, half_way=half_way)
    if found:
        target = context.get_revision_argument() or "base"
        raise click.ClickException(losses.refusal(found, f"flask db downgrade -x {LOSE_ROWS}=yes {target}"))


def _finish(*, ctx: Any, step: Any, **_: object) -> None:
    journal.clear(ctx.connection)
    click.echo(f"Migration {step.up_revision_id} {'applied' if step.is_upgrade else 'taken back'}.")


def _explain(connection: Connection, error: DBAPIError) -> str:
    statement = " ".join((error.statement or "").split())[:200]
    kept = (
        "What was done until then is noted. Remove the cause and run the same command again: it goes on from there."
        if journal.is_needed(connection)
        else "Nothing was changed. Remove the cause and run the same command again."
    )
    what = "The connection to the database was lost" if is_lost_connection(error) else "The database refused"
    return f"{what} at this statement: {statement}\nIt says: {_reason(error)}\n{kept}"


def _reason(error: DBAPIError) -> str:
    said = getattr(getattr(error.orig, "diag", None), "message_primary", None)
    return said or str(error.orig).strip().splitlines()[-1]


if context.is_offline_mode():
    raise click.ClickException("Kopeck's migrations look at the database they change; run them without --sql.")
run()

"""Runs migrations with the settings of everything else, but for the time that a statement may take."""

from typing import Any

import click
from alembic import context
from flask import current_app
from sqlalchemy.exc import OperationalError

from database.engine import migration_engine
from database.extension import db


def run() -> None:
    """Bring the database of the running app to the asked revision; only MariaDB cannot undo a failed one."""
    with migration_engine(db.engine.url).connect() as connection:
        context.configure(
            connection=connection,
            target_metadata=db.metadata,
            on_version_apply=_tell,
            **current_app.extensions["migrate"].configure_args,
        )
        with context.begin_transaction():
            context.run_migrations()
        connection.commit()


def _tell(*, step: Any, **_: object) -> None:
    click.echo(f"Migration {step.up_revision_id} {'applied' if step.is_upgrade else 'taken back'}.")


if context.is_offline_mode():
    raise click.ClickException("Kopeck's migrations look at the database they change; run them without --sql.")
try:
    run()
except OperationalError as error:
    reason = str(error.orig).strip().splitlines()[-1]
    raise click.ClickException(f"The database is not available. Look at DATABASE_URL. It says: {reason}") from None

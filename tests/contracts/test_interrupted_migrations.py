"""Migrations that stop at any statement, and are run again: they end where an untouched run ends."""

import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click
import flask_migrate
import psycopg
import pymysql
import pytest
from flask import Flask
from sqlalchemy import Engine, event, text

from app import create_app
from database.extension import db
from tests import databases
from tests.contracts.test_upgrade import OLDER, by_key, fill, rows, without
from tests.databases import Database
from tests.factories import START, make_config

RUNS_MAX = 2000
LOSE_ROWS = "lose-rows=yes"
UNDONE_WHOLE = 5
"""Where a run that stops is undone as a whole, and begins anew each time, every so manieth statement is enough."""
LONG_TEXT = re.compile(r"'[^']{65,}'")
ERRORS = {"sqlite": sqlite3.OperationalError, "postgresql": psycopg.OperationalError}


class Interrupter:
    """Stops every statement once: an error instead of it, or the connection ends before or after it.

    On MariaDB each, since what came before it stays there.
    """

    def __init__(self, how: str) -> None:
        self.how = how
        self.seen: set[str] = set()

    @contextmanager
    def active(self, family: str) -> Iterator[None]:
        if family == "mariadb":
            # Below the journal, whose own statements are stopped too.
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(
                    pymysql.connections.Connection, "query", self._query(pymysql.connections.Connection.query)
                )
                yield
            return
        name = "after_cursor_execute" if self.how == "ends after" else "before_cursor_execute"

        def stop(connection: Any, cursor: Any, statement: str, parameters: object, *_: object) -> None:
            if self._is_new(f"{statement} {parameters!r}") and len(self.seen) % UNDONE_WHOLE == 0:
                if self.how != "fails":
                    cursor.close()  # an open one would keep SQLite's lock
                    connection.connection.dbapi_connection.close()
                raise ERRORS[family]("stopped by the test")

        event.listen(Engine, name, stop)
        try:
            yield
        finally:
            event.remove(Engine, name, stop)

    def _is_new(self, statement: str) -> bool:
        if statement.startswith("UPDATE"):
            # The same secrets are encrypted differently each time: what is long is no mark of a statement.
            statement = LONG_TEXT.sub("…", statement)
        if statement in self.seen:
            return False
        self.seen.add(statement)
        return True

    def _query(self, query: Callable[..., int]) -> Callable[..., int]:
        def run(connection: Any, sql: str | bytes, *arguments: object) -> int:
            statement = sql if isinstance(sql, str) else sql.decode("utf-8", "surrogateescape")
            if not self._is_new(statement):
                return query(connection, sql, *arguments)
            if self.how == "ends after":
                query(connection, sql, *arguments)
            if self.how != "fails":
                connection._force_close()
            raise pymysql.err.OperationalError(2013, "stopped by the test")

        return run


def make_database(family: str) -> tuple[Database, Flask]:
    database = Database(family)
    database.create()
    return database, create_app(make_config(database.url), lambda: START)


@pytest.fixture(params=databases.FAMILIES)
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[tuple[Database, Flask], tuple[Database, Flask]]]:
    """Two databases of one family: one whose migrations are stopped, and one that is left in peace."""
    made = [make_database(request.param) for _ in range(2)]
    yield made[0], made[1]
    for database, app in made:
        with app.app_context():
            db.session.remove()
            db.engine.dispose()
        database.drop()


def until_done(interrupter: Interrupter, family: str, migrate: Callable[[], None]) -> None:
    """Run a migration again and again until nothing stops it any more."""
    for _ in range(RUNS_MAX):
        known = len(interrupter.seen)
        with interrupter.active(family):
            try:
                migrate()
                return
            except (click.ClickException, db.exc.DBAPIError) as error:
                if len(interrupter.seen) == known:
                    raise AssertionError(f"stopped by something else than the test: {error}") from error
    raise AssertionError("never done")


@pytest.mark.parametrize("how", ["fails", "ends before", "ends after"])
def test_stopped_at_any_statement_and_run_again_it_ends_where_an_untouched_run_does(pair, how):
    (stopped, stopped_app), (whole, whole_app) = pair
    steps = [
        (lambda: flask_migrate.upgrade(revision=OLDER), fill),
        (flask_migrate.upgrade, lambda: None),
        (lambda: flask_migrate.downgrade(revision=OLDER), lambda: None),
        (lambda: flask_migrate.downgrade(revision="base", x_arg=LOSE_ROWS), lambda: None),
    ]

    for migrate, then in steps:
        with whole_app.app_context():
            migrate()
            then()
            expected = contents(whole)
        with stopped_app.app_context():
            until_done(Interrupter(how), stopped.family, migrate)
            then()
            assert contents(stopped) == expected


def contents(database: Database) -> tuple[list[str], dict[str, list[str]]]:
    # alembic makes a table of SQLite anew with its constraints in whatever order.
    tables = ["\n".join(sorted(line.strip("\t, ") for line in table.splitlines())) for table in database.schema()]
    if not any("deliveries" in table for table in tables):
        return tables, {}
    # The same secrets are encrypted differently each time.
    return tables, by_key(without(rows(), "endpoints", "secrets"))


def migrating(family):
    return pytest.mark.parametrize("pair", [name for name in databases.FAMILIES if name == family], indirect=True)


@migrating("mariadb")
def test_half_a_migration_is_finished_before_anything_else_is_done(pair):
    (database, app), _ = pair
    with app.app_context():
        flask_migrate.upgrade(revision="0001")
        interrupter = Interrupter("fails")
        while not any("CREATE TABLE events" in statement for statement in interrupter.seen):
            with interrupter.active(database.family), pytest.raises((click.ClickException, db.exc.DBAPIError)):
                flask_migrate.upgrade(revision="0002")

        with pytest.raises(click.ClickException, match=r"upgrade of 0002 has stopped half way.*`flask db upgrade`"):
            flask_migrate.downgrade()
        assert app.test_client().get("/readyz").status_code == 503
        flask_migrate.upgrade()
        assert app.test_client().get("/readyz").status_code == 200
        with db.engine.connect() as connection:
            assert not connection.scalar(text("SHOW TABLES LIKE 'migration_journal'"))


@migrating("mariadb")
def test_half_a_downgrade_is_not_taken_for_this_version(pair):
    (database, app), _ = pair
    with app.app_context():
        flask_migrate.upgrade(revision="0003")
        interrupter = Interrupter("fails")
        while sum("DROP CONSTRAINT" in statement for statement in interrupter.seen) < 2:
            with interrupter.active(database.family), pytest.raises((click.ClickException, db.exc.DBAPIError)):
                flask_migrate.downgrade()

        with pytest.raises(
            click.ClickException, match=r"downgrade of \d+ has stopped half way.*`flask db downgrade -1`"
        ):
            flask_migrate.upgrade()
        answer = app.test_client().get("/readyz")
        assert (answer.status_code, "half way" in answer.json["detail"]) == (503, True)
        flask_migrate.downgrade()
        flask_migrate.upgrade()
        assert app.test_client().get("/readyz").status_code == 200

"""Several `flask db` at the same time: one after the other changes the database, and nobody gives up too early."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click
import flask_migrate
import pytest
from flask import Flask
from sqlalchemy import text

from app import create_app
from config import ROOT
from database import connection_settings, engine, migration_lock
from database.extension import db
from tests import databases
from tests.databases import Database
from tests.factories import SECRET, SECRETS_KEY, START, make_config
from tests.waiting import PATIENCE_SECONDS, wait_until

ANOTHER = {
    "sqlite": "Another program writes to this database.",
    "postgresql": "Another `flask db` changes this database.",
    "mariadb": "Another `flask db` changes this database.",
}
HOLD = {
    "sqlite": "BEGIN IMMEDIATE",
    "postgresql": "SELECT pg_advisory_lock(hashtext('kopeck migrations'))",
    "mariadb": "SELECT GET_LOCK(CONCAT('kopeck migrations ', LEFT(SHA2(DATABASE(), 256), 32)), 0)",
}
WAITERS = {
    "postgresql": "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'advisory' AND datname = current_database()",
    "mariadb": "SELECT 1 FROM information_schema.processlist WHERE state = 'User lock' AND db = DATABASE()",
}


@pytest.fixture(params=databases.FAMILIES)
def empty(request: pytest.FixtureRequest) -> Iterator[tuple[Database, Flask]]:
    database = Database(request.param)
    database.create()
    app = create_app(make_config(database.url), lambda: START)
    with app.app_context():
        db.engine.connect().close()  # SQLite's file is in WAL mode from now on, as whoever writes first leaves it
        yield database, app
        db.session.remove()
        db.engine.dispose()
    database.drop()


@contextmanager
def held(database: Database, *, until: threading.Event) -> Iterator[None]:
    """Hold the lock of another `flask db`, until an upgrade has said that it waits and is seen waiting."""
    is_held, is_over = threading.Event(), threading.Event()

    def hold() -> None:
        with database.connection() as connection:
            connection.execute(text(HOLD[database.family]))
            is_held.set()
            assert until.wait(PATIENCE_SECONDS)
            if database.family in WAITERS:
                wait_until(lambda: is_over.is_set() or connection.scalar(text(WAITERS[database.family])))

    holder = threading.Thread(target=hold)
    holder.start()
    assert is_held.wait(PATIENCE_SECONDS)
    try:
        yield
    finally:
        is_over.set()
        until.set()
        holder.join()


def shorten_other_waits(patch: pytest.MonkeyPatch) -> None:
    """Let all that waits for a lock of rows give up at once.

    Not on MariaDB: there a purge in the background holds a table that a migration changes, for a moment, and no setting
    of this kind ends a wait for GET_LOCK.
    """
    patch.setitem(connection_settings.POSTGRESQL, "lock_timeout", "'1ms'")
    patch.setattr(engine, "LOCK_SECONDS", 0)


def call_when_waiting(patch: pytest.MonkeyPatch, call: Callable[[], None]) -> list[str]:
    """Return what is said on stderr about waiting from now on; `call` is called each time."""
    said = []
    echo = click.echo

    def listen(message: object = None, **options: object) -> None:
        if options.get("err") and "Waiting" in str(message):
            said.append(str(message))
            call()
        echo(message, **options)

    patch.setattr(click, "echo", listen)
    return said


def test_an_upgrade_waits_for_another_one_as_long_as_that_takes(empty, monkeypatch):
    database, app = empty
    shorten_other_waits(monkeypatch)
    waiting = threading.Event()
    said = call_when_waiting(monkeypatch, waiting.set)

    with held(database, until=waiting):
        flask_migrate.upgrade()

    assert said == [f"{ANOTHER[database.family]} Waiting for it, 120 seconds at most."]
    assert app.test_client().get("/readyz").status_code == 200


def test_an_upgrade_gives_up_some_day_and_says_why(empty, monkeypatch):
    database, _ = empty
    monkeypatch.setattr(migration_lock, "MIGRATION_WAIT_SECONDS", 1)

    with database.connection() as connection:
        connection.execute(text(HOLD[database.family]))
        with pytest.raises(click.ClickException) as error:
            flask_migrate.upgrade()

    assert error.value.message == f"{ANOTHER[database.family]} Run this again when it has ended."
    assert database.schema() == []


def test_two_upgrades_at_once_are_one_upgrade(empty):
    database, app = empty
    environ = {
        "PATH": os.environ["PATH"],
        "DATABASE_URL": database.url.render_as_string(hide_password=False),
        "BANK_WEBHOOK_SECRETS": SECRET,
        "SECRETS_KEYS": SECRETS_KEY,
    }
    command = [sys.executable, "-m", "flask", "db", "upgrade"]

    runs = [
        subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(3)
    ]
    outputs = [run.communicate()[0] for run in runs]

    assert [run.returncode for run in runs] == [0, 0, 0], outputs
    assert "".join(outputs).count("Migration 0001 applied.") == 1
    assert app.test_client().get("/readyz").status_code == 200

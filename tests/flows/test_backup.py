"""Backups: a copy that is made while Kopeck serves holds all that was acknowledged before, and can be restored."""

import io
import os
import re
import shutil
import sqlite3
import stat
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import flask_migrate
import pytest
from flask import Flask
from sqlalchemy import URL, text

from app import create_app
from config import ROOT
from database.extension import db
from ledger import audit
from ledger.findings import Finding
from tests.callers import Bank
from tests.databases import FAMILIES, SERVERS, Database, only
from tests.factories import INN, make_config
from tests.outboxes import open_endpoint, pay
from tests.waiting import wait_until
from worker import jobs

BEFORE = 30
"""How many webhooks are acknowledged before a backup begins."""


class Acknowledged:
    """A bank that goes on sending, and notes what was acknowledged."""

    def __init__(self, app: Flask) -> None:
        self._app = app
        self._ended = threading.Event()
        self.operations: list[str] = []

    @contextmanager
    def sending(self) -> Iterator[None]:
        thread = threading.Thread(target=self._send)
        thread.start()
        try:
            wait_until(lambda: len(self.operations) >= BEFORE)
            yield
        finally:
            self._ended.set()
            thread.join()

    def _send(self) -> None:
        bank = Bank(self._app.test_client())
        while not self._ended.is_set():
            answer = bank.send()
            assert answer.json["status"] == "credited"
            self.operations.append(answer.json["operation_id"])


def check_restored(url: URL, acknowledged: list[str]) -> None:
    """Check that a restored database is a Kopeck's of this version, holds these operations, and is guarded."""
    app = create_app(make_config(url))
    with app.app_context():
        with redirect_stdout(io.StringIO()) as printed:
            flask_migrate.upgrade()
        assert "applied" not in printed.getvalue()
        assert [step for step in audit.verify() if isinstance(step, Finding)] == []
        found = {str(value) for value in db.session.scalars(text("SELECT operation_id FROM payments"))}
        assert {operation.replace("-", "") for operation in acknowledged} <= {value.replace("-", "") for value in found}
        db.session.rollback()
        for table in ("balance_log", "delivery_attempts"):
            with pytest.raises(db.exc.DBAPIError, match="append-only"), db.engine.begin() as connection:
                connection.execute(text(f"DELETE FROM {table}"))
        assert Bank(app.test_client()).send().json["status"] == "credited"
        db.session.remove()
        db.engine.dispose()


def leave_something_everywhere(app: Flask) -> None:
    with app.app_context():
        open_endpoint()
        pay(3)
        jobs.deliver_one(1)
        db.session.remove()


@only("sqlite")
class TestSqlite:
    @pytest.fixture
    def create(self, app):
        return lambda path: app.test_cli_runner().invoke(args=["backup", "create", str(path)])

    def test_copy_made_while_webhooks_come_in_holds_all_that_were_acknowledged_before(self, loopback_app, tmp_path):
        leave_something_everywhere(loopback_app)
        acknowledged = Acknowledged(loopback_app)
        path = tmp_path / "b?c%20#.db"
        with acknowledged.sending():
            before = list(acknowledged.operations)
            result = loopback_app.test_cli_runner().invoke(args=["backup", "create", str(path)])

        assert (result.exit_code, result.stdout.splitlines()[-1]) == (0, "Clean: every balance in it is explained.")
        assert list(tmp_path.iterdir()) == [path]
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        shutil.copy(path, tmp_path / "restored.db")
        check_restored(URL.create("sqlite", database=str(tmp_path / "restored.db")), before)

    def test_copy_of_the_file_alone_would_lack_what_was_acknowledged(self, bank, database, tmp_path):
        """Why there is a command for it at all."""
        with sqlite3.connect(database.url.database) as emptied:
            # Else the tests before may have filled the WAL so far that it goes into the file just now.
            emptied.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        emptied.close()
        for _ in range(20):
            bank.send()
        shutil.copy(database.url.database, tmp_path / "cp.db")

        with sqlite3.connect(tmp_path / "cp.db") as copied:
            assert copied.execute("SELECT count(*) FROM payments").fetchone()[0] < 20
        copied.close()

    def test_nothing_is_written_over(self, create, bank, tmp_path):
        (tmp_path / "mine").write_text("mine")

        result = create(tmp_path / "mine")

        assert result.exit_code == 1
        assert (tmp_path / "mine").read_text() == "mine"
        assert len(list(tmp_path.iterdir())) == 1

    def test_folder_that_is_not_there_is_said_in_one_line(self, create, bank, tmp_path):
        result = create(tmp_path / "no" / "backup.db")

        assert result.exit_code == 1
        assert result.output.startswith("Error: ")
        assert "Traceback" not in result.output

    def test_ledger_that_does_not_add_up_is_said_and_the_copy_kept(self, create, bank, database, tmp_path):
        bank.send()
        with database.unguarded() as connection:
            connection.execute(text("UPDATE organizations SET balance = balance + 1"))

        result = create(tmp_path / "backup.db")

        assert result.exit_code == 1
        assert f"organizations inn {INN}" in result.output
        assert (tmp_path / "backup.db").exists()

    def test_disk_that_fills_up_leaves_no_copy(self, context, database, tmp_path):
        pay(500)
        environ = {"PATH": os.environ["PATH"], "DATABASE_URL": str(database.url), "BANK_WEBHOOK_SECRETS": "x" * 32}
        command = f"ulimit -f 300; exec flask backup create {tmp_path}/backup.db"
        ended = subprocess.run(
            ["sh", "-c", command],
            cwd=ROOT,
            env={**environ, "SECRETS_KEYS": "y" * 32, "PATH": f"{ROOT}/.venv/bin:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=False,
        )

        assert ended.returncode == 1, ended.stderr
        assert "Traceback" not in ended.stderr
        assert list(tmp_path.iterdir()) == []


def test_damaged_database_leaves_no_copy(tmp_path):
    database = Database("sqlite")
    app = create_app(make_config(database.url))
    database.migrate(app)
    with app.app_context():
        pay(500)
        db.session.remove()
        db.engine.dispose()
    with Path(database.url.database).open("rb+") as file:
        file.seek(-20 * 4096, os.SEEK_END)
        file.write(os.urandom(10 * 4096))
    result = app.test_cli_runner().invoke(args=["backup", "create", str(tmp_path / "backup.db")])
    with app.app_context():
        db.engine.dispose()
    database.drop()

    assert result.exit_code == 1
    assert "SQLite says" in result.output
    assert "Traceback" not in result.output
    assert list(tmp_path.iterdir()) == []


class TestServers:
    @pytest.fixture(params=[family for family in FAMILIES if family != "sqlite"])
    def migrated(self, request, session_clock):
        database = Database(request.param)
        database.create()
        app = create_app(make_config(database.url, ENDPOINTS_ON_LOOPBACK="allow"), session_clock)
        database.migrate(app)
        yield database, app
        with app.app_context():
            db.engine.dispose()
        database.drop()

    def test_command_names_the_program_and_shows_no_password(self, migrated, tmp_path):
        database, _ = migrated
        url = database.url.set(password="not-to-be-shown", host="db.example")
        app = create_app(make_config(url))
        result = app.test_cli_runner().invoke(args=["backup", "create", str(tmp_path / "b")])

        assert result.exit_code == 1
        assert {"postgresql": "pg_dump --format=custom", "mariadb": "mariadb-dump --single-transaction"}[
            database.family
        ] in result.output
        assert "not-to-be-shown" not in result.output
        assert list(tmp_path.iterdir()) == []

    def test_lines_of_the_page_back_up_while_webhooks_come_in_and_restore(self, migrated, tmp_path):
        database, app = migrated
        program = {"postgresql": "pg_dump", "mariadb": "mariadb-dump"}[database.family]
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not here: no backup was made by it")
        leave_something_everywhere(app)
        restored = Database(database.family)
        restored.create()
        acknowledged = Acknowledged(app)
        with acknowledged.sending():
            before = list(acknowledged.operations)
            run_lines(database, restored, "backup", tmp_path)
        run_lines(database, restored, "restore", tmp_path)

        try:
            check_restored(restored.url, before)
            assert [stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()] == [0o600]
        finally:
            restored.drop()


def run_lines(database: Database, restored: Database, what: str, folder: Path) -> None:
    """Run the lines that docs/operations.md gives for a server, with its variables set for these two databases."""
    (lines,) = re.findall(
        rf"<!-- {database.family} {what} -->\n```sh\n(.*?)```", (ROOT / "docs" / "operations.md").read_text(), re.DOTALL
    )
    server = SERVERS[database.family]
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "DATABASE_URL": _plain(database.url),
        "RESTORED_URL": _plain(restored.url),
        "DB_HOST": server.host or "localhost",
        "DB_USER": server.username or "",
        "DB_NAME": database.name,
        "RESTORED_NAME": restored.name,
    }
    ended = subprocess.run(["sh", "-ec", lines], cwd=folder, env=environ, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def _plain(url: URL) -> str:
    return url.set(drivername=url.get_backend_name()).render_as_string(hide_password=False)

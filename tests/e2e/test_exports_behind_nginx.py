"""A statement through nginx with its defaults: the whole of it, or an answer that nobody can take for one."""

import csv
import io
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import flask_migrate
import pytest
from flask import Flask
from sqlalchemy import URL, text

from app import create_app
from auth import api_keys
from database.extension import db
from enums import ExportFormat
from tests import clusters
from tests.clusters import PostgresqlCluster
from tests.databases import Database
from tests.e2e.server import served
from tests.factories import INN, START, make_config
from tests.faults.proxy import Proxy
from tests.nginx import in_front
from tests.outboxes import pay

ROWS = 6000
FIRST_ROWS_BYTES = 600_000
"""More than PostgreSQL sends for the first thousand payments, and less than for two thousand."""

FORMATS = [form.value for form in ExportFormat]

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not here: no export was fetched by it")


@dataclass(frozen=True)
class Site:
    """nginx in front of a server with ROWS payments, and a key that may read them."""

    port: int
    key: str

    def fetch(self, form: str, path: Path) -> tuple[int, int]:
        """Have curl keep a statement; return its exit status and the status of the answer."""
        address = f"http://127.0.0.1:{self.port}/api/v1/organizations/{INN}/payments/?format={form}"
        key = f"Authorization: Bearer {self.key}"
        command = ["curl", "--silent", "--output", str(path), "--write-out", "%{http_code}", "--header", key, address]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        return ended.returncode, int(ended.stdout)


@contextmanager
def site(app: Flask, url: URL) -> Iterator[Site]:
    """Fill the database of an app, and serve it at this address of it."""
    with app.app_context():
        pay(ROWS)
        key = api_keys.create(name="accountant", scopes=["organizations:read"], now=START)
        db.session.remove()
        db.engine.dispose()
    settings = {"DATABASE_URL": url.render_as_string(hide_password=False), "KOPECK_ENV": "production"}
    with (
        served(environ=settings, crashes=True) as behind,
        in_front(f"location / {{ proxy_pass http://127.0.0.1:{behind}; }}") as port,
    ):
        yield Site(port, key)


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    database = Database("sqlite")
    yield database
    database.drop()


@pytest.fixture(scope="module")
def well(database: Database) -> Iterator[Site]:
    app = create_app(make_config(database.url))
    database.migrate(app)
    with site(app, database.url) as found:
        yield found


def test_whole_statement_comes_through(well, tmp_path):
    assert well.fetch("csv", tmp_path / "file") == (0, 200)

    rows = list(csv.DictReader(io.StringIO((tmp_path / "file").read_text(), newline="")))
    assert len({row["payment_id"] for row in rows}) == len(rows) == ROWS


@pytest.mark.parametrize("form", FORMATS)
def test_exception_behind_the_first_thousand_rows_is_an_answer_of_its_own(well, database, tmp_path, form):
    of_nth = f"WHERE id = (SELECT id FROM payments ORDER BY id LIMIT 1 OFFSET {ROWS - 1500})"
    with database.unguarded() as connection:
        before = connection.execute(text(f"SELECT received_at FROM payments {of_nth}")).scalar_one()
        connection.execute(text(f"UPDATE payments SET received_at = 'rubbish' {of_nth}"))
    try:
        assert well.fetch(form, tmp_path / "file") == (0, 500)
    finally:
        with database.unguarded() as connection:
            connection.execute(text("UPDATE payments SET received_at = :before"), {"before": before})

    assert b'"status": 500' in (tmp_path / "file").read_bytes()


@pytest.mark.skipif(
    "postgresql" not in clusters.available(), reason="no PostgreSQL can be started: none went during an export"
)
def test_database_that_goes_behind_the_first_thousand_rows_is_an_answer_of_its_own(tmp_path):
    with PostgresqlCluster() as cluster, Proxy(cluster.port) as way:
        app = create_app(make_config(cluster.url))
        with app.app_context():
            flask_migrate.upgrade()
        with site(app, cluster.url.set(port=way.port)) as found:
            assert found.fetch("csv", tmp_path / "whole") == (0, 200)
            for form in FORMATS:
                before = way.sent_back
                way.bar_after = before + FIRST_ROWS_BYTES
                assert found.fetch(form, tmp_path / form) == (0, 503)
                assert way.sent_back - before > FIRST_ROWS_BYTES
                way.open()

    assert (tmp_path / "csv").stat().st_size < (tmp_path / "whole").stat().st_size / 1000

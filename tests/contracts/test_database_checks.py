"""What no connection can ask for is looked at by the upgrade, by /readyz and at each start, and said in a sentence."""

import logging
import re
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import click
import flask_migrate
import pytest
from sqlalchemy import create_engine, text

import api.health
from app import create_app
from context import wall_clock
from database import checks, connection_settings, revisions
from database.extension import db
from limits import CLOCK_DIFFERENCE_SECONDS_MAX
from tests import clusters, databases
from tests.clusters import MariadbCluster, PostgresqlCluster
from tests.databases import Database, only
from tests.factories import START, make_config
from worker import jobs

SERVER_SETTINGS = {
    "postgresql": [
        ({"fsync": "off"}, "fsync of PostgreSQL is off: "),
        ({"full_page_writes": "off"}, "full_page_writes of PostgreSQL is off: "),
        ({"session_replication_role": "replica"}, "session_replication_role is replica: "),
    ],
    "mariadb": [
        ({"innodb_flush_log_at_trx_commit": "0"}, "innodb_flush_log_at_trx_commit of MariaDB is 0: "),
        ({"innodb_flush_log_at_trx_commit": "2"}, "innodb_flush_log_at_trx_commit of MariaDB is 2: "),
        ({"innodb_doublewrite": "0"}, "innodb_doublewrite of MariaDB is off: "),
    ],
}
CASES = [(family, *case) for family in clusters.available() for case in SERVER_SETTINGS[family]]


def cluster_of(family):
    return PostgresqlCluster() if family == "postgresql" else MariadbCluster()


@pytest.fixture
def make():
    made = []

    def make(url):
        made.append(create_app(make_config(url), lambda: START))
        return made[-1]

    yield make
    for app in made:
        with app.app_context():
            db.engine.dispose()


@pytest.mark.parametrize(("family", "settings", "sentence"), CASES, ids=[str(case[1]) for case in CASES])
def test_server_that_may_lose_what_it_has_acknowledged_is_not_ready(make, caplog, capsys, family, settings, sentence):
    with cluster_of(family) as cluster:
        app = make(cluster.url)
        with app.app_context():
            flask_migrate.upgrade(revision="0008")
            assert "Warning" not in capsys.readouterr().err
            db.engine.dispose()
        cluster.stop()
        restart(cluster, settings)
        with app.app_context():
            answer = app.test_client().get("/readyz")
            with caplog.at_level(logging.WARNING):
                jobs.look_at_start()
            upgraded = upgrade()

    assert answer.status_code == 503
    assert answer.json["detail"].startswith(sentence)
    assert sentence in caplog.text
    assert revisions.MISSING in caplog.text
    assert sentence in upgraded + capsys.readouterr().err


def restart(cluster, settings):
    if isinstance(cluster, PostgresqlCluster):
        lines = "".join(f"{name} = '{value}'\n" for name, value in settings.items())
        with (cluster.data / "postgresql.conf").open("a") as file:
            file.write(lines)
    else:
        cluster.settings |= settings
    cluster.start()


def upgrade():
    """Upgrade, and return why not."""
    try:
        flask_migrate.upgrade()
    except click.ClickException as error:
        return error.message
    return ""


@pytest.mark.skipif("postgresql" not in databases.SERVERS, reason="no PostgreSQL here")
@pytest.mark.parametrize("encoding", ["LATIN1", "WIN1251", "SQL_ASCII", "KOI8R"])
def test_database_in_another_encoding_gets_no_tables_and_is_not_ready(make, encoding):
    database = Database("postgresql")
    server = create_engine(databases.SERVERS["postgresql"], isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        options = f"ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
        connection.execute(text(f"CREATE DATABASE {database.name} {options}"))
    app = make(database.url)
    try:
        with app.app_context():
            with pytest.raises(click.ClickException, match=f"encoding is {encoding}, .*UTF8") as refused:
                flask_migrate.upgrade()
            assert "Nothing was changed" in refused.value.message
            tables = db.session.execute(text("SELECT relname FROM pg_class WHERE relkind = 'r'")).scalars().all()
            db.session.remove()
        answer = app.test_client().get("/readyz")
    finally:
        with app.app_context():
            db.engine.dispose()
        database.drop()
        server.dispose()

    assert {"payments", "alembic_version"}.isdisjoint(tables)
    assert answer.status_code == 503
    assert answer.json["detail"].startswith(f"The database's encoding is {encoding}, ")


@only("postgresql", "mariadb")
def test_database_that_only_reads_is_not_ready(client, monkeypatch, database):
    setting = {
        "postgresql": ("POSTGRESQL", "default_transaction_read_only", "'on'"),
        "mariadb": ("MARIADB", "tx_read_only", "1"),
    }[database.family]
    monkeypatch.setitem(getattr(connection_settings, setting[0]), *setting[1:])
    app = create_app(make_config(database.url))
    answer = app.test_client().get("/readyz")
    with app.app_context():
        db.engine.dispose()

    assert answer.status_code == 503
    assert answer.json["detail"].startswith("The database only reads: ")


@pytest.mark.parametrize(
    ("server", "transaction", "found"),
    [
        (0, 0, []),
        ("OFF", "OFF", []),
        (1, 0, [checks.ONLY_READS]),
        (0, 1, [checks.ONLY_READS]),
        ("ON", 0, [checks.ONLY_READS]),
        ("NO_LOCK_NO_ADMIN", "OFF", [checks.ONLY_READS]),
    ],
)
def test_words_for_a_mariadb_that_only_reads_are_understood(server, transaction, found):
    """Those of versions that are not here: numbers in the older, words in the newer."""
    settings = {"flushed": 1, "whole_pages": 1, "has_binary_log": 0, "binary_log_synced": 0}
    row = SimpleNamespace(**settings, server_only_reads=server, only_reads=transaction)

    assert checks._look_at_mariadb(row).all() == found


def test_mysql_is_asked_for_no_setting_that_it_has_no_more():
    """Read as MySQL 8 does, which is not here: it executes what is behind its version, and skips what is MariaDB's."""
    read = re.sub(r"/\*!\d{5}(.*?)\*/", r"\1", re.sub(r"/\*M!.*?\*/", "", checks.MARIADB))

    assert "@@tx_read_only" not in read
    assert "@@transaction_read_only  AS only_reads" in read


@pytest.mark.skipif("mariadb" not in clusters.available(), reason="no MariaDB can be started here")
def test_binary_log_that_is_not_synced_is_a_warning(make, capsys):
    with MariadbCluster(log_bin="binlog", sync_binlog="0") as cluster:
        app = make(cluster.url)
        with app.app_context():
            flask_migrate.upgrade()
        answer = app.test_client().get("/readyz")

    (warning,) = answer.json["warnings"]
    assert answer.status_code == 200
    assert warning.startswith("sync_binlog of MariaDB is 0")
    assert warning in capsys.readouterr().err


@pytest.mark.parametrize(("seconds", "direction"), [(-3600, "ahead of"), (3600, "behind")])
def test_clock_that_differs_from_the_databases_is_a_warning(database, client, monkeypatch, seconds, direction):
    """Ours is moved, since a server's cannot be."""
    monkeypatch.setattr(api.health, "wall_clock", lambda: wall_clock() + timedelta(seconds=seconds))

    answer = client.get("/readyz")

    assert answer.status_code == 200
    if database.family == "sqlite":
        assert answer.json == {"status": "ok"}
        return
    (warning,) = answer.json["warnings"]
    assert re.match(f"The database's clock is 3(600|599) seconds {direction} this machine's. Synch", warning)


@only("postgresql")
def test_clock_is_compared_with_both_ends_of_the_question(context):
    """A slow answer is no difference of clocks."""
    now = datetime.now(UTC)
    late = iter([now - timedelta(seconds=60), now + timedelta(seconds=60)])
    with db.engine.connect() as connection:
        assert checks.look(connection, clock=lambda: next(late)).warnings == []

    border = timedelta(seconds=CLOCK_DIFFERENCE_SECONDS_MAX)
    assert checks._clock_warnings(now, now + border, now + border) == []
    assert checks._clock_warnings(now, now + 2 * border, now + 2 * border) != []


@only("sqlite")
def test_sqlite_that_cannot_keep_a_wal_is_a_warning(context):
    connection = SimpleNamespace(
        dialect=SimpleNamespace(name="sqlite"),
        exec_driver_sql=lambda _: SimpleNamespace(scalar_one=lambda: "delete"),
    )
    (warning,) = checks.look(connection, clock=wall_clock).warnings

    assert warning.startswith("SQLite's journal_mode is delete")

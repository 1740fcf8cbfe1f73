"""A downgrade that would lose rows stops before its first statement and says which, unless it is told otherwise."""

import pytest
from sqlalchemy import insert, inspect, text

from app import create_app
from database.extension import db
from models import ApiKey
from tests import databases
from tests.callers import Bank
from tests.contracts.test_upgrade import OLDER, fill
from tests.databases import TABLES, Database
from tests.factories import START, make_config


@pytest.fixture(params=databases.FAMILIES)
def made(request):
    """A database with the tables of this version, and how to make an app on it."""
    database = Database(request.param)
    database.create()
    apps = []

    def make(**settings):
        apps.append(create_app(make_config(database.url, **settings), lambda: START))
        return apps[-1]

    yield database, make
    for app in apps:
        with app.app_context():
            db.session.remove()
            db.engine.dispose()
    database.drop()


def downgrade(app, *arguments):
    return app.test_cli_runner().invoke(args=["db", "downgrade", *arguments])


def test_webhooks_in_the_inbox_stop_a_downgrade_past_the_inbox(made):
    database, make = made
    app = make(BALANCE_UPDATES="queued")
    database.migrate(app)
    bank = Bank(app.test_client())
    assert [bank.send().status_code for _ in range(5)] == [200] * 5
    before = database.rows()

    for revision in ("0001", "base"):
        result = downgrade(app, revision)
        assert result.exit_code == 1
        assert "inbox: 5 rows" in result.output
        assert f"flask db downgrade -x lose-rows=yes {revision}" in result.output
    assert database.rows() == before

    assert downgrade(app, "-x", "lose-rows=yes", "0001").exit_code == 0
    with app.app_context():
        assert not inspect(db.engine).has_table("inbox")
    database.migrate(app)
    assert database.count("inbox") == 0


def test_a_downgrade_that_loses_nothing_goes_through_with_rows_in_every_table(made):
    database, make = made
    app = make()
    database.migrate(app, OLDER)
    with app.app_context():
        fill()
    database.migrate(app, "0003")

    assert downgrade(app, OLDER).exit_code == 0
    database.migrate(app)


@pytest.mark.parametrize("environment", ["development", "production"])
def test_every_table_with_rows_is_named_before_anything_is_dropped(made, environment):
    database, make = made
    app = make(KOPECK_ENV=environment)
    database.migrate(app, OLDER)
    with app.app_context():
        fill()
    database.migrate(app)
    before = database.rows()

    result = downgrade(app, "base")

    assert result.exit_code == 1
    # One resolution of an incident is in the incident, too, and the account of a bank is known by its payments.
    lost = [table for table in TABLES if before[table] and table not in ("incident_resolutions", "accounts")]
    assert len(lost) >= 11
    assert all(f"{table}: {len(before[table])} row" in result.output for table in lost)
    assert database.rows() == before
    assert downgrade(app, "-x", "lose-rows=no", "base").exit_code == 1
    assert "must be yes or no" in downgrade(app, "-x", "lose-rows=true", "base").output
    assert database.rows() == before
    assert downgrade(app, "-x", "lose-rows=yes", "base").exit_code == 0
    with app.app_context():
        assert set(inspect(db.engine).get_table_names()) <= {"alembic_version"}


def test_one_row_in_the_oldest_table_stops_the_whole_way_down(made):
    """On MariaDB the newer tables would be gone before the older ones were looked at."""
    database, make = made
    app = make()
    database.migrate(app)
    with app.app_context(), db.engine.begin() as connection:
        connection.execute(
            insert(ApiKey).values(id=1, name="key", key_sha256="0" * 64, scopes="organizations:read", created_at=START)
        )

    result = downgrade(app, "base")

    assert (result.exit_code, "api_keys: 1 row\n" in result.output) == (1, True)
    assert {table: database.count(table) for table in TABLES} == {**dict.fromkeys(TABLES, 0), "api_keys": 1}


def test_an_empty_database_goes_down_without_a_question(made):
    database, make = made
    app = make()
    database.migrate(app)

    assert downgrade(app, "base").exit_code == 0


@pytest.mark.parametrize("made", [name for name in databases.FAMILIES if name == "postgresql"], indirect=True)
def test_no_row_comes_between_the_count_and_the_drop(made):
    """What is counted is locked: a webhook that is being stored meanwhile is waited for, and counted."""
    database, make = made
    app = make(BALANCE_UPDATES="queued")
    database.migrate(app)
    with app.app_context(), db.engine.connect() as other:
        other.execute(text("INSERT INTO inbox SELECT 1, 'plain', '', '', '', now(), 0, now() WHERE false"))
        result = downgrade(app, "0001")
        other.rollback()

    assert result.exit_code == 1
    assert "lock timeout" in result.output

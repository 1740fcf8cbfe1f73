"""Older tables with rows in every state: up, down and up again, nothing is lost and only words change."""

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from uuid import UUID

import click
import flask_migrate
import pytest
from flask import Flask
from sqlalchemy import column, insert, inspect, table, text

from app import create_app
from context import cipher
from database.columns import UtcDateTime
from database.extension import db
from encryption import BOUND, SecretCipher
from enums import AttemptCause, DeliveryStatus, DisabledReason
from ledger import audit
from ledger.findings import Finding
from models import Delivery, Endpoint, IncidentResolution
from outbox import stored_secrets
from signing import new_secret
from tests import databases
from tests.databases import Database
from tests.factories import OLD_SECRET, SECRETS_KEY, START, make_config
from worker import jobs

OLDER = "0002"
SNAPSHOT = json.loads((Path(__file__).parent / "snapshots" / f"{OLDER}.json").read_text())
"""Every row of a database that the code of that revision filled itself."""

RENAMED = {"inbox": {"tries": "attempt_count"}, "deliveries": {"tries": "attempt_count"}}
WORDS = {
    ("deliveries", "status", "parked"): "paused",
    ("deliveries", "cause", "person"): "manual",
    ("delivery_attempts", "cause", "person"): "manual",
    ("endpoints", "disabled_because", "person"): "manual",
}
NEW_COLUMNS = (
    ("deliveries", "claimed_at"),
    ("inbox", "message_id"),
    ("inbox", "unknown_inn"),
    ("payments", "forward_id"),
    ("api_keys", "organization_id"),
    ("organizations", "overdraft_limit"),
    ("organizations", "outside_debits"),
    ("organizations", "head_sha256"),
    ("balance_log", "debit_id"),
    ("balance_log", "counter_account"),
    ("balance_log", "overdraft_limit"),
    ("balance_log", "row_sha256"),
)
Rows = dict[str, list[dict[str, object]]]


@pytest.fixture(params=databases.FAMILIES)
def database(request: pytest.FixtureRequest) -> Database:
    return Database(request.param)


@pytest.fixture
def older(database: Database) -> Iterator[Flask]:
    """An app whose database has the older tables, full of rows."""
    database.create()
    app = create_app(make_config(database.url), lambda: START)
    database.migrate(app, OLDER)
    with app.app_context():
        fill()
        yield app
        db.session.remove()
        db.engine.dispose()
    database.drop()


def fill() -> None:
    """Insert the snapshot, each value with the type that its column has in the models, if it is there still."""
    with db.engine.begin() as connection:
        for name, found in SNAPSHOT.items():
            kinds = {column.name: column.type for column in db.metadata.tables[name].c}
            older = table(name, *(column(of, kinds.get(of)) for of in found[0]))
            values = [{of: _value(value, kinds.get(of)) for of, value in row.items()} for row in found]
            if name == "endpoints":
                values = [row | {"secrets": row["secrets"] and older_secrets()} for row in values]
            connection.execute(insert(older), values)
            if connection.dialect.name == "postgresql" and isinstance(found[0].get("id"), int):
                connection.execute(text(f"SELECT setval('{name}_id_seq', (SELECT max(id) FROM {name}))"))


def older_secrets() -> str:
    """Return what an endpoint of that revision is signed with, by the key of this test."""
    key = {"secret": new_secret(), "private_key": None, "until": None}
    return SecretCipher([SECRETS_KEY]).encrypt_unbound(json.dumps([key]))


def _value(value: object, kind: object) -> object:
    """Return a value of the snapshot as its column takes it."""
    if not isinstance(value, str) or kind is None:
        return value
    if isinstance(kind, UtcDateTime):
        return datetime.fromisoformat(value)
    return {bytes: bytes.fromhex, UUID: UUID}.get(kind.python_type, str)(value)


def rows() -> Rows:
    """Return every row as its database gives it, without a model in between."""
    with db.engine.connect() as connection:
        return {
            name: sorted((dict(row._mapping) for row in connection.execute(text(f"SELECT * FROM {name}"))), key=repr)
            for name in SNAPSHOT
        }


def in_new_words(before: Rows) -> Rows:
    """Return what the older rows must have become."""
    return {
        name: [
            {RENAMED.get(name, {}).get(of, of): WORDS.get((name, of, str(value)), value) for of, value in row.items()}
            for row in found
        ]
        for name, found in before.items()
    }


def by_key(found: Rows) -> dict[str, list[str]]:
    """Order rows the same way whatever the order of their columns is."""
    return {name: sorted(repr(sorted(row.items(), key=str)) for row in rows) for name, rows in found.items()}


def read(found: Rows) -> Rows:
    """Return rows with what endpoints are signed with as it reads, which is encrypted differently each time."""
    with_plain = [{**row, "secrets": _plain(row) if row["secrets"] else ""} for row in found["endpoints"]]
    return {**found, "endpoints": with_plain}


def _plain(row: dict[str, object]) -> str:
    secrets = str(row["secrets"])
    if secrets.startswith(BOUND):
        return cipher().decrypt(secrets, bound_to=f"endpoints.secrets/{row['id']}")
    return cipher().decrypt_unbound(secrets)


def without(found: Rows, name: str, gone: str) -> Rows:
    return {**found, name: [{of: row[of] for of in row if of != gone} for row in found[name]]}


def test_snapshot_holds_every_state():
    deliveries, attempts = SNAPSHOT["deliveries"], SNAPSHOT["delivery_attempts"]

    assert {row["status"] for row in deliveries} == {"pending", "delivered", "exhausted", "parked"}
    assert (
        {row["cause"] for row in deliveries} == {row["cause"] for row in attempts} == {"schedule", "person", "replay"}
    )
    assert {row["lease"] is None for row in deliveries} == {True, False}
    assert {row["disabled_because"] for row in SNAPSHOT["endpoints"]} == {None, "person", "failing", "gone", "deleted"}
    assert {row["finished_at"] is None for row in SNAPSHOT["replays"]} == {True, False}
    assert {row["resolved_at"] is None for row in SNAPSHOT["incidents"]} == {True, False}
    assert {row["tries"] for row in SNAPSHOT["inbox"]} == {0, 4}


def test_up_down_and_up_again_changes_words_and_nothing_else(older):
    before = rows()
    flask_migrate.upgrade()
    after = rows()
    flask_migrate.downgrade(revision=OLDER)
    back = rows()
    flask_migrate.upgrade()

    assert by_key(read(back)) == by_key(read(before))
    assert by_key(read(rows())) == by_key(read(after))
    known = after
    for name, added in NEW_COLUMNS:
        known = without(known, name, added)
    assert by_key(read(known)) == by_key(in_new_words(read(before)))


def test_resolutions_that_are_known_are_the_first_of_each_incident(older):
    resolved = [row for row in SNAPSHOT["incidents"] if row["resolved_by"]]
    flask_migrate.upgrade()

    found = db.session.execute(db.select(*IncidentResolution.__table__.c)).all()

    assert resolved
    assert [(row.incident_id, row.number, row.resolved_by, row.resolution) for row in found] == [
        (row["id"], 1, row["resolved_by"], row["resolution"]) for row in resolved
    ]


def test_key_of_one_organisation_is_revoked_when_the_older_version_would_let_it_see_all(older):
    flask_migrate.upgrade()
    with db.engine.begin() as connection:
        connection.execute(
            text("UPDATE api_keys SET revoked_at = NULL, organization_id = (SELECT min(id) FROM organizations)")
        )
    assert all(row["revoked_at"] is None for row in rows()["api_keys"])

    flask_migrate.downgrade(revision="0007", x_arg="lose-rows=yes")

    assert rows()["api_keys"]
    assert all(row["revoked_at"] is not None for row in rows()["api_keys"])


def test_leases_know_when_they_began(older):
    flask_migrate.upgrade()
    began = {row["id"]: datetime.fromisoformat(row["due_at"]) for row in SNAPSHOT["deliveries"] if row["lease"]}

    found = db.session.execute(db.select(Delivery.id, Delivery.claimed_at, Delivery.due_at)).all()

    assert {row.id for row in found if row.claimed_at is not None} == set(began)
    assert all((row.due_at - row.claimed_at).total_seconds() == 60 for row in found if row.claimed_at is not None)


def test_new_tables_hold_the_new_words_only_and_attempts_stay_append_only(older):
    flask_migrate.upgrade()
    triggers = [
        *("UPDATE delivery_attempts SET number = 9", "DELETE FROM delivery_attempts"),
        *("UPDATE balance_log SET created_at = created_at", "DELETE FROM balance_log"),
    ]
    words = ["UPDATE deliveries SET status = 'parked'", "UPDATE deliveries SET cause = 'person'"]
    reasons = ["UPDATE endpoints SET disabled_because = 'person'", "UPDATE endpoints SET scheme = 'other'"]
    reasons.append("UPDATE incidents SET kind = 'other'")

    for statement in (*triggers, *words, *reasons):
        with pytest.raises(db.exc.DBAPIError), db.engine.begin() as connection:
            connection.execute(text(statement))
    assert {row["name"] for row in inspect(db.engine).get_columns("inbox")} >= {"attempt_count"}


def stored() -> dict[object, object]:
    return {row["id"]: row["secrets"] for row in rows()["endpoints"] if row["secrets"]}


def test_secrets_are_bound_to_their_rows(older):
    before = stored()
    flask_migrate.upgrade()

    assert stored().keys() == before.keys() == {1, 2, 3, 4, 6}
    assert all(str(secrets).startswith(BOUND) for secrets in stored().values())
    assert stored_secrets.unreadable(cipher()) == ()


def test_secrets_that_cannot_be_read_stay_and_are_named_and_can_be_bound_later(older, capsys):
    lost = SecretCipher([OLD_SECRET]).encrypt_unbound('[{"secret": "0123", "private_key": null, "until": null}]')
    with db.engine.begin() as connection:
        connection.execute(db.update(Endpoint).where(Endpoint.id.in_([1, 6])).values(secrets=lost))

    flask_migrate.upgrade()
    unread, changed = capsys.readouterr().out, stored()
    flask_migrate.downgrade(revision=OLDER)
    flask_migrate.upgrade()

    assert "cannot be read with SECRETS_KEYS: 1, 6. Their deliveries wait." in unread
    assert changed[1] == changed[6] == stored()[1] == lost
    assert stored_secrets.unreadable(cipher()) == (1, 6)
    with_both = SecretCipher([SECRETS_KEY, OLD_SECRET])
    assert stored_secrets.reencrypt(with_both) == (3, (1, 6))
    assert stored_secrets.reencrypt(with_both, unbound=[1, 6]) == (5, ())
    assert stored_secrets.unreadable(cipher()) == ()


def test_new_kind_of_incident_is_known_above_only(older):
    insert_one = text(
        "INSERT INTO incidents (fingerprint, kind, source, facts, body, body_sha256, key_id, seen_count, created_at, "
        "last_seen_at) SELECT 'x', 'unreadable_keys', source, facts, body, body_sha256, key_id, 1, created_at, "
        "last_seen_at FROM incidents LIMIT 1"
    )
    flask_migrate.upgrade(revision="0004")
    before = rows()["incidents"]
    with pytest.raises(db.exc.DBAPIError), db.engine.begin() as connection:
        connection.execute(insert_one)
    flask_migrate.upgrade()
    with db.engine.begin() as connection:
        connection.execute(insert_one)
    assert len(rows()["incidents"]) == len(before) + 1

    with pytest.raises(click.ClickException, match="incidents: 1 row\n"):
        flask_migrate.downgrade(revision="0004")
    flask_migrate.downgrade(revision="0004", x_arg="lose-rows=yes")

    assert rows()["incidents"] == before


def test_this_version_goes_on_where_the_older_one_stopped(older):
    flask_migrate.upgrade()

    jobs.credit()
    jobs.replay()
    jobs.deliver(0)

    assert [step for step in audit.verify() if isinstance(step, Finding)] == []
    assert db.session.scalars(db.select(Delivery.status).distinct()).all()
    assert set(db.session.scalars(db.select(Delivery.status))) <= set(DeliveryStatus)
    assert set(db.session.scalars(db.select(Delivery.cause))) <= set(AttemptCause)
    assert set(db.session.scalars(db.select(Endpoint.disabled_because))) <= {None, *DisabledReason}


def shape(database: Database) -> list[str]:
    """Return what the tables are made of, without what MariaDB notes of a migration that is to be finished."""
    return [part for part in database.schema() if "migration_journal" not in part]


@pytest.mark.parametrize("gone", ["payments", "organizations"])
def test_rows_of_the_log_that_name_nothing_end_the_upgrade_before_anything_is_changed(older, database, gone):
    flask_migrate.upgrade(revision="0009")
    before = shape(database)
    with database.unguarded() as connection:
        lost = connection.execute(text(f"SELECT * FROM {gone} LIMIT 1")).one()._mapping
        connection.execute(text(f"DELETE FROM {gone} WHERE id = :id"), {"id": lost["id"]})

    with pytest.raises(click.ClickException, match="name a payment or an organisation that is not there: "):
        flask_migrate.upgrade()

    assert shape(database) == before
    with database.unguarded() as connection:
        connection.execute(insert(table(gone, *map(column, lost))).values(lost))
    flask_migrate.upgrade()
    assert [step for step in audit.verify() if isinstance(step, Finding)] == []


@pytest.mark.parametrize("database", [name for name in databases.FAMILIES if name == "mariadb"], indirect=True)
def test_upgrade_that_failed_half_way_keeps_attempts_closed_and_can_be_run_again(older):
    """MariaDB commits each change of a table by itself."""
    with db.engine.connect() as other:
        other.execute(text("SELECT * FROM delivery_attempts FOR UPDATE"))
        with pytest.raises(Exception, match="Lock wait timeout"):
            flask_migrate.upgrade()
        other.rollback()
    with pytest.raises(db.exc.DBAPIError, match="append-only"), db.engine.begin() as connection:
        connection.execute(text("UPDATE delivery_attempts SET number = 9"))

    flask_migrate.upgrade()
    again = rows()
    flask_migrate.downgrade(revision=OLDER)
    flask_migrate.upgrade()

    assert by_key(read(again)) == by_key(read(rows()))
    assert {row["status"] for row in again["deliveries"]} == {"pending", "delivered", "exhausted", "paused"}

"""Payments, log and inbox of the version before: two sources may share an id from now on, and nothing is lost."""

import hashlib
import uuid
from collections.abc import Iterator
from typing import Any

import click
import flask_migrate
import pytest
from flask import Flask
from sqlalchemy import Table, column, insert, table, text

from app import create_app
from database.columns import new_id
from database.extension import db
from enums import UnknownInn
from ledger import audit
from ledger.findings import Finding
from models import BalanceLog, Inbox, Organization, Payment
from tests import databases, sources
from tests.databases import Database
from tests.factories import INN, START, make_body, make_config
from tests.sources import SECOND_SETTINGS
from worker import jobs

OLDER = "0006"
NEW = {
    "payments": {"forward_id"},
    "inbox": {"unknown_inn"},
    "organizations": {"overdraft_limit", "outside_debits", "head_sha256"},
    "balance_log": {"debit_id", "counter_account", "overdraft_limit", "row_sha256"},
}
PLAIN, OTHER = uuid.UUID(int=1), uuid.UUID(int=2)


@pytest.fixture(params=databases.FAMILIES)
def older(request: pytest.FixtureRequest) -> Iterator[Flask]:
    """An app with UNKNOWN_INN=hold whose database has the older tables: two payments, one of each bank, and a queue."""
    database = Database(request.param)
    database.create()
    with sources.registered():
        app = create_app(make_config(database.url, UNKNOWN_INN="hold", **SECOND_SETTINGS), lambda: START)
        database.migrate(app, OLDER)
        with app.app_context():
            fill()
            yield app
            db.session.remove()
            db.engine.dispose()
    database.drop()


def fill() -> None:
    add(Organization, inn=INN, name="", balance=2, currency="RUB", version=2, created_at=START)
    add_payment(PLAIN, "plain", version=1)
    add_payment(OTHER, "second", version=2)
    queued = {"content_type": "application/json", "key_id": "k", "attempt_count": 0}
    add(Inbox, source="plain", body=make_body(amount=5), received_at=START, due_at=START, **queued)
    add(Inbox, source="plain", body=make_body(payer_inn="7707083893"), received_at=START, due_at=START, **queued)


def add_payment(operation_id: uuid.UUID, source: str, *, version: int) -> None:
    facts = {"amount": 1, "payer_inn": INN, "document_number": "PAY-328", "document_date": START}
    said = {**facts, "operation_id": str(operation_id), "document_date": START.isoformat()}
    body, id_ = make_body(**said), new_id(START)
    stored = {"body": body, "body_sha256": hashlib.sha256(body).hexdigest(), "key_id": "k"}
    owner = {"organization_id": 1, "currency": "RUB", "received_at": START}
    add(Payment, id=id_, operation_id=operation_id, source=source, **facts, **stored, **owner)
    balances = {"delta": 1, "balance_before": version - 1, "balance_after": version, "reason": "credit"}
    add(BalanceLog, organization_id=1, version=version, payment_id=id_, created_at=START, **balances)


def add(model: Any, **values: object) -> None:
    """Insert a row with the columns that are named alone, whatever the models have besides."""
    of: Table = model.__table__
    with db.engine.begin() as connection:
        connection.execute(insert(table(of.name, *(column(name, of.c[name].type) for name in values))), values)


def rows(name: str) -> list[dict[str, object]]:
    with db.engine.connect() as connection:
        found = [dict(row._mapping) for row in connection.execute(text(f"SELECT * FROM {name}"))]
    return sorted(found, key=lambda row: repr(row["id"] if "id" in row else row["version"]))


def known(name: str) -> list[dict[str, object]]:
    """Return what the older tables had."""
    return [{of: row[of] for of in row if of not in NEW.get(name, ())} for row in rows(name)]


def refused(statement: str) -> bool:
    try:
        with db.engine.begin() as connection:
            connection.execute(text(statement))
    except db.exc.DBAPIError:
        return True
    return False


def findings() -> list[Finding]:
    return [step for step in audit.verify() if isinstance(step, Finding)]


TABLES = ("organizations", "payments", "balance_log", "inbox")


def test_nothing_is_lost_up_down_and_up_again(older):
    before = {name: known(name) for name in TABLES}
    flask_migrate.upgrade()
    after = {name: known(name) for name in TABLES}
    with db.engine.begin() as connection:
        connection.execute(text("DELETE FROM inbox"))
    flask_migrate.downgrade(revision=OLDER)
    back = {name: rows(name) for name in TABLES}
    flask_migrate.upgrade()

    assert after == before
    assert back == {**before, "inbox": []}
    assert {name: known(name) for name in TABLES} == back
    assert findings() == []


def test_keys_triggers_and_constraints_stand(older):
    flask_migrate.upgrade()

    assert findings() == []
    names = "source, organization_id, payer_inn, amount, currency, document_number, document_date, body, body_sha256"
    rest = f"operation_id, {names}, key_id, received_at"
    id_ = "'0190f8a0000070008000000000000002'"
    assert refused(f"INSERT INTO payments (id, {rest}) SELECT {id_}, {rest} FROM payments WHERE source = 'plain'")
    assert refused("DELETE FROM payments")
    assert refused("UPDATE balance_log SET created_at = created_at")
    assert refused("DELETE FROM balance_log")
    assert refused("UPDATE inbox SET unknown_inn = 'other'")
    assert refused("UPDATE inbox SET unknown_inn = NULL")


def test_other_banks_payments_keep_the_id_under_which_they_were_handed_on(older):
    flask_migrate.upgrade()

    found = {row.operation_id: row.forward_id for row in db.session.execute(db.select(Payment.__table__))}
    assert found == {PLAIN: None, OTHER: OTHER}


def test_what_waits_is_credited_by_the_settings_that_it_was_waiting_for(older):
    flask_migrate.upgrade()

    assert set(db.session.scalars(db.select(Inbox.unknown_inn))) == {UnknownInn.HOLD}
    db.session.rollback()
    jobs.credit()
    assert db.session.scalar(db.select(Organization.balance).where(Organization.inn == INN)) == 7
    assert [row["kind"] for row in rows("incidents")] == ["unknown_inn"]


def test_downgrade_refuses_where_two_sources_share_an_id_and_names_it(older):
    flask_migrate.upgrade(revision="0009")
    with db.engine.begin() as connection:
        connection.execute(text("DELETE FROM inbox"))
    add_payment(OTHER, "plain", version=3)
    before = {name: rows(name) for name in TABLES}

    with pytest.raises(click.ClickException, match=f"(?s)would be lost.*{OTHER}") as refusal:
        flask_migrate.downgrade(revision=OLDER)

    assert str(PLAIN) not in refusal.value.message
    assert {name: rows(name) for name in TABLES} == before


def test_downgrade_refuses_where_a_payment_was_handed_on_under_an_id_of_ours(older):
    flask_migrate.upgrade(revision="0009")
    with db.engine.begin() as connection:
        connection.execute(text("DELETE FROM inbox"))
    add_payment(uuid.UUID(int=3), "second", version=3)
    before = {name: rows(name) for name in TABLES}

    with pytest.raises(click.ClickException, match="1 payments of other banks"):
        flask_migrate.downgrade(revision=OLDER)

    assert {name: rows(name) for name in TABLES} == before


def test_downgrade_refuses_while_something_waits_that_was_to_be_held(older):
    flask_migrate.upgrade()
    before = {name: rows(name) for name in TABLES}

    with pytest.raises(click.ClickException, match=r"(?s)inbox: 2 rows.*flask worker"):
        flask_migrate.downgrade(revision=OLDER)

    assert {name: rows(name) for name in TABLES} == before


HALVES = [
    "ALTER TABLE payments ADD COLUMN forward_id CHAR(32) NULL",
    "ALTER TABLE inbox ADD COLUMN unknown_inn VARCHAR(8) NULL",
    "ALTER TABLE payments ADD CONSTRAINT uq_payments_operation_id_source UNIQUE (operation_id, source)",
    "ALTER TABLE payments DROP INDEX uq_payments_operation_id",
]


@pytest.mark.parametrize("older", [name for name in databases.FAMILIES if name == "mariadb"], indirect=True)
@pytest.mark.parametrize("done", range(1, len(HALVES) + 1))
def test_upgrade_that_stopped_half_way_can_be_run_again(older, done):
    """MariaDB commits each change of a table by itself."""
    before = {name: known(name) for name in TABLES}
    with db.engine.begin() as connection:
        for statement in HALVES[:done]:
            connection.execute(text(statement))

    flask_migrate.upgrade()

    assert {name: known(name) for name in TABLES} == before
    assert findings() == []

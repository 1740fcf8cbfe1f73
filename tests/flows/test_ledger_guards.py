"""`flask ledger verify` looks whether the keys, constraints and triggers stand that refuse damage."""

import sqlite3
from contextlib import closing

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DatabaseError

from app import create_app
from context import cipher
from database.extension import db
from database.session import transaction
from outbox import claims, results
from tests import databases
from tests.databases import Database, only
from tests.factories import INN, START, make_config, make_org
from tests.outboxes import attempt_with, open_endpoint, pay

ANYWHERE = {
    "a constraint of balances": (
        "ALTER TABLE organizations DROP CONSTRAINT ck_organizations_balance_within_overdraft",
        "table organizations: the constraint ck_organizations_balance_within_overdraft is missing or another one",
    ),
    "a constraint of the log": (
        "ALTER TABLE balance_log DROP CONSTRAINT ck_balance_log_adds_up",
        "table balance_log: the constraint ck_balance_log_adds_up is missing or another one",
    ),
    "a constraint that says less": (
        "ALTER TABLE payments DROP CONSTRAINT ck_payments_amount_positive, "
        "ADD CONSTRAINT ck_payments_amount_positive CHECK (amount >= 0)",
        "table payments: the constraint ck_payments_amount_positive is missing or another one",
    ),
    "a constraint that says the opposite": (
        "ALTER TABLE balance_log DROP CONSTRAINT ck_balance_log_adds_up, "
        "ADD CONSTRAINT ck_balance_log_adds_up CHECK (balance_before + delta <> balance_after)",
        "table balance_log: the constraint ck_balance_log_adds_up is missing or another one",
    ),
    "a constraint that allows more": (
        "ALTER TABLE balance_log DROP CONSTRAINT ck_balance_log_reason_known, "
        "ADD CONSTRAINT ck_balance_log_reason_known CHECK (reason IN ('credit', 'gift'))",
        "table balance_log: the constraint ck_balance_log_reason_known is missing or another one",
    ),
}
DAMAGE = {
    "postgresql": {
        **ANYWHERE,
        "a trigger dropped": (
            "DROP TRIGGER balance_log_no_change ON balance_log",
            "table balance_log: the trigger balance_log_no_change is missing, disabled or another one",
        ),
        "a trigger disabled": (
            "ALTER TABLE balance_log DISABLE TRIGGER balance_log_no_truncate",
            "table balance_log: the trigger balance_log_no_truncate is missing, disabled or another one",
        ),
        "a trigger for replicas alone": (
            "ALTER TABLE delivery_attempts ENABLE REPLICA TRIGGER delivery_attempts_no_change",
            "the trigger delivery_attempts_no_change is missing, disabled or another one",
        ),
        "a function that refuses nothing": (
            "CREATE OR REPLACE FUNCTION refuse_change_of_balance_log() RETURNS trigger LANGUAGE plpgsql AS "
            "'BEGIN RETURN NEW; END'",
            "table balance_log: the trigger balance_log_no_change is missing, disabled or another one",
        ),
        "a trigger for one column alone": (
            "CREATE OR REPLACE TRIGGER balance_log_no_change BEFORE DELETE OR UPDATE OF version ON balance_log "
            "FOR EACH ROW EXECUTE FUNCTION refuse_change_of_balance_log()",
            "the trigger balance_log_no_change is missing, disabled or another one",
        ),
        "all triggers disabled": (
            "ALTER TABLE payments DISABLE TRIGGER ALL",
            "table payments: its foreign keys are disabled",
        ),
        "a key that is unique no more": (
            "ALTER TABLE balance_log DROP CONSTRAINT uq_balance_log_payment_id",
            "table balance_log: nothing keeps payment_id unique",
        ),
        "a foreign key": (
            "ALTER TABLE payments DROP CONSTRAINT fk_payments_organization_id",
            "table payments: nothing keeps organization_id to rows of organizations",
        ),
        "a primary key": (
            "ALTER TABLE balance_log DROP CONSTRAINT pk_balance_log",
            "table balance_log: the primary key is missing or another one",
        ),
        "a constraint that spares older rows": (
            "ALTER TABLE payments DROP CONSTRAINT ck_payments_amount_positive, "
            "ADD CONSTRAINT ck_payments_amount_positive CHECK (amount > 0) NOT VALID",
            "table payments: the constraint ck_payments_amount_positive does not hold for older rows",
        ),
        "a column that may be empty": (
            "ALTER TABLE payments ALTER COLUMN body DROP NOT NULL",
            "table payments: the column body may be empty",
        ),
        "a table": ("DROP TABLE delivery_attempts", "table delivery_attempts: the table is missing"),
        "a rule": (
            "CREATE RULE never AS ON INSERT TO balance_log DO INSTEAD NOTHING",
            "table balance_log: the rule never is not ours",
        ),
        "a trigger of a stranger": (
            "CREATE FUNCTION keep_nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
            "CREATE TRIGGER quiet BEFORE INSERT ON payments FOR EACH ROW EXECUTE FUNCTION keep_nothing()",
            "table payments: the trigger quiet is not ours",
        ),
        "a stranger's trigger with a name of ours": (
            "CREATE FUNCTION keep_nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
            "CREATE TRIGGER balance_log_no_change BEFORE INSERT ON inbox FOR EACH ROW EXECUTE FUNCTION keep_nothing()",
            "table inbox: the trigger balance_log_no_change is not ours",
        ),
        "a foreign key that deletes": (
            "ALTER TABLE balance_log DROP CONSTRAINT fk_balance_log_payment_id, ADD CONSTRAINT "
            "fk_balance_log_payment_id FOREIGN KEY (payment_id) REFERENCES payments (id) ON DELETE CASCADE",
            "table balance_log: the foreign key of payment_id to rows of payments says ON DELETE CASCADE, "
            "and should say NO ACTION",
        ),
        "a foreign key that changes rows": (
            "ALTER TABLE payments DROP CONSTRAINT fk_payments_organization_id, ADD CONSTRAINT "
            "fk_payments_organization_id FOREIGN KEY (organization_id) REFERENCES organizations (id) "
            "ON UPDATE CASCADE",
            "table payments: the foreign key of organization_id to rows of organizations says ON UPDATE CASCADE, "
            "and should say NO ACTION",
        ),
        "a foreign key that deletes no more": (
            "ALTER TABLE incident_resolutions DROP CONSTRAINT fk_incident_resolutions_incident_id, ADD CONSTRAINT "
            "fk_incident_resolutions_incident_id FOREIGN KEY (incident_id) REFERENCES incidents (id)",
            "table incident_resolutions: the foreign key of incident_id to rows of incidents says ON DELETE NO ACTION, "
            "and should say CASCADE",
        ),
        "a second foreign key that deletes": (
            "ALTER TABLE balance_log ADD CONSTRAINT again FOREIGN KEY (payment_id) REFERENCES payments (id) "
            "ON DELETE CASCADE",
            "table balance_log: the foreign key of payment_id to rows of payments says ON DELETE CASCADE, "
            "and should say NO ACTION",
        ),
        "a foreign key to a table of a stranger": (
            "CREATE TABLE strange (id bigint PRIMARY KEY)",
            "ALTER TABLE inbox ADD CONSTRAINT to_strange FOREIGN KEY (id) REFERENCES strange (id) ON DELETE CASCADE",
            "table inbox: the foreign key of id to rows of strange is not ours",
        ),
        "a foreign key to a table of another schema": (
            "CREATE SCHEMA other",
            "CREATE TABLE other.payments (id uuid PRIMARY KEY)",
            "ALTER TABLE balance_log DROP CONSTRAINT fk_balance_log_payment_id, ADD CONSTRAINT "
            "fk_balance_log_payment_id FOREIGN KEY (payment_id) REFERENCES other.payments (id)",
            "table balance_log: nothing keeps payment_id to rows of payments",
        ),
        "a foreign key to a table of another schema, beside ours": (
            "CREATE SCHEMA other",
            "CREATE TABLE other.payments (id uuid PRIMARY KEY)",
            "ALTER TABLE balance_log ADD CONSTRAINT elsewhere FOREIGN KEY (payment_id) REFERENCES other.payments (id)",
            "table balance_log: the foreign key of payment_id to rows of other.payments is not ours",
        ),
        "a foreign key that waits": (
            "ALTER TABLE payments ALTER CONSTRAINT fk_payments_organization_id DEFERRABLE INITIALLY DEFERRED",
            "table payments: the constraint fk_payments_organization_id is DEFERRABLE: rows can break it until their "
            "transaction ends",
        ),
        "a unique key that waits": (
            "ALTER TABLE balance_log DROP CONSTRAINT uq_balance_log_payment_id, "
            "ADD CONSTRAINT uq_balance_log_payment_id UNIQUE (payment_id) DEFERRABLE",
            "table balance_log: the constraint uq_balance_log_payment_id is DEFERRABLE",
        ),
        "a table that a crash empties": (
            "ALTER TABLE balance_log SET UNLOGGED",
            "table balance_log: it is UNLOGGED or temporary: its rows are lost when the server crashes",
        ),
        "a table that gives its rows to another": (
            "CREATE TABLE more () INHERITS (balance_log)",
            "table balance_log: the table more inherits from it: its rows are read as rows of this one",
        ),
    },
    "mariadb": {
        **ANYWHERE,
        "a trigger dropped": (
            "DROP TRIGGER balance_log_no_update",
            "table balance_log: the trigger balance_log_no_update is missing, disabled or another one",
        ),
        "a trigger that refuses nothing": (
            "CREATE OR REPLACE TRIGGER delivery_attempts_no_delete BEFORE DELETE ON delivery_attempts FOR EACH ROW "
            "SET @deleted = 1",
            "table delivery_attempts: the trigger delivery_attempts_no_delete is missing, disabled or another one",
        ),
        "a key that is unique no more": (
            "ALTER TABLE balance_log DROP FOREIGN KEY fk_balance_log_payment_id, DROP INDEX uq_balance_log_payment_id",
            "table balance_log: nothing keeps payment_id unique",
        ),
        "a foreign key": (
            "ALTER TABLE payments DROP FOREIGN KEY fk_payments_organization_id",
            "table payments: nothing keeps organization_id to rows of organizations",
        ),
        "a column that may be empty": (
            "ALTER TABLE payments MODIFY body MEDIUMBLOB",
            "table payments: the column body may be empty",
        ),
        "a trigger of a stranger": (
            "CREATE TRIGGER quiet BEFORE UPDATE ON organizations FOR EACH ROW SET NEW.balance = OLD.balance",
            "table organizations: the trigger quiet is not ours",
        ),
        "a foreign key that deletes": (
            "ALTER TABLE balance_log DROP FOREIGN KEY fk_balance_log_payment_id",
            "ALTER TABLE balance_log ADD CONSTRAINT fk_balance_log_payment_id FOREIGN KEY (payment_id) "
            "REFERENCES payments (id) ON DELETE CASCADE",
            "table balance_log: the foreign key of payment_id to rows of payments says ON DELETE CASCADE, "
            "and should say NO ACTION",
        ),
        "a table without transactions": (
            "ALTER TABLE inbox ENGINE = MyISAM",
            "table inbox: its engine is MyISAM, not InnoDB",
        ),
    },
    "sqlite": {
        "a trigger dropped": (
            "DROP TRIGGER balance_log_no_delete",
            "table balance_log: the trigger balance_log_no_delete is missing, disabled or another one",
        ),
        "a trigger that refuses nothing": (
            "DROP TRIGGER balance_log_no_update",
            "CREATE TRIGGER balance_log_no_update BEFORE UPDATE ON balance_log "
            "WHEN 0 BEGIN SELECT RAISE(ABORT, 'balance_log is append-only'); END",
            "table balance_log: the trigger balance_log_no_update is missing, disabled or another one",
        ),
        "a constraint that says less": (
            "PRAGMA writable_schema = ON",
            "UPDATE sqlite_master SET sql = replace(sql, 'amount > 0', 'amount >= 0') WHERE name = 'payments'",
            "table payments: the constraint ck_payments_amount_positive is missing or another one",
        ),
        "a key that is unique no more": (
            "PRAGMA writable_schema = ON",
            "DELETE FROM sqlite_master WHERE name = 'sqlite_autoindex_balance_log_3'",
            "UPDATE sqlite_master SET sql = "
            "replace(sql, 'CONSTRAINT uq_balance_log_debit_id UNIQUE (debit_id), ', '') "
            "WHERE name = 'balance_log'",
            "table balance_log: nothing keeps debit_id unique",
        ),
        "a trigger of a stranger": (
            "CREATE TRIGGER quiet BEFORE INSERT ON payments BEGIN SELECT RAISE(IGNORE); END",
            "table payments: the trigger quiet is not ours",
        ),
        "a foreign key that deletes": (
            "PRAGMA writable_schema = ON",
            "UPDATE sqlite_master SET sql = "
            "replace(sql, 'REFERENCES \"payments\" (id)', 'REFERENCES payments (id) ON DELETE CASCADE') "
            "WHERE name = 'balance_log'",
            "table balance_log: the foreign key of payment_id to rows of payments says ON DELETE CASCADE, "
            "and should say NO ACTION",
        ),
        "a foreign key that deletes, written beside its column": (
            "PRAGMA writable_schema = ON",
            "UPDATE sqlite_master SET sql = replace(sql, 'payment_id CHAR(32)', "
            "'payment_id CHAR(32) REFERENCES payments (id) ON DELETE CASCADE') "
            "WHERE name = 'balance_log'",
            "table balance_log: the foreign key of payment_id to rows of payments says ON DELETE CASCADE, "
            "and should say NO ACTION",
        ),
    },
}
CASES = [
    pytest.param((family, statements), finding, id=f"{family}-{name}")
    for family in databases.FAMILIES
    for name, (*statements, finding) in DAMAGE[family].items()
]


@pytest.fixture
def damaged(request):
    """An app on a database of its own, in which a guard has fallen."""
    family, statements = request.param
    database = Database(family)
    database.create()
    app = create_app(make_config(database.url))
    database.migrate(app)
    engine = create_engine(database.url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    engine.dispose()
    yield app
    with app.app_context():
        db.engine.dispose()
    database.drop()


def test_guards_of_a_new_database_stand(check_ledger):
    check_ledger()


@pytest.mark.parametrize(("damaged", "finding"), CASES, indirect=["damaged"])
def test_fallen_guard_is_named(damaged, finding):
    result = damaged.test_cli_runner().invoke(args=["ledger", "verify"])

    assert result.exit_code == 1
    assert finding in result.output


COLUMNS = "organization_id, version, delta, balance_before, balance_after, payment_id, reason, created_at"
REST = "cause, started_at, duration_ms, status_code, excerpt, error"


@only("sqlite")  # no other database numbers rows beside their keys
@pytest.mark.parametrize("name", ["rowid", "_rowid_", "oid"])
@pytest.mark.parametrize("number", ["1", "'1'", "1.0", "(SELECT min(rowid) FROM balance_log)"])
@pytest.mark.parametrize("verb", ["REPLACE", "INSERT OR REPLACE"])
def test_no_row_of_the_log_is_replaced_by_its_number(bank, database, check_ledger, name, number, verb):
    bank.send()
    bank.send()
    replacement = (
        f"{verb} INTO balance_log ({name}, {COLUMNS}) "
        f"SELECT {number}, organization_id, 9, delta, balance_before, balance_after, hex(payment_id), reason, "
        "created_at "
        "FROM balance_log WHERE version = 2"
    )

    with closing(sqlite3.connect(database.url.database)) as stranger, pytest.raises(sqlite3.IntegrityError):
        stranger.execute(replacement)
    check_ledger()


@pytest.fixture
def attempted(context):
    """One attempt of one delivery is recorded."""
    make_org()
    open_endpoint(inn=INN)
    pay(1)
    (delivery,) = claims.claim(cipher(), capacity=lambda _: 9, now=START)
    results.settle([(delivery, attempt_with(500))], now=START)


@only("sqlite")
@pytest.mark.parametrize("key", ["rowid, delivery_id, number", "rowid, number, delivery_id", "delivery_id, number"])
def test_no_attempt_is_replaced_by_any_key(attempted, database, key):
    before = database.rows()["delivery_attempts"]

    with closing(sqlite3.connect(database.url.database)) as stranger, pytest.raises(sqlite3.IntegrityError):
        stranger.execute(f"REPLACE INTO delivery_attempts ({key}, {REST}) SELECT {key}, {REST} FROM delivery_attempts")
    assert database.rows()["delivery_attempts"] == before


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE delivery_attempts SET status_code = 200",
        "DELETE FROM delivery_attempts",
        "INSERT INTO delivery_attempts SELECT * FROM delivery_attempts",
    ],
)
def test_attempts_refuse_changes(attempted, database, statement):
    before = database.rows()["delivery_attempts"]
    assert before

    with pytest.raises(DatabaseError), transaction() as session:
        session.execute(text(statement))
    assert database.rows()["delivery_attempts"] == before

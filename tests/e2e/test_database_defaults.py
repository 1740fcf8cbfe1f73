"""Servers whose defaults are the opposite of what is needed: each connection asks for what it needs."""

import csv
import io

import flask_migrate
import pytest
from sqlalchemy import create_engine, text

from app import create_app
from auth import api_keys
from database.extension import db
from database.session import transaction
from ledger import audit
from ledger.findings import Finding
from limits import LOCK_SECONDS, STATEMENT_SECONDS
from tests import clusters
from tests.callers import Bank, Operator
from tests.clusters import MariadbCluster, PostgresqlCluster
from tests.factories import INN, START, make_config, make_org
from tests.outboxes import open_endpoint, read_deliveries
from worker import jobs

POSTGRESQL = {
    "datestyle": "SQL, DMY",
    "intervalstyle": "sql_standard",
    "timezone": "Asia/Kamchatka",
    "client_encoding": "LATIN1",
    "bytea_output": "escape",
    "standard_conforming_strings": "off",
    "backslash_quote": "off",
    "transform_null_equals": "on",
    "array_nulls": "off",
    "quote_all_identifiers": "on",
    "default_transaction_isolation": "serializable",
    "default_transaction_deferrable": "on",
    "synchronous_commit": "off",
    "extra_float_digits": "-15",
    "lc_messages": "C",
    "statement_timeout": "500ms",
    "lock_timeout": "1ms",
    "row_security": "on",
}
SLOW_WRITER = {"wal_writer_delay": "10s", "wal_writer_flush_after": "0"}
"""What was not asked to be on disk stays in memory for as long as can be set."""

MARIADB = {
    "character_set_server": "latin1",
    "collation_server": "latin1_german1_ci",
    "sql_mode": "ORACLE,PIPES_AS_CONCAT,NO_BACKSLASH_ESCAPES",
    "transaction_isolation": "SERIALIZABLE",
    "default_time_zone": "+12:00",
    "default_storage_engine": "MyISAM",
    "completion_type": "CHAIN",
    "innodb_lock_wait_timeout": "1",
    "div_precision_increment": "0",
}
MARIADB_GLOBALS = {
    "foreign_key_checks": "0",
    "unique_checks": "0",
    "check_constraint_checks": "0",
    "sql_auto_is_null": "1",
    "sql_safe_updates": "1",
    "sql_select_limit": "1",
    "sql_big_selects": "0",
    "max_join_size": "1",
    "max_statement_time": "0.001",
    "innodb_strict_mode": "0",
    "sql_quote_show_create": "0",
    "group_concat_max_len": "4",
}
"""What mariadbd takes no option for, and what would stand in the way of making its cluster."""


@pytest.fixture(params=clusters.available())
def cluster(request):
    if request.param == "postgresql":
        with PostgresqlCluster(**SLOW_WRITER) as cluster:
            _execute(cluster.url, [f"ALTER DATABASE kopeck SET {name} = '{POSTGRESQL[name]}'" for name in POSTGRESQL])
            yield cluster
        return
    with MariadbCluster(**MARIADB) as cluster:
        _execute(cluster.url, [f"SET GLOBAL {name} = {value}" for name, value in MARIADB_GLOBALS.items()])
        yield cluster


def _execute(url, statements):
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


@pytest.fixture
def app(cluster):
    app = create_app(make_config(cluster.url, ENDPOINTS_ON_LOOPBACK="allow"), lambda: START)
    with app.app_context():
        flask_migrate.upgrade()
    yield app
    with app.app_context():
        db.engine.dispose()


def test_everything_works_as_on_a_server_with_the_usual_defaults(app, receiver):
    name = "ООО «Ёлка» \\ ' \" №1"
    with app.app_context():
        make_org(name=name)
        open_endpoint(receiver.url)
        operator = Operator(app.test_client(), api_keys.create(name="o", scopes=list(api_keys.SCOPES), now=START))
    bank = Bank(app.test_client())
    sent = [{"document_number": rf"PAY\{number} №'", "document_date": "2024-04-27T21:00:00Z"} for number in range(3)]
    ids = [f"0190f1c2-0000-7000-8000-00000000000{number}" for number in range(3)]

    first = [bank.send(operation_id=id_, **members).json["status"] for id_, members in zip(ids, sent, strict=True)]
    again = [bank.send(operation_id=id_, **members).json["status"] for id_, members in zip(ids, sent, strict=True)]
    conflict = bank.send(operation_id=ids[0], amount=1)
    unknown = bank.send(payer_inn="7707083893")

    assert (first, again) == (["credited"] * 3, ["duplicate"] * 3)
    assert (conflict.json["status"], unknown.json["status"]) == ("conflict", "credited")
    assert operator.get(f"/organizations/{INN}/").json["name"] == name
    balance = operator.get(f"/organizations/{INN}/balance/").json
    assert balance["balance"] == 3 * 145000
    payments = operator.get(f"/organizations/{INN}/payments/").json["items"]
    assert sorted(each["document_number"] for each in payments) == sorted(each["document_number"] for each in sent)
    assert {each["document_date"] for each in payments} == {"2024-04-27T21:00:00Z"}
    exported = operator.get(f"/organizations/{INN}/log/", format="csv").text
    assert len(list(csv.reader(io.StringIO(exported)))) >= 4
    assert app.test_client().get("/readyz").json == {"status": "ok"}
    with app.app_context():
        jobs.deliver()
        assert {row.status for row in read_deliveries()} == {"delivered"}
        assert [step for step in audit.verify() if isinstance(step, Finding)] == []
    assert len(receiver.received) == len(read_all(app))


def read_all(app):
    with app.app_context():
        return read_deliveries()


def test_what_was_acknowledged_is_there_when_the_server_was_killed(app, cluster):
    with app.app_context():
        make_org()
    bank = Bank(app.test_client())
    answers = [bank.send().json["status"] for _ in range(5)]
    cluster.stop("immediate") if isinstance(cluster, PostgresqlCluster) else cluster.kill()
    cluster.start()

    assert answers == ["credited"] * 5
    with app.app_context():
        db.engine.dispose()
        assert [step for step in audit.verify() if isinstance(step, Finding)] == []
        operator = Operator(app.test_client(), api_keys.create(name="o", scopes=list(api_keys.SCOPES), now=START))
        assert operator.get(f"/organizations/{INN}/balance/").json["balance"] == 5 * 145000


IN_FORCE = {
    "postgresql": {
        "lock_timeout": f"{LOCK_SECONDS}s",
        "statement_timeout": f"{STATEMENT_SECONDS}s",
        "idle_in_transaction_session_timeout": f"{STATEMENT_SECONDS}s",
        "client_encoding": "UTF8",
        "synchronous_commit": "on",
        "transaction_isolation": "read committed",
        "default_transaction_isolation": "read committed",
        "datestyle": "ISO, YMD",
        "timezone": "UTC",
        "standard_conforming_strings": "on",
        "transform_null_equals": "off",
        "array_nulls": "on",
        "row_security": "off",
        "quote_all_identifiers": "off",
    },
    "mariadb": {
        "character_set_client": "utf8mb4",
        "character_set_results": "utf8mb4",
        "tx_isolation": "READ-COMMITTED",
        "time_zone": "+00:00",
        "innodb_lock_wait_timeout": LOCK_SECONDS,
        "wait_timeout": STATEMENT_SECONDS,
        "max_statement_time": 0,
        "foreign_key_checks": 1,
        "unique_checks": 1,
        "check_constraint_checks": 1,
        "innodb_strict_mode": 1,
        "completion_type": "NO_CHAIN",
        "sql_auto_is_null": 0,
        "sql_safe_updates": 0,
        "sql_big_selects": 1,
        "sql_select_limit": 18446744073709551615,
        "sql_quote_show_create": 1,
        "autocommit": 0,
    },
}


def test_what_each_connection_asked_for_is_in_force_when_a_transaction_writes(app):
    with app.app_context(), transaction() as session:
        family = session.get_bind().dialect.name
        asked = IN_FORCE[family]
        form = "current_setting('{}')" if family == "postgresql" else "@@SESSION.{}"
        row = session.execute(text("SELECT " + ", ".join(map(form.format, asked)))).one()

    assert dict(zip(asked, row, strict=True)) == asked

"""PgBouncer in both modes: each webhook is credited, limits hold, nothing is left on connections that others use."""

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import flask_migrate
import psycopg
import pytest
from sqlalchemy import func, select

from app import create_app
from database.extension import db
from database.session import look_up, transaction
from ledger import audit, organizations
from ledger.findings import Finding
from limits import LOCK_SECONDS, STATEMENT_SECONDS
from models import Organization
from tests import clusters, poolers
from tests.callers import Bank
from tests.clusters import PostgresqlCluster
from tests.factories import INN, START, make_config
from tests.outboxes import open_endpoint, read_deliveries
from tests.waiting import wait_until
from worker import jobs

WEBHOOKS, SENDERS = 240, 16
SERVER_CONNECTIONS = 3
"""Fewer than senders, so that they come by turns to the same ones."""

LIMITS = {
    "lock_timeout": f"{LOCK_SECONDS}s",
    "statement_timeout": f"{STATEMENT_SECONDS}s",
    "idle_in_transaction_session_timeout": f"{STATEMENT_SECONDS}s",
    "synchronous_commit": "on",
}


@pytest.fixture(scope="module")
def cluster():
    if "postgresql" not in clusters.available():
        pytest.skip("no PostgreSQL can be started here: nothing was tried behind a pooler")
    # The opposite of what is needed, so that only what was asked for can be found.
    with PostgresqlCluster(synchronous_commit="off", datestyle="SQL, DMY", timezone="Asia/Kamchatka") as cluster:
        yield cluster


@pytest.fixture(scope="module", params=["transaction", "session"])
def pooler(request, cluster):
    with psycopg.connect(address(cluster.url.set(database="postgres")), autocommit=True) as admin:
        admin.execute("DROP DATABASE IF EXISTS kopeck WITH (FORCE)")
        admin.execute("CREATE DATABASE kopeck")
    size = SERVER_CONNECTIONS if request.param == "transaction" else SENDERS + 4
    with poolers.in_front(cluster, mode=request.param, size=size) as url:
        app = create_app(make_config(url, ENDPOINTS_ON_LOOPBACK="allow"), lambda: START)
        with app.app_context():
            flask_migrate.upgrade()
            organizations.register(inn=INN, name="Sample", now=START)
        yield url, app
        with app.app_context():
            db.engine.dispose()


def address(url):
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


def test_every_webhook_is_credited_once(pooler):
    _, app = pooler
    operations = [str(uuid.uuid4()) for _ in range(WEBHOOKS)] * 2
    before = balance(app)
    with ThreadPoolExecutor(SENDERS) as senders:
        answers = list(senders.map(lambda id_: Bank(app.test_client()).send(operation_id=id_, amount=100), operations))

    assert {answer.status_code for answer in answers} == {200}
    assert sorted(answer.json["status"] for answer in answers) == ["credited"] * WEBHOOKS + ["duplicate"] * WEBHOOKS
    assert balance(app) == before + WEBHOOKS * 100
    with app.app_context():
        assert [step for step in audit.verify() if isinstance(step, Finding)] == []


def balance(app):
    with app.app_context():
        return look_up(select(Organization.balance).where(Organization.inn == INN))[0][0]


def test_limits_hold_in_transactions_and_in_single_reads(pooler):
    _, app = pooler
    with app.app_context():
        for _ in range(3 * SERVER_CONNECTIONS):
            (read,) = look_up(select(*(func.current_setting(name) for name in LIMITS)))
            with transaction() as session:
                written = session.execute(select(*(func.current_setting(name) for name in LIMITS))).one()
            assert dict(zip(LIMITS, read, strict=True)) == LIMITS
            assert dict(zip(LIMITS, written, strict=True)) == LIMITS


def test_row_that_is_locked_too_long_is_a_503(pooler, cluster):
    _, app = pooler
    with psycopg.connect(address(cluster.url)) as other:
        other.execute("SELECT id FROM organizations FOR UPDATE")
        answers = []
        thread = threading.Thread(target=lambda: answers.append(Bank(app.test_client()).send().status_code))
        thread.start()
        thread.join()

    assert answers == [503]


def test_others_behind_the_pooler_find_its_connections_as_they_were(pooler):
    url, app = pooler
    with app.app_context():
        look_up(select(func.count()).select_from(Organization))
        # With a connection of ours for each session it is given to others only when we have gone.
        db.engine.dispose()
    left = set()
    for _ in range(2 * SERVER_CONNECTIONS):
        with psycopg.connect(address(url), autocommit=True) as other:
            left.update(
                other.execute(
                    "SELECT current_setting('lock_timeout'), current_setting('synchronous_commit')"
                ).fetchall()
            )
            assert other.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() == (0,)
    assert left == {("0", "off")}


@pytest.mark.parametrize("pooler", ["transaction"], indirect=True)  # in the other mode no connection is shared
def test_temporary_tables_of_another_client_take_no_credit(pooler):
    """A report that works on copies leaves them on the server's connections, which we use next."""
    url, app = pooler
    before, others = balance(app), []
    for _ in range(2 * SERVER_CONNECTIONS):
        others.append(psycopg.connect(address(url), autocommit=True))
        for table in ("payments", "organizations", "balance_log"):
            others[-1].execute(f"CREATE TEMP TABLE IF NOT EXISTS {table} AS SELECT * FROM public.{table}")
    for other in others:
        other.close()

    answers = {Bank(app.test_client()).send(amount=100).json["status"] for _ in range(20)}

    assert answers == {"credited"}
    assert balance(app) == before + 20 * 100
    with app.app_context():
        assert [step for step in audit.verify() if isinstance(step, Finding)] == []


def test_events_are_delivered(pooler, receiver):
    _, app = pooler
    with app.app_context():
        open_endpoint(receiver.url)
        known = {row.id for row in read_deliveries()}
        assert Bank(app.test_client()).send().status_code == 200
        jobs.deliver()
        assert [row.status for row in read_deliveries() if row.id not in known] == ["delivered"]


def test_server_that_stops_behind_the_pooler_is_a_503_until_it_is_back(pooler, cluster):
    _, app = pooler
    bank, id_ = Bank(app.test_client()), str(uuid.uuid4())
    cluster.stop("immediate")
    refused = bank.send(operation_id=id_).status_code
    cluster.start()
    answers = []

    def is_back():
        answers.append(bank.send(operation_id=id_).status_code)
        return answers[-1] == 200

    wait_until(is_back, "the pooler has found the server again")
    assert refused == 503
    assert set(answers) <= {200, 503}
    with app.app_context():
        assert [step for step in audit.verify() if isinstance(step, Finding)] == []

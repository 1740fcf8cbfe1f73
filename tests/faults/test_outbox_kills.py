"""Workers are killed and told to end at every point of a delivery, and databases stopped: each event arrives."""

import json
import multiprocessing
import signal
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import flask_migrate
import pytest
from flask import Flask
from sqlalchemy import event
from sqlalchemy.orm import Session

from app import create_app
from database.extension import db
from limits import LEASE_SECONDS
from outbox.claims import LOST
from tests import clusters, databases
from tests.callers import Bank
from tests.clusters import MariadbCluster, PostgresqlCluster
from tests.databases import Database
from tests.factories import make_config
from tests.faults.worker_process import STOPPING, FileClock, die, main
from tests.faults.workers import Worker, settings
from tests.outboxes import check_attempts, count_leased, next_due, open_endpoint, pay, read_attempts, read_deliveries
from tests.receivers import Answer, ReceivedRequest, Receiver
from tests.waiting import PATIENCE_SECONDS, wait_until
from worker import jobs

STATEMENTS_MAX = 30
"""More than settling has; the loop ends by itself when nothing was left to kill."""

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload([__name__])


@pytest.fixture
def clock(tmp_path) -> FileClock:
    """The clock of the app and of every worker process."""
    return FileClock(tmp_path / "clock")


@pytest.fixture
def app(make_app) -> Flask:
    return make_app(ENDPOINTS_ON_LOOPBACK="allow")


@pytest.fixture
def receiver():
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def new_worker(database, clock, tmp_path) -> Callable[..., Worker]:
    """Make workers on this database."""
    numbers = iter(range(1000))

    def make(point: str = "") -> Worker:
        return Worker(database.url, clock.file, tmp_path / f"worker-{next(numbers)}", point=point)

    return make


def statuses() -> Counter[str]:
    return Counter(row.status for row in read_deliveries())


def outcomes(delivery_id: int) -> list[str | int]:
    """Return what came of each attempt, in order: a status, or why there is none."""
    return [attempt.status_code or attempt.error for attempt in read_attempts()[delivery_id]]


def received_ids(receiver: Receiver) -> Counter[str]:
    return Counter(request.headers["webhook-id"] for request in receiver.received)


def nobody_holds_or_waits() -> bool:
    return next_due() is None


# ---- Killed


@pytest.mark.parametrize(
    ("point", "requests", "log"),
    [
        ("before send", 1, [LOST, 200]),
        ("after send", 2, [LOST, 200]),
        ("before settle", 2, [LOST, 200]),
        ("after settle", 1, [200]),
    ],
)
def test_event_whose_worker_was_killed_arrives_by_way_of_another(
    context, clock, new_worker, receiver, point, requests, log
):
    open_endpoint(receiver.url, now=clock())
    pay(1, now=clock())
    with new_worker(point) as victim:
        assert victim.status() == -signal.SIGKILL, victim.written()
    (row,) = read_deliveries()
    assert (row.status, row.lease is None, row.attempt_count) == (
        ("delivered", True, 1) if point == "after settle" else ("pending", False, 0)
    )

    clock.move(seconds=LEASE_SECONDS)
    with new_worker() as rescuer:
        wait_until(nobody_holds_or_waits, why=rescuer.written)
        rescuer.end()

    (row,) = read_deliveries()
    assert (row.status, row.lease, row.attempt_count) == ("delivered", None, len(log))
    assert outcomes(row.id) == log
    assert len(receiver.received) == requests
    assert len(received_ids(receiver)) == 1
    attempts = read_attempts()[row.id]
    assert [attempt.started_at for attempt in attempts] == sorted(attempt.started_at for attempt in attempts)


def test_worker_waits_for_the_lease_of_one_that_was_killed(context, clock, new_worker, receiver):
    open_endpoint(receiver.url, now=clock())
    pay(1, now=clock())
    with new_worker("before send") as victim:
        assert victim.status() == -signal.SIGKILL
    pay(1, now=clock())

    assert jobs.deliver() > 0
    assert sorted(statuses().elements()) == ["delivered", "pending"]
    assert count_leased() == 1
    clock.move(seconds=LEASE_SECONDS)
    jobs.deliver()
    assert statuses() == {"delivered": 2}
    assert set(received_ids(receiver).values()) == {1}


def killed_within_settle(database: Database, clock: FileClock, number: int) -> bool:
    """Run a worker in a process of its own that dies in its first settle; return whether there was so much to do."""
    arguments = (str(clock.file), f"settle {number}")
    process = PROCESSES.Process(target=main, args=arguments, kwargs={"environ": settings(database.url)})
    process.start()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL), "the worker ended otherwise; what it said is above"
    return process.exitcode != 0


def test_settling_killed_anywhere_is_done_as_a_whole_or_not_at_all(context, database, clock, receiver):
    """In order, so that it also lets the next one go."""
    open_endpoint(receiver.url, ordered=True, now=clock())
    points = 0
    for number in range(1, STATEMENTS_MAX):
        pay(2, now=clock())
        was_killed = killed_within_settle(database, clock, number)
        first, second = read_deliveries()[-2:]
        assert outcomes(first.id) == ([] if was_killed else [200])
        assert (first.status, first.lease is None) == (("pending", False) if was_killed else ("delivered", True))
        assert second.status == "pending"
        clock.move(seconds=LEASE_SECONDS)
        jobs.deliver()
        assert outcomes(first.id) == ([LOST, 200] if was_killed else [200])
        assert statuses() == {"delivered": 2 * number}
        if not was_killed:
            break
        points += 1
    assert points >= 6
    assert len(receiver.received) == 2 * (points + 1) + points
    check_attempts()


def test_endpoint_that_is_gone_is_disabled_once_wherever_its_worker_was_killed(context, database, clock, receiver):
    receiver.answer = lambda _: (410, {}, b"gone")
    points = 0
    for number in range(1, STATEMENTS_MAX):
        open_endpoint(receiver.url, now=clock())
        pay(1, now=clock())
        was_killed = killed_within_settle(database, clock, number)
        assert database.count("incidents") == (points if was_killed else points + 1)
        clock.move(seconds=LEASE_SECONDS)
        jobs.deliver()
        clock.move(seconds=60)
        jobs.deliver()
        assert database.count("incidents") == number
        assert statuses() == {"paused": number}
        assert outcomes(read_deliveries()[-1].id) == ([LOST, 410] if was_killed else [410])
        if not was_killed:
            break
        points += 1
    assert points >= 8
    check_attempts()


def pay_and_die(url: str, clock_file: str) -> None:
    """Play a web process that is killed when its commit has just gone through."""
    app = create_app(make_config(databases.make_url(url)), FileClock(Path(clock_file)))
    event.listen(Session, "after_commit", die)
    Bank(app.test_client()).send()


def test_event_of_a_web_process_that_was_killed_after_its_commit_arrives(
    context, database, clock, new_worker, receiver, check_ledger
):
    open_endpoint(receiver.url, now=clock())
    arguments = (database.url.render_as_string(hide_password=False), str(clock.file))
    process = PROCESSES.Process(target=pay_and_die, args=arguments)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert statuses() == {"pending": 1}

    with new_worker() as worker:
        wait_until(nobody_holds_or_waits, why=worker.written)
        worker.end()

    assert statuses() == {"delivered": 1}
    assert [json.loads(request.body)["type"] for request in receiver.received] == ["balance.credited"]
    check_ledger()


# ---- Told to end


class Gate:
    """A receiver that is quick once, so that more than one sender is given to it, and then waits for the test."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self._is_known = False

    def answer(self, _request: ReceivedRequest) -> Answer:
        if self._is_known:
            assert self.opened.wait(PATIENCE_SECONDS)
        self._is_known = True
        return 200, {}, b"ok"


def test_worker_told_to_end_while_it_sends_finishes_what_it_began_and_gives_back_the_rest(
    context, clock, new_worker, receiver
):
    gate, count = Gate(), 20
    receiver.answer = gate.answer
    open_endpoint(receiver.url, now=clock())
    pay(count, now=clock())
    with new_worker() as worker:
        wait_until(lambda: len(receiver.received) > 2 and count_leased() > 0, why=worker.written)
        worker.begin_to_end()
        worker.wait_for(STOPPING)
        gate.opened.set()
        assert worker.status() == 0, worker.written()
        assert "Traceback" not in worker.written()

    begun = len(receiver.received)
    assert begun < count
    assert statuses() == {"delivered": begun, "pending": count - begun}
    assert count_leased() == 0
    with new_worker() as second:
        wait_until(nobody_holds_or_waits, why=second.written)
        second.end()
    assert statuses() == {"delivered": count}
    assert sorted(received_ids(receiver).values()) == [1] * count
    assert {row.attempt_count for row in read_deliveries()} == {1}
    check_attempts()


# ---- The database goes away, and comes back


@pytest.fixture(params=clusters.available())
def cluster(request):
    kind = PostgresqlCluster if request.param == "postgresql" else MariadbCluster
    with kind() as cluster:
        yield cluster


@pytest.fixture
def on_cluster(cluster, clock):
    app = create_app(make_config(cluster.url, ENDPOINTS_ON_LOOPBACK="allow"), clock)
    with app.app_context():
        flask_migrate.upgrade()
        yield app
        db.engine.dispose()


def test_worker_outlives_its_database_and_settles_what_ended_meanwhile(cluster, on_cluster, clock, tmp_path, receiver):
    gate = Gate()
    receiver.answer = gate.answer
    open_endpoint(receiver.url, now=clock())
    pay(3, now=clock())
    with Worker(cluster.url, clock.file, tmp_path / "worker") as worker:
        wait_until(lambda: len(receiver.received) == 3, why=worker.written)
        wait_until(lambda: statuses() == {"delivered": 1, "pending": 2}, why=worker.written)
        db.engine.dispose()
        cluster.stop("immediate") if isinstance(cluster, PostgresqlCluster) else cluster.kill()
        gate.opened.set()
        worker.wait_for("database not available")
        cluster.start()
        wait_until(nobody_holds_or_waits, why=worker.written)
        pay(1, now=clock())
        wait_until(nobody_holds_or_waits, why=worker.written)
        worker.end()

    assert statuses() == {"delivered": 4}
    assert sorted(received_ids(receiver).values()) == [1] * 4
    assert {row.attempt_count for row in read_deliveries()} == {1}
    check_attempts()

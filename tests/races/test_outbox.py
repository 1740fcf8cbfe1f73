"""Rivals over deliveries: workers, people, replays and credits at once. Each event arrives, and none is lost."""

import itertools
import json
import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from types import SimpleNamespace
from uuid import UUID

import pytest
from flask import Flask
from sqlalchemy import and_, event, exc, select

import limits
from context import cipher
from database.extension import db
from database.session import look_up, transaction
from errors import DeliveryUnderWay, EndpointDisabled, EndpointUnknown
from models import BalanceLog
from outbox import claims, endpoints, replays, results
from outbox import dispatcher as dispatcher_module
from outbox.claims import LOST
from outbox.delivery import Attempt, ClaimedDelivery
from tests import databases
from tests.callers import Bank
from tests.factories import INN, START, make_org
from tests.outboxes import (
    DELIVERIES,
    PATIENCE_SECONDS,
    came,
    check_attempts,
    count_leased,
    next_due,
    open_endpoint,
    pay,
    read_attempts,
    read_deliveries,
    together,
    wait_until,
)
from tests.races.stage import run_rivals
from tests.receivers import Answer, ReceivedRequest, Receiver
from worker import jobs

LEASE = timedelta(seconds=limits.LEASE_SECONDS)
LATER = START + timedelta(hours=1)
TOO_MANY = 300
INNS = ("7707083893", "7736050003", "1234567894")


@pytest.fixture
def app(make_app) -> Flask:
    return make_app(ENDPOINTS_ON_LOOPBACK="allow")


# ---- Claiming


def claim_all(app: Flask, _number: int) -> list[tuple[UUID, int]]:
    """Claim until nothing is due; return each delivery that this rival got, with its lease."""
    got: list[tuple[UUID, int]] = []
    with app.app_context():
        while len(got) < TOO_MANY and (deliveries := claims.claim(cipher(), capacity=lambda _: 7, now=LATER)):
            assert len({delivery.lease for delivery in deliveries}) == 1
            got += [(delivery.lease, delivery.delivery_id) for delivery in deliveries]
    return got


@pytest.mark.parametrize("ordered", [False, True], ids=["in any order", "in order"])
def test_deliveries_claimed_by_many_at_once_are_claimed_once_each(database, context, ordered):
    for inn in INNS if ordered else [None] * 3:
        make_org(inn or INN) if ordered else None
        open_endpoint(inn=inn, ordered=ordered)
    for number in range(30):
        # In order only the first of an organisation may be claimed.
        pay(5, inn=INNS[number % 3] if ordered else INN)

    claimed = [one for rival in run_rivals(database.url, claim_all, processes=4, threads=4) for one in rival]

    rows = read_deliveries()
    assert Counter(id_ for _, id_ in claimed) == {row.id: 1 for row in rows if not ordered or row.version == 1}
    leases = {id_: lease for lease, id_ in claimed}
    assert {row.id: row.lease for row in rows if row.lease} == leases
    assert {row.due_at for row in rows if row.lease} == {LATER + LEASE}
    assert database.count("delivery_attempts") == 0


@pytest.mark.parametrize("migrated", databases.SERVERS, indirect=True)  # SQLite has one writer, who locks everything
def test_delivery_that_somebody_is_looking_at_keeps_no_worker_waiting(app, context):
    open_endpoint()
    pay(5)
    first, *others = [row.id for row in read_deliveries()]
    locked, claimed = threading.Event(), threading.Event()

    def look() -> None:
        with app.app_context(), transaction() as session:
            claims._lock(session.connection(), [first])
            locked.set()
            assert claimed.wait(PATIENCE_SECONDS)

    with ThreadPoolExecutor(1) as pool:
        looking = pool.submit(look)
        try:
            assert locked.wait(PATIENCE_SECONDS)
            deliveries = claims.claim(cipher(), capacity=lambda _: 9, now=START)
        finally:
            claimed.set()
        looking.result()
    assert [delivery.delivery_id for delivery in deliveries] == others


def test_room_that_shrinks_meanwhile_does_not_break_the_claim(context):
    open_endpoint()
    pay(20)
    room = iter([5, -2, -2, -2])

    assert len(claims.claim(cipher(), capacity=lambda _: next(room), now=START)) == 5
    assert count_leased() == 5


# ---- A lease that ran out


@pytest.fixture
def taken_over(context, clock) -> tuple[ClaimedDelivery, ClaimedDelivery]:
    """One delivery in the hands of two workers, the first of which took longer than its lease."""
    open_endpoint()
    pay(1)
    (first,) = claims.claim(cipher(), capacity=lambda _: 1, now=START)
    clock.move(seconds=limits.LEASE_SECONDS)
    (second,) = claims.claim(cipher(), capacity=lambda _: 1, now=clock())
    return first, second


def the_delivery():
    (row,) = read_deliveries()
    return row


def the_attempts() -> list[tuple[int, int | None, str | None]]:
    (attempts,) = read_attempts().values()
    return [(attempt.number, attempt.status_code, attempt.error) for attempt in attempts]


def test_lease_is_not_taken_over_before_it_ran_out(context, clock):
    open_endpoint()
    pay(1)
    assert len(claims.claim(cipher(), capacity=lambda _: 1, now=START)) == 1

    clock.move(seconds=limits.LEASE_SECONDS, microseconds=-1)
    assert claims.claim(cipher(), capacity=lambda _: 1, now=clock()) == []
    assert claims.claim_one(cipher(), the_delivery().id, now=clock()) is None


def test_neither_a_person_nor_a_replay_takes_away_what_a_worker_holds(context, clock):
    endpoint_id = open_endpoint()
    pay(1)
    (delivery,) = claims.claim(cipher(), capacity=lambda _: 1, now=START)
    clock.move(seconds=1)

    with pytest.raises(DeliveryUnderWay):
        endpoints.retry(delivery.delivery_id, now=clock())
    replays.start(endpoint_id, since=START, by="test", now=clock())
    assert replays.continue_oldest(now=clock()) == 1
    assert claims.claim(cipher(), capacity=lambda _: 1, now=clock()) == []
    assert (the_delivery().lease, the_delivery().due_at) == (delivery.lease, START + LEASE)

    results.settle([(delivery, came(200))], now=clock())
    assert the_attempts() == [(1, 200, None)]
    assert the_delivery().status == "delivered"


def test_attempt_of_a_worker_that_vanished_is_in_the_log(taken_over):
    (attempt,) = read_attempts()[the_delivery().id]

    assert (attempt.number, attempt.error, attempt.status_code, attempt.duration_ms) == (1, LOST, None, None)
    assert (attempt.cause, attempt.started_at) == ("schedule", START)
    assert (the_delivery().attempt_count, the_delivery().step) == (1, 0)


def test_late_failure_changes_nothing_for_the_worker_that_took_over(taken_over, clock):
    first, second = taken_over
    results.settle([(first, came(500))], now=clock())

    row = the_delivery()
    assert (row.status, row.step, row.lease, row.due_at) == ("pending", 0, second.lease, clock() + LEASE)
    assert the_attempts() == [(1, None, LOST), (2, 500, None)]

    results.settle([(second, came(200))], now=clock())
    assert (the_delivery().status, the_delivery().due_at, the_delivery().lease) == ("delivered", None, None)
    assert the_attempts() == [(1, None, LOST), (2, 500, None), (3, 200, None)]


@pytest.mark.parametrize("status", [200, 500, None])
def test_late_success_counts_and_the_worker_that_took_over_cannot_undo_it(taken_over, clock, status):
    first, second = taken_over
    results.settle([(first, came(204))], now=clock())
    assert (the_delivery().status, the_delivery().due_at, the_delivery().lease) == ("delivered", None, None)
    assert claims.claim(cipher(), capacity=lambda _: 1, now=LATER) == []

    results.settle([(second, came(status))], now=LATER)
    row = the_delivery()
    assert (row.status, row.due_at, row.lease, row.step, row.attempt_count) == ("delivered", None, None, 0, 3)
    assert [attempt[1] for attempt in the_attempts()] == [None, 204, status]


def test_late_failure_does_not_undo_the_success_of_the_worker_that_took_over(taken_over, clock):
    first, second = taken_over
    results.settle([(second, came(200))], now=clock())
    results.settle([(first, came(500))], now=clock())

    row = the_delivery()
    assert (row.status, row.due_at, row.lease, row.attempt_count) == ("delivered", None, None, 3)
    assert the_attempts() == [(1, None, LOST), (2, 200, None), (3, 500, None)]


def test_both_attempts_settled_by_one_worker_at_once_are_counted_in_turn(taken_over, clock):
    """As when it could not settle the first before its own lease ran out, because the database was away."""
    first, second = taken_over
    results.settle([(first, came(500)), (second, came(500))], now=clock())

    row = the_delivery()
    assert (row.status, row.step, row.attempt_count, row.lease) == ("pending", 1, 3, None)
    assert [attempt[0] for attempt in the_attempts()] == [1, 2, 3]


def test_both_attempts_settled_by_two_workers_at_once_are_both_in_the_log(context, clock):
    open_endpoint()
    pay(40)
    first = claims.claim(cipher(), capacity=lambda _: 40, now=START)
    clock.move(seconds=limits.LEASE_SECONDS)
    second = claims.claim(cipher(), capacity=lambda _: 40, now=clock())

    def settle(deliveries: list[ClaimedDelivery], status: int) -> None:
        for delivery in random.sample(deliveries, len(deliveries)):
            results.settle([(delivery, came(status))], now=clock())

    together(context, partial(settle, first, 500), partial(settle, second, 200))

    assert {(row.status, row.due_at, row.lease, row.attempt_count) for row in read_deliveries()} == {
        ("delivered", None, None, 3)
    }
    check_attempts()


def test_lost_attempt_is_told_of_as_it_was_although_a_person_asked_again(context, clock):
    open_endpoint()
    pay(1)
    claims.claim(cipher(), capacity=lambda _: 1, now=START)
    clock.move(seconds=limits.LEASE_SECONDS + 100)
    endpoints.retry(the_delivery().id, now=clock())
    clock.move(seconds=1)
    assert len(claims.claim(cipher(), capacity=lambda _: 1, now=clock())) == 1

    (attempt,) = read_attempts()[the_delivery().id]
    assert (attempt.number, attempt.error, attempt.started_at) == (1, LOST, START)


def test_lost_attempt_is_told_of_although_the_endpoint_was_disabled(context, clock):
    endpoint_id = open_endpoint()
    pay(1)
    claims.claim(cipher(), capacity=lambda _: 1, now=START)
    endpoints.disable(endpoint_id, now=clock())
    clock.move(seconds=limits.LEASE_SECONDS)
    assert claims.claim(cipher(), capacity=lambda _: 1, now=clock()) == []

    row = the_delivery()
    assert (row.status, row.due_at, row.lease, row.attempt_count) == ("paused", None, None, 1)
    assert the_attempts() == [(1, None, LOST)]


# ---- A dispatcher whose database comes and goes


@pytest.fixture
def receiver():
    with Receiver() as receiver:
        yield receiver


def test_attempt_is_written_down_once_although_giving_back_others_failed(context, receiver, monkeypatch):
    """The database went away between the two: what was settled before must not be settled again."""
    open_endpoint(receiver.url)
    pay(2)
    release, refusals = claims.release, iter([exc.OperationalError("", {}, Exception("gone"))])

    def release_later(deliveries: list[ClaimedDelivery], *, now: datetime) -> None:
        for refusal in refusals:
            raise refusal
        release(deliveries, now=now)

    monkeypatch.setattr(claims, "release", release_later)
    dispatcher = jobs.new_dispatcher()
    tried, untried = claims.claim(cipher(), capacity=lambda _: 2, now=START)
    dispatcher._unsettled = [(tried, came(200)), (untried, None)]
    with pytest.raises(exc.OperationalError):
        dispatcher._settle()
    dispatcher.close()

    assert [(row.status, row.attempt_count, row.lease) for row in read_deliveries()] == [
        ("delivered", 1, None),
        ("pending", 0, None),
    ]
    check_attempts()


@pytest.mark.parametrize(("took", "begun"), [(1, 1), (limits.LEASE_SECONDS - limits.DELIVERY_SECONDS, 0)])
def test_delivery_is_begun_unless_its_lease_could_run_out_meanwhile(context, receiver, monkeypatch, took, begun):
    open_endpoint(receiver.url)
    pay(1)
    claim, seconds = claims.claim, [0.0]

    def claim_slowly(*args: object, **kwargs: object) -> list[ClaimedDelivery]:
        deliveries = claim(*args, **kwargs)
        seconds[0] += took
        return deliveries

    monkeypatch.setattr(claims, "claim", claim_slowly)
    monkeypatch.setattr(dispatcher_module, "time", SimpleNamespace(monotonic=lambda: seconds[0]))
    dispatcher = jobs.new_dispatcher()
    dispatcher.step()
    dispatcher.wait(PATIENCE_SECONDS)
    dispatcher.close()

    assert len(receiver.received) == begun
    assert (the_delivery().attempt_count, the_delivery().lease) == (begun, None)


# ---- Everything at once


@dataclass
class Trip:
    """A lease as its worker saw it: from when on, when the claim was back by either clock, when settling it began."""

    delivery_id: int
    since: datetime
    back_at: datetime
    back: int
    settled: int | None = None


@dataclass
class Depot:
    """Workers without a network, people, and a clock that runs: all at once on one database."""

    clock: Callable[[], datetime]
    trips: list[Trip] = field(default_factory=list)
    tried: list[int] = field(default_factory=list)
    failures: Counter[int] = field(default_factory=Counter)
    over: threading.Event = field(default_factory=threading.Event)

    def work(self) -> None:
        """Claim and settle until all is over; vanish, dawdle or give back now and then."""
        dice = random.Random()
        while not self.over.is_set():
            now = self.clock()
            deliveries = claims.claim(cipher(), capacity=lambda _: 5, now=now)
            back_at, back = self.clock(), time.monotonic_ns()
            trips = [Trip(delivery.delivery_id, now, back_at, back) for delivery in deliveries]
            self.trips += trips
            fate = dice.random()
            if fate < 0.1:
                continue
            for trip in trips:
                trip.settled = time.monotonic_ns()
            if fate < 0.2:
                claims.release(deliveries, now=self.clock())
            elif deliveries:
                self.tried += [delivery.delivery_id for delivery in deliveries]
                results.settle([(delivery, self.try_(delivery, dice)) for delivery in deliveries], now=self.clock())

    def try_(self, delivery: ClaimedDelivery, dice: random.Random) -> Attempt:
        """Fail in every other case, but never so often that a delivery is exhausted."""
        if dice.random() < 0.5 and self.failures[delivery.delivery_id] < 3:
            self.failures[delivery.delivery_id] += 1
            return came(dice.choice([500, None]), at=self.clock())
        return came(200, at=self.clock())

    def overlaps(self) -> list[tuple[Trip, Trip]]:
        """Return the leases of one delivery that were held at the same time."""
        found = []
        in_order = sorted(self.trips, key=lambda trip: (trip.delivery_id, trip.back))
        for _, trips in itertools.groupby(in_order, lambda trip: trip.delivery_id):
            for before, after in itertools.combinations(trips, 2):
                settled = before.settled is not None and before.settled < after.back
                # By the clock and not by when the second began: whoever ended the first may have been ahead of it.
                if not settled and after.back_at < before.since + LEASE:
                    found.append((before, after))
        return found


def ask_again(depot: Depot) -> None:
    dice = random.Random()
    for _ in range(150):
        with suppress(DeliveryUnderWay, EndpointDisabled, EndpointUnknown):
            endpoints.retry(dice.choice(read_deliveries()).id, now=depot.clock())


def switch(depot: Depot, endpoint_ids: list[int]) -> None:
    for number in range(60):
        endpoints.disable(endpoint_ids[number % len(endpoint_ids)], now=depot.clock())
        time.sleep(0.002)
        endpoints.enable(endpoint_ids[number % len(endpoint_ids)], now=depot.clock())


def play_again(depot: Depot, endpoint_ids: list[int]) -> None:
    for number in range(20):
        with suppress(EndpointDisabled, EndpointUnknown):
            replays.start(endpoint_ids[number % len(endpoint_ids)], since=START, by="test", now=depot.clock())
        while replays.continue_oldest(now=depot.clock()):
            pass


def test_workers_people_replays_and_credits_at_once_lose_and_double_nothing(app, context, clock, check_ledger):
    make_org()
    kept = [open_endpoint(), open_endpoint(inn=INN, ordered=True)]
    doomed = open_endpoint()
    pay(30)
    depot = Depot(clock)
    busy = threading.Semaphore(0)

    def credit() -> None:
        for _ in range(40):
            pay(1, now=clock())

    def remove() -> None:
        wait_until(lambda: len(depot.trips) > 50)
        endpoints.remove(doomed, now=clock())

    def run_clock() -> None:
        while not depot.over.is_set():
            clock.move(seconds=random.choice([0.5, 7, 30, 400]))
            time.sleep(0.005)

    people = [
        partial(ask_again, depot),
        partial(switch, depot, kept),
        partial(play_again, depot, [*kept, doomed]),
        credit,
        remove,
    ]

    def last(part: Callable[[], None]) -> None:
        try:
            part()
        finally:
            busy.release()

    def end() -> None:
        for _ in people:
            busy.acquire(timeout=PATIENCE_SECONDS)
        depot.over.set()

    together(app, *[depot.work] * 5, run_clock, end, *(partial(last, part) for part in people))

    assert depot.overlaps() == []
    lost_before = sum(attempt.error == LOST for attempts in read_attempts().values() for attempt in attempts)
    assert lost_before > 0
    finish(depot, clock)
    rows = read_deliveries()
    assert {row.status for row in rows if row.endpoint_id in kept} == {"delivered"}
    assert {row.status for row in rows if row.endpoint_id == doomed} <= {"delivered", "paused"}
    assert {(row.due_at, row.lease) for row in rows} == {(None, None)}
    check_attempts()
    told = Counter(id_ for id_, attempts in read_attempts().items() for one in attempts if one.error != LOST)
    assert told == Counter(depot.tried)
    check_ledger()


def finish(depot: Depot, clock) -> None:
    """Deliver whatever is left, moving the clock to where it is due."""
    while (due_at := next_due()) is not None:
        clock.moment = max(clock.moment, due_at)
        deliveries = claims.claim(cipher(), capacity=lambda _: 50, now=clock())
        depot.tried += [delivery.delivery_id for delivery in deliveries]
        if deliveries:
            results.settle([(delivery, came(200, at=clock())) for delivery in deliveries], now=clock())


@pytest.mark.parametrize("migrated", databases.SERVERS, indirect=True)
def test_endpoint_enabled_while_a_worker_sets_its_deliveries_aside_gets_them_all_the_same(app, context):
    """The worker has read that it is disabled, and writes what follows from that after it was enabled."""
    endpoint_id = open_endpoint()
    pay(3)
    endpoints.disable(endpoint_id, now=START)
    worker, enabled = threading.current_thread(), threading.Event()

    def enable() -> None:
        with app.app_context():
            endpoints.enable(endpoint_id, now=START)
        enabled.set()

    def interfere(_connection, _cursor, statement: str, *_: object) -> None:
        if "endpoints.secrets" in statement and threading.current_thread() is worker and not enabled.is_set():
            with ThreadPoolExecutor(1) as pool:
                pool.submit(enable).result(PATIENCE_SECONDS)

    with app.app_context():
        event.listen(db.engine, "after_cursor_execute", interfere)
        try:
            claims.claim(cipher(), capacity=lambda _: 5, now=START)
        finally:
            event.remove(db.engine, "after_cursor_execute", interfere)
        assert enabled.is_set()
        assert {row.status for row in read_deliveries()} == {"pending"}
        assert len(claims.claim(cipher(), capacity=lambda _: 5, now=LATER)) == 3


# ---- Credits, and endpoints that come and go


@dataclass
class Presence:
    """When an endpoint may have been there, was there, may have gone, and was gone."""

    id: int
    coming: int
    there: int
    inn: str | None
    leaving: int = 0
    gone: int = 0

    def expects(self, inn: str, begun: int, ended: int) -> int | None:
        """Tell how many deliveries a credit must have; None when it may be either way."""
        if self.inn not in (None, inn) or begun > self.gone or ended < self.coming:
            return 0
        return 1 if begun > self.there and ended < self.leaving else None


@dataclass
class Traffic:
    """Banks that pay all the while, and endpoints that come and go: who did what between which two moments."""

    app: Flask
    now: Callable[[], datetime]
    sent: list[tuple[str, str, int, int]] = field(default_factory=list)
    presences: list[Presence] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def send(self) -> None:
        bank, dice = Bank(self.app.test_client()), random.Random()
        while not self.over.is_set():
            inn, begun = dice.choice(INNS), time.monotonic_ns()
            answer = bank.send(operation_id=str(uuid.uuid4()), payer_inn=inn)
            assert (answer.status_code, answer.json["status"]) == (200, "credited")
            self.sent.append((answer.json["payment_id"], inn, begun, time.monotonic_ns()))

    def come_and_go(self, inn: str | None) -> None:
        begun = time.monotonic_ns()
        presence = Presence(open_endpoint(inn=inn), begun, time.monotonic_ns(), inn)
        count = len(self.sent)
        wait_until(lambda: len(self.sent) >= count + 4)
        presence.leaving = time.monotonic_ns()
        endpoints.disable(presence.id, now=self.now())
        presence.gone = time.monotonic_ns()
        self.presences.append(presence)

    def visit(self) -> None:
        try:
            for _ in range(12):
                self.come_and_go(None)
                self.come_and_go(INNS[0])
        finally:
            self.over.set()


def test_move_that_was_credited_while_an_endpoint_was_there_has_one_delivery_for_it(app, context, clock, check_ledger):
    for inn in INNS:
        make_org(inn)
    traffic = Traffic(app, clock)

    together(app, *[traffic.send] * 6, traffic.visit)

    same = and_(BalanceLog.organization_id == DELIVERIES.c.organization_id, BalanceLog.version == DELIVERIES.c.version)
    rows = look_up(select(DELIVERIES.c.endpoint_id, BalanceLog.payment_id).join(BalanceLog, same))
    received = Counter((row.endpoint_id, str(row.payment_id)) for row in rows)
    assert set(received.values()) == {1}
    certain = 0
    for presence, (payment_id, inn, begun, ended) in itertools.product(traffic.presences, traffic.sent):
        expected = presence.expects(inn, begun, ended)
        certain += expected == 1
        assert expected in (None, received[presence.id, payment_id])
    assert certain > 0
    check_ledger()


# ---- In order


@dataclass
class Listener:
    """A receiver that fails at random and keeps what it received when, and what it had taken by then."""

    failures: Counter[str] = field(default_factory=Counter)
    taken: dict[str, set[int]] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, received: ReceivedRequest) -> Answer:
        body = json.loads(received.body)
        inn, version = body["data"]["organization"], body["data"]["version"]
        with self.lock:
            taken = self.taken.setdefault(inn, set())
            if version > 1 and version - 1 not in taken:
                self.findings.append(f"{inn}: {version} came before {version - 1} was taken")
            if random.random() < 0.3 and self.failures[body["id"]] < 3:
                self.failures[body["id"]] += 1
                return 500, {}, b"not now"
        # Slower than the couriers look around, so that they meet what is under way.
        time.sleep(random.uniform(0, 0.02))
        with self.lock:
            taken.add(version)
        return 200, {}, b"ok"


def test_ordered_endpoint_hears_of_a_move_only_after_it_has_taken_the_one_before(app, context, clock):
    listener = Listener()
    events_each = 12
    for inn in INNS:
        make_org(inn)
    with Receiver(listener.answer) as receiver:
        open_endpoint(receiver.url, ordered=True)
        for inn in random.sample(INNS, 3) * events_each:
            pay(1, inn=inn)
        over = threading.Event()

        def run_dispatcher() -> None:
            dispatcher = jobs.new_dispatcher()
            try:
                while not over.is_set():
                    if not dispatcher.step():
                        dispatcher.wait(0.01)
            finally:
                dispatcher.close()

        def move_clock() -> None:
            def moved_to_the_end() -> bool:
                due_at = next_due()
                if due_at is not None and due_at > clock() and not count_leased():
                    clock.moment = due_at
                return due_at is None

            try:
                wait_until(moved_to_the_end, why=read_deliveries)
            finally:
                over.set()

        together(app, *[run_dispatcher] * 4, move_clock)

    assert listener.findings == []
    assert listener.taken == {inn: set(range(1, events_each + 1)) for inn in INNS}
    assert {row.status for row in read_deliveries()} == {"delivered"}
    assert sum(listener.failures.values()) > 0
    check_attempts()
    # Exactly once, because nobody vanished: one request for each failure and one more.
    assert len(receiver.received) == 3 * events_each + sum(listener.failures.values())

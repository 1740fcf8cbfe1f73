"""Workers, people, replays and credits at once, on a clock that runs: nothing is lost and nothing doubled."""

import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from context import cipher
from errors import DeliveryUnderWay, EndpointDisabled, EndpointUnknown
from outbox import claims, endpoints, replays, results
from outbox.claims import LOST
from outbox.delivery import Attempt, ClaimedDelivery
from tests.factories import INN, START, make_org
from tests.outboxes import (
    PATIENCE_SECONDS,
    came,
    check_attempts,
    next_due,
    open_endpoint,
    pay,
    read_attempts,
    read_deliveries,
    together,
    wait_until,
)
from tests.races.outbox.helpers import LEASE


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

"""Workers, people, replays and credits at once, on a clock that runs: nothing is lost and nothing doubled."""

import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from flask import Flask

from context import cipher
from errors import DeliveryUnderWay, EndpointDisabled, EndpointUnknown
from outbox import claims, endpoints, replays, results
from outbox.claims import LOST
from outbox.delivery import Attempt, ClaimedDelivery
from tests.conftest import Clock
from tests.factories import INN, START, make_org
from tests.outboxes import (
    attempt_with,
    check_attempts,
    next_due,
    open_endpoint,
    pay,
    read_attempts,
    read_deliveries,
    together,
)
from tests.races.outbox.helpers import LEASE
from tests.waiting import PATIENCE_SECONDS, wait_until


@dataclass
class HeldLease:
    """A lease as its worker saw it: from when on, when the claim was back by either clock, when settling it began."""

    delivery_id: int
    since: datetime
    back_at: datetime
    back: int
    settled: int | None = None


@dataclass
class Simulation:
    """Workers without a network, people, and a clock that runs: all at once on one database."""

    clock: Callable[[], datetime]
    leases: list[HeldLease] = field(default_factory=list)
    tried: list[int] = field(default_factory=list)
    failures: Counter[int] = field(default_factory=Counter)
    over: threading.Event = field(default_factory=threading.Event)

    def work(self) -> None:
        """Claim and settle until all is over; vanish, be slow, or give back now and then."""
        rng = random.Random()
        while not self.over.is_set():
            now = self.clock()
            deliveries = claims.claim(cipher(), capacity=lambda _: 5, now=now)
            back_at, back = self.clock(), time.monotonic_ns()
            leases = [HeldLease(delivery.delivery_id, now, back_at, back) for delivery in deliveries]
            self.leases += leases
            chance = rng.random()
            if chance < 0.1:
                continue
            for lease in leases:
                lease.settled = time.monotonic_ns()
            if chance < 0.2:
                claims.release(deliveries, now=self.clock())
            elif deliveries:
                self.tried += [delivery.delivery_id for delivery in deliveries]
                results.settle([(delivery, self.try_(delivery, rng)) for delivery in deliveries], now=self.clock())

    def try_(self, delivery: ClaimedDelivery, rng: random.Random) -> Attempt:
        """Fail in every other case, but never so often that a delivery is exhausted."""
        if rng.random() < 0.5 and self.failures[delivery.delivery_id] < 3:
            self.failures[delivery.delivery_id] += 1
            return attempt_with(rng.choice([500, None]), at=self.clock())
        return attempt_with(200, at=self.clock())

    def overlaps(self) -> list[tuple[HeldLease, HeldLease]]:
        """Return the leases of one delivery that were held at the same time."""
        found = []
        in_order = sorted(self.leases, key=lambda lease: (lease.delivery_id, lease.back))
        for _, leases in itertools.groupby(in_order, lambda lease: lease.delivery_id):
            for before, after in itertools.combinations(leases, 2):
                settled = before.settled is not None and before.settled < after.back
                # By the clock and not by when the second began: whoever ended the first may have been ahead of it.
                if not settled and after.back_at < before.since + LEASE:
                    found.append((before, after))
        return found


def ask_again(simulation: Simulation) -> None:
    rng = random.Random()
    for _ in range(150):
        with suppress(DeliveryUnderWay, EndpointDisabled, EndpointUnknown):
            endpoints.retry(rng.choice(read_deliveries()).id, now=simulation.clock())


def switch(simulation: Simulation, endpoint_ids: list[int]) -> None:
    for number in range(60):
        endpoints.disable(endpoint_ids[number % len(endpoint_ids)], now=simulation.clock())
        time.sleep(0.002)
        endpoints.enable(endpoint_ids[number % len(endpoint_ids)], now=simulation.clock())


def play_again(simulation: Simulation, endpoint_ids: list[int]) -> None:
    for number in range(20):
        with suppress(EndpointDisabled, EndpointUnknown):
            replays.start(endpoint_ids[number % len(endpoint_ids)], since=START, by="test", now=simulation.clock())
        while replays.continue_oldest(now=simulation.clock()):
            pass


def credit_on(simulation: Simulation) -> None:
    for _ in range(40):
        pay(1, now=simulation.clock())


def remove(simulation: Simulation, endpoint_id: int) -> None:
    wait_until(lambda: len(simulation.leases) > 50)
    endpoints.remove(endpoint_id, now=simulation.clock())


def run_clock(simulation: Simulation, clock: Clock) -> None:
    while not simulation.over.is_set():
        clock.move(seconds=random.choice([0.5, 7, 30, 400]))
        time.sleep(0.005)


def run_until_ended(
    app: Flask, simulation: Simulation, *people: Callable[[], None], beside: Sequence[Callable[[], None]]
) -> None:
    """Run people, and what goes on beside them until the last of them has ended."""
    at_work = threading.Semaphore(0)

    def ending(person: Callable[[], None]) -> None:
        try:
            person()
        finally:
            at_work.release()

    def end() -> None:
        for _ in people:
            at_work.acquire(timeout=PATIENCE_SECONDS)
        simulation.over.set()

    together(app, *beside, end, *(partial(ending, person) for person in people))


def test_workers_people_replays_and_credits_at_once_lose_and_double_nothing(app, context, clock, check_ledger):
    make_org()
    kept = [open_endpoint(), open_endpoint(inn=INN, ordered=True)]
    removed = open_endpoint()
    pay(30)
    simulation = Simulation(clock)

    run_until_ended(
        app,
        simulation,
        partial(ask_again, simulation),
        partial(switch, simulation, kept),
        partial(play_again, simulation, [*kept, removed]),
        partial(credit_on, simulation),
        partial(remove, simulation, removed),
        beside=[*[simulation.work] * 5, partial(run_clock, simulation, clock)],
    )

    assert simulation.overlaps() == []
    lost_before = sum(attempt.error == LOST for attempts in read_attempts().values() for attempt in attempts)
    assert lost_before > 0
    finish(simulation, clock)
    rows = read_deliveries()
    assert {row.status for row in rows if row.endpoint_id in kept} == {"delivered"}
    assert {row.status for row in rows if row.endpoint_id == removed} <= {"delivered", "paused"}
    assert {(row.due_at, row.lease) for row in rows} == {(None, None)}
    check_attempts()
    logged = Counter(id_ for id_, attempts in read_attempts().items() for one in attempts if one.error != LOST)
    assert logged == Counter(simulation.tried)
    check_ledger()


def finish(simulation: Simulation, clock) -> None:
    """Deliver whatever is left, moving the clock to where it is due."""
    while (due_at := next_due()) is not None:
        clock.moment = max(clock.moment, due_at)
        deliveries = claims.claim(cipher(), capacity=lambda _: 50, now=clock())
        simulation.tried += [delivery.delivery_id for delivery in deliveries]
        if deliveries:
            results.settle([(delivery, attempt_with(200, at=clock())) for delivery in deliveries], now=clock())

"""What tests of the outbox share: endpoints, money in bulk, and a look at deliveries and attempts."""

import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

from flask import Flask
from sqlalchemy import func, select

import services
from context import cipher
from database.columns import UtcDateTime
from database.session import AnyRow, look_up, survives_deadlock, transaction
from enums import Scheme
from ledger.entries import Credit
from limits import BATCH_CREDITS_MAX
from outbox import claims, endpoints, results
from outbox.delivery import Attempt
from tests.factories import INN, START, make_credit
from tests.waiting import PATIENCE_SECONDS

"""How long something may take before the test gives up on it; nothing is measured by it."""

DELIVERIES, ATTEMPTS, ENDPOINTS = claims.DELIVERIES, results.ATTEMPTS, claims.ENDPOINTS


def open_endpoint(
    url: str = "http://127.0.0.1:9/", *, inn: str | None = None, ordered: bool = False, now: datetime = START
) -> int:
    """Register an endpoint on this machine, and return its number."""
    return endpoints.create(
        cipher(),
        url=url,
        scheme=Scheme.STANDARD,
        organization=inn,
        event_types="*",
        ordered=ordered,
        description="",
        loopback_allowed=True,
        https_only=False,
        now=now,
    ).id


def pay(count: int, *, inn: str = INN, now: datetime = START) -> None:
    """Credit so many payments, as callers do that share a transaction."""
    for done in range(0, count, BATCH_CREDITS_MAX):
        some = min(BATCH_CREDITS_MAX, count - done)
        credit([make_credit(inn=inn, received_at=now) for _ in range(some)])


@survives_deadlock
def credit(credits: Sequence[Credit]) -> None:
    """Take credits as a door does, all of them in one transaction."""
    with transaction() as session:
        services._take(session, credits)


def read_deliveries() -> Sequence[AnyRow]:
    """Return every delivery, by number."""
    return look_up(select(*DELIVERIES.c).order_by(DELIVERIES.c.id))


def read_attempts() -> dict[int, list[AnyRow]]:
    """Return the attempts of each delivery, by number."""
    found: dict[int, list[AnyRow]] = defaultdict(list)
    for row in look_up(select(*ATTEMPTS.c).order_by(ATTEMPTS.c.delivery_id, ATTEMPTS.c.number)):
        found[row.delivery_id].append(row)
    return found


def check_attempts() -> None:
    """Check that the attempts of each delivery are numbered from 1 without a gap, and are as many as it says."""
    attempts = read_attempts()
    for delivery in read_deliveries():
        assert [attempt.number for attempt in attempts[delivery.id]] == list(range(1, delivery.attempt_count + 1))


def next_due() -> datetime | None:
    """Return when the next delivery is due, or its lease ends; None when there is nothing left to do."""
    query = select(func.min(DELIVERIES.c.due_at, type_=UtcDateTime))
    moment: datetime | None = look_up(query)[0][0]
    return moment


def count_leased() -> int:
    """Return how many deliveries a worker holds, or held when it vanished."""
    return int(look_up(select(func.count()).where(DELIVERIES.c.lease.is_not(None)))[0][0])


def attempt_with(status: int | None, *, at: datetime = START) -> Attempt:
    """Return an attempt that brought this status, or no answer."""
    return Attempt(
        started_at=at,
        duration_ms=0,
        status=status,
        excerpt="",
        error=None if status else "No answer.",
        retry_after_seconds=None,
    )


def together(app: Flask, *parts: Callable[[], Any]) -> list[Any]:
    """Run parts side by side, each inside the app; return what each returned, or raise what one of them raised."""
    start_line = threading.Barrier(len(parts), timeout=PATIENCE_SECONDS)

    def run(part: Callable[[], Any]) -> Any:
        with app.app_context():
            start_line.wait()
            return part()

    with ThreadPoolExecutor(len(parts)) as pool:
        return [running.result() for running in [pool.submit(run, part) for part in parts]]

"""One step of a worker without sending: claim() as many deliveries of one endpoint as fit, then settle() them."""

import time
from datetime import UTC, datetime
from itertools import cycle

from flask import Flask
from sqlalchemy import select

from bench.checks import check
from bench.latency import Call
from context import cipher
from database.session import look_up
from limits import CLAIM_ROUNDS, ENDPOINT_SENDERS_MAX
from outbox import claims, results
from outbox.delivery import Attempt

BATCH = CLAIM_ROUNDS * ENDPOINT_SENDERS_MAX
"""Number of deliveries that a worker claims for a quick endpoint while it holds none of it."""


def claim_and_settle(app: Flask) -> Call:
    """Return a call that claims and settles one batch. Each call takes the next endpoint."""
    with app.app_context():
        endpoint_ids = cycle(row.id for row in look_up(select(claims.ENDPOINTS.c.id)))

    def call() -> float:
        chosen = next(endpoint_ids)
        with app.app_context():
            begun = time.perf_counter()
            now = datetime.now(UTC)
            deliveries = claims.claim(cipher(), capacity=lambda waiting: BATCH * (waiting.id == chosen), now=now)
            results.settle([(delivery, _delivered(now)) for delivery in deliveries], now=now)
            milliseconds = (time.perf_counter() - begun) * 1000
        check(len(deliveries) == BATCH, f"{len(deliveries)} deliveries were claimed, not {BATCH}")
        return milliseconds

    return call


def _delivered(now: datetime) -> Attempt:
    return Attempt(started_at=now, duration_ms=12, status=200, excerpt="", error=None, retry_after_seconds=None)

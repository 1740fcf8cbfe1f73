"""Turns of a worker without sending: claim() as much as it has room for of one endpoint, then settle() it."""

import time
from datetime import UTC, datetime
from itertools import cycle

from flask import Flask
from sqlalchemy import select

from bench.singles import Call
from bench.truth import hold
from context import cipher
from database.session import look_up
from limits import CLAIM_ROUNDS, ENDPOINT_SENDERS_MAX
from outbox import claims, results
from outbox.delivery import Attempt

PLACES = CLAIM_ROUNDS * ENDPOINT_SENDERS_MAX
"""How many deliveries a worker claims for an endpoint that is quick and has none in hand."""


def turn(app: Flask) -> Call:
    """Return a turn, for one endpoint after the other."""
    with app.app_context():
        endpoint_ids = cycle(row.id for row in look_up(select(claims.ENDPOINTS.c.id)))

    def call() -> float:
        chosen = next(endpoint_ids)
        with app.app_context():
            begun = time.perf_counter()
            now = datetime.now(UTC)
            deliveries = claims.claim(cipher(), capacity=lambda endpoint_id: PLACES * (endpoint_id == chosen), now=now)
            results.settle([(delivery, _delivered(now)) for delivery in deliveries], now=now)
            milliseconds = (time.perf_counter() - begun) * 1000
        hold(len(deliveries) == PLACES, f"{len(deliveries)} deliveries were claimed, not {PLACES}")
        return milliseconds

    return call


def _delivered(now: datetime) -> Attempt:
    return Attempt(started_at=now, duration_ms=12, status=200, excerpt="", error=None, retry_after_seconds=None)

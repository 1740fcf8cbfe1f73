"""What rows about events need: an endpoint, deliveries that are due, and counts of their results."""

import random
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import NullPool, TextClause, create_engine, text

from bench.checks import check
from bench.databases import Database
from bench.in_process import app_context
from bench.load import credit_body
from context import cipher
from database.session import AnyRow, transaction
from enums import EVERYTHING, Scheme, UnknownInn
from ledger import inbox
from ledger.inbox import QueuedWebhook
from limits import BATCH_CREDITS_MAX
from outbox import endpoints
from worker import jobs

UNUSED_URL = "http://127.0.0.1:9/"
"""URL of endpoints to which nothing is sent."""

DELIVERY_COUNTS = text("""
SELECT count(*) AS deliveries, count(*) FILTER (WHERE status = 'delivered' AND attempt_count = 1) AS delivered,
    count(due_at) AS due, (SELECT count(*) FROM delivery_attempts) AS attempts
FROM deliveries
""")
EVENT_COUNT = text("SELECT count(*) FROM events WHERE id = ANY(CAST(:ids AS uuid[]))")


@dataclass(frozen=True, kw_only=True)
class DeliveryCounts:
    """Counts of a database. `delivered` counts only deliveries that needed one attempt."""

    deliveries: int
    delivered: int
    due: int
    attempts: int


def subscribe(url: str, *, inn: str | None = None) -> str:
    """Register an endpoint for the events of one organisation or of all. Return its secret. Needs an app context."""
    revealed = endpoints.create(
        cipher(),
        url=url,
        scheme=Scheme.STANDARD,
        organization=inn,
        event_types=EVERYTHING,
        ordered=False,
        description="",
        loopback_allowed=True,
        https_only=False,
        now=datetime.now(UTC),
    )
    return revealed.secret


def subscribe_all(database: Database, url: str) -> str:
    """Register an endpoint for every event of all organisations, and return its secret."""
    with app_context(database):
        return subscribe(url)


def credit_through_inbox(inns: list[str], count: int) -> None:
    """Credit webhooks to random organisations through the worker's job. Needs an app context."""
    for start in range(0, count, BATCH_CREDITS_MAX):
        numbers = range(start, min(start + BATCH_CREDITS_MAX, count))
        bodies = [credit_body(random.choice(inns), number) for number in numbers]  # noqa: S311 - not a secret
        with transaction() as session:
            inbox.put(session, [_webhook(body) for body in bodies])
        credited = jobs.credit()
        check(credited == len(numbers), f"{credited} of {len(numbers)} webhooks were credited")


def delivery_counts(database: Database) -> DeliveryCounts:
    """Return the counts of a database."""
    row = _one(database, DELIVERY_COUNTS)
    return DeliveryCounts(**row._mapping)


def event_count(database: Database, event_ids: set[str]) -> int:
    """Return how many of these events exist."""
    return int(_one(database, EVENT_COUNT, ids=list(event_ids))[0])


def _one(database: Database, query: TextClause, **params: object) -> AnyRow:
    engine = create_engine(database.url, poolclass=NullPool)
    with engine.connect() as connection:
        return connection.execute(query, params).one()


def _webhook(body: bytes) -> QueuedWebhook:
    return QueuedWebhook(
        source="plain",
        content_type="application/json",
        body=body,
        key_id="bench",
        message_id=None,
        unknown_inn=UnknownInn.CREATE,
        received_at=datetime.now(UTC),
    )

"""What rows about events stand on: an endpoint, deliveries that wait for it, and what became of them."""

import random
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import NullPool, TextClause, create_engine, text

import signing
from bench.databases import Database
from bench.inside import inside
from bench.load import SECRET, credit_body
from bench.truth import hold
from context import cipher
from database.session import AnyRow, transaction
from enums import EVERYTHING, Scheme
from ledger import inbox
from ledger.inbox import QueuedWebhook
from limits import BATCH_CREDITS_MAX
from outbox import endpoints
from worker import jobs

NOWHERE = "http://127.0.0.1:9/"
"""For endpoints of which nobody is to send anything."""

STANDING = text("""
SELECT count(*) AS deliveries, count(*) FILTER (WHERE status = 'delivered' AND attempt_count = 1) AS delivered,
    count(due_at) AS open, (SELECT count(*) FROM delivery_attempts) AS attempts
FROM deliveries
""")
KNOWN = text("SELECT count(*) FROM events WHERE id = ANY(CAST(:ids AS uuid[]))")


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How a database's deliveries stand; `delivered` are those whose first attempt was the only one."""

    deliveries: int
    delivered: int
    open: int
    attempts: int


def subscribe(url: str, *, inn: str | None = None) -> str:
    """Register an endpoint for every event of one organisation, or of all, and return its secret; inside the app."""
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


def subscribed(database: Database, url: str) -> str:
    """Register an endpoint for every event of everybody, and return its secret."""
    with inside(database):
        return subscribe(url)


def credit_through_inbox(inns: list[str], count: int) -> None:
    """Credit so many webhooks, each to one of these organisations at random, by the worker's job; inside the app."""
    for done in range(0, count, BATCH_CREDITS_MAX):
        some = range(done, min(done + BATCH_CREDITS_MAX, count))
        bodies = [credit_body(random.choice(inns), number) for number in some]  # noqa: S311 - not a secret
        with transaction() as session:
            inbox.put(session, [_arrival(body) for body in bodies])
        credited = jobs.credit()
        hold(credited == len(some), f"{credited} of {len(some)} webhooks were credited")


def standing(database: Database) -> Standing:
    """Return how the deliveries stand."""
    row = _one(database, STANDING)
    return Standing(**row._mapping)


def known(database: Database, event_ids: set[str]) -> int:
    """Return how many of these events there are."""
    return int(_one(database, KNOWN, ids=list(event_ids))[0])


def _one(database: Database, query: TextClause, **told: object) -> AnyRow:
    engine = create_engine(database.url, poolclass=NullPool)
    with engine.connect() as connection:
        return connection.execute(query, told).one()


def _arrival(body: bytes) -> QueuedWebhook:
    return QueuedWebhook(
        source="plain",
        content_type="application/json",
        body=body,
        key_id=signing.key_id(SECRET),
        received_at=datetime.now(UTC),
    )

"""Use cases: finished deliveries that are old go, their attempts with them, and events that nobody waits for.

Called by `flask prune`. Touches nothing that a worker, a replay or a person may still send; the ledger can make an
event anew whenever it is asked for.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, and_, delete, exists, func, not_, or_, select

from database.bulk import affected, table_of
from database.session import look_up, snapshot, survives_deadlock, transaction
from enums import DeliveryStatus
from models import Delivery, DeliveryAttempt, Endpoint, Event, Replay

DELIVERIES, ATTEMPTS, ENDPOINTS = table_of(Delivery), table_of(DeliveryAttempt), table_of(Endpoint)
EVENTS, REPLAYS = table_of(Event), table_of(Replay)

BATCH_ROWS = 500
"""How many rows are deleted in one transaction, attempts not counted."""


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """How many rows are old and finished, or were deleted."""

    deliveries: int = 0
    attempts: int = 0
    events: int = 0


def count(before: datetime) -> Pruned:
    """Count what finished before a moment; an event counts if its last deliveries do."""
    kept = exists().where(DELIVERIES.c.event_id == EVENTS.c.id, not_(_is_finished(before))).correlate(EVENTS)
    attempts = select(func.count()).select_from(ATTEMPTS).join(DELIVERIES).where(_is_finished(before))
    with snapshot() as session:
        return Pruned(
            deliveries=session.scalar(select(func.count()).select_from(DELIVERIES).where(_is_finished(before))) or 0,
            attempts=session.scalar(attempts) or 0,
            events=session.scalar(
                select(func.count()).select_from(EVENTS).where(EVENTS.c.occurred_at < before, not_(kept))
            )
            or 0,
        )


def prune(before: datetime) -> Iterator[Pruned]:
    """Delete what finished before a moment, and yield what each batch took; stopped anywhere, it can be run again."""
    last: int | None = None
    while ids := _old_deliveries(before, last):
        yield _prune_deliveries(ids, before)
        last = ids[-1]
    after: UUID | None = None
    while event_ids := _old_events(before, after):
        yield _prune_events(event_ids)
        after = event_ids[-1]


def _is_finished(before: datetime) -> ColumnElement[bool]:
    """Return the condition of a delivery that finished before a moment, and was not tried since."""
    settled = and_(
        DELIVERIES.c.status.in_((DeliveryStatus.DELIVERED, DeliveryStatus.EXHAUSTED)), DELIVERIES.c.settled_at < before
    )
    # What is paused waits for its endpoint to be enabled again, unless that was deleted.
    gone = (
        exists()
        .where(ENDPOINTS.c.id == DELIVERIES.c.endpoint_id, ENDPOINTS.c.deleted_at < before)
        .correlate(DELIVERIES)
    )
    never_sent = and_(DELIVERIES.c.status == DeliveryStatus.PAUSED, DELIVERIES.c.created_at < before, gone)
    replayed = (
        exists()
        .where(
            REPLAYS.c.endpoint_id == DELIVERIES.c.endpoint_id,
            or_(REPLAYS.c.finished_at.is_(None), REPLAYS.c.sweep_at.is_not(None)),
        )
        .correlate(DELIVERIES)
    )
    attempt = ATTEMPTS.alias("attempt")
    tried_since = exists().where(attempt.c.delivery_id == DELIVERIES.c.id, attempt.c.started_at >= before)
    idle = (DELIVERIES.c.due_at.is_(None), DELIVERIES.c.lease.is_(None))
    return and_(*idle, or_(settled, never_sent), not_(replayed), not_(tried_since.correlate(DELIVERIES)))


def _old_deliveries(before: datetime, last: int | None) -> list[int]:
    query = select(DELIVERIES.c.id).where(_is_finished(before)).order_by(DELIVERIES.c.id)
    return [row.id for row in look_up(_next(query, DELIVERIES.c.id, last))]


def _old_events(before: datetime, after: UUID | None) -> list[UUID]:
    query = select(EVENTS.c.id).where(EVENTS.c.occurred_at < before, _is_unwanted()).order_by(EVENTS.c.id)
    return [row.id for row in look_up(_next(query, EVENTS.c.id, after))]


def _next(query: Select[Any], key: ColumnElement[Any], last: object) -> Select[Any]:
    return (query if last is None else query.where(key > last)).limit(BATCH_ROWS)


def _is_unwanted() -> ColumnElement[bool]:
    return not_(exists().where(DELIVERIES.c.event_id == EVENTS.c.id).correlate(EVENTS))


@survives_deadlock
def _prune_deliveries(ids: Sequence[int], before: datetime) -> Pruned:
    """Delete those of the deliveries that nobody has asked for since they were found; attempts go with them."""
    with transaction() as session:
        chosen = select(DELIVERIES.c.id).where(DELIVERIES.c.id.in_(ids)).order_by(DELIVERIES.c.id)
        held = list(session.scalars(chosen.with_for_update(skip_locked=True)))
        # Asked anew under the locks: what was changed meanwhile is seen by a statement that begins now.
        finished = list(session.scalars(select(DELIVERIES.c.id).where(DELIVERIES.c.id.in_(held), _is_finished(before))))
        attempts = session.scalar(select(func.count()).where(ATTEMPTS.c.delivery_id.in_(finished)))
        deleted = session.execute(delete(DELIVERIES).where(DELIVERIES.c.id.in_(finished)))
        return Pruned(deliveries=affected(deleted), attempts=attempts or 0)


@survives_deadlock
def _prune_events(ids: Sequence[UUID]) -> Pruned:
    """Delete those of the events to which no delivery has been added since they were found."""
    with transaction() as session:
        free = select(EVENTS.c.id).where(EVENTS.c.id.in_(ids)).order_by(EVENTS.c.id).with_for_update(skip_locked=True)
        held = list(session.scalars(free))
        deleted = session.execute(delete(EVENTS).where(EVENTS.c.id.in_(held), _is_unwanted()))
        return Pruned(events=affected(deleted))

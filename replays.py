"""Use cases: an endpoint hears again of everything since a moment, what it never heard of included.

Started by a person through the API or the CLI, continued by a worker, a batch at a time. Sends nothing itself.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Select, func, insert, or_, select, update
from sqlalchemy.orm import Session

import events
import outbox
import rules
from database import AnyRow, db, insert_absent, inserted_id, look_up, survives_deadlock, table_of, transaction
from errors import EndpointDisabled, EndpointUnknown, ReplayUnknown
from limits import REPLAY_BATCH_EVENTS
from models import Delivery, Endpoint, Payment, Replay
from models import Event as EventRow

ENDPOINTS, DELIVERIES, EVENTS, REPLAYS = (table_of(model) for model in (Endpoint, Delivery, EventRow, Replay))

NO_ENDPOINT = "No endpoint has this number; it may have been deleted."


@survives_deadlock
def start(endpoint_id: int, *, since: datetime, by: str, now: datetime) -> int:
    """Ask that an endpoint hears again of every move since a moment, also of those that it never heard of.

    Returns the number of the replay; a worker queues the events. Raises EndpointUnknown or EndpointDisabled.
    """
    with transaction() as session:
        endpoint = _endpoint(session, endpoint_id)
        if endpoint.deleted_at is not None:
            raise EndpointUnknown(NO_ENDPOINT)
        if endpoint.disabled_at is not None:
            raise EndpointDisabled("Nothing is sent to an endpoint that is disabled; enable it first.")
        row = {"endpoint_id": endpoint_id, "since": since, "asked_by": by, "created_at": now, "queued": 0}
        return inserted_id(session.execute(insert(REPLAYS).values(row)))


def find(endpoint_id: int, replay_id: int) -> dict[str, Any]:
    """Return a replay with how many of its deliveries are queued and still open; raise ReplayUnknown."""
    still_open = (
        select(func.count())
        .where(DELIVERIES.c.endpoint_id == endpoint_id, DELIVERIES.c.due_at.is_not(None))
        .where(DELIVERIES.c.replay_id == replay_id)
    )
    row = db.session.execute(
        select(*REPLAYS.c, still_open.scalar_subquery().label("open")).where(
            REPLAYS.c.id == replay_id, REPLAYS.c.endpoint_id == endpoint_id
        )
    ).one_or_none()
    if row is None:
        raise ReplayUnknown("This endpoint has no replay of this number.")
    return row._asdict()


@survives_deadlock
def continue_oldest(*, now: datetime) -> int:
    """Queue the next events of the oldest replay that is not finished; return how many moves were looked at.

    Read from the ledger, by payment: what happened while nobody listened has its event made now.
    """
    unfinished = select(REPLAYS.c.id).where(REPLAYS.c.finished_at.is_(None)).limit(1)
    if not look_up(unfinished):
        return 0
    with transaction() as session:
        wish = session.execute(
            select(*REPLAYS.c)
            .where(REPLAYS.c.finished_at.is_(None))
            .order_by(REPLAYS.c.id)
            .limit(1)
            .with_for_update(skip_locked=True)
        ).one_or_none()
        if wish is None:
            return 0
        endpoint = _endpoint(session, wish.endpoint_id)
        moves = session.execute(_moves_query(wish, endpoint)).all() if endpoint.disabled_at is None else []
        if moves and rules.listens_to(endpoint.event_types, rules.CREDITED):
            _queue(session, wish, moves, now)
        progress = {"queued": wish.queued + len(moves), "cursor": moves[-1].payment_id if moves else wish.cursor}
        if len(moves) < REPLAY_BATCH_EVENTS:
            progress["finished_at"] = now
        session.execute(update(REPLAYS).where(REPLAYS.c.id == wish.id).values(progress))
    return max(len(moves), 1)


def _moves_query(wish: AnyRow, endpoint: AnyRow) -> Select[Any]:
    after = wish.cursor or _first_id_at(wish.since)
    query = (
        events.moves_query()
        .where(Payment.id > after, Payment.received_at <= wish.created_at)
        .order_by(Payment.id)
        .limit(REPLAY_BATCH_EVENTS)
    )
    if endpoint.organization_id is not None:
        query = query.where(Payment.organization_id == endpoint.organization_id)
    return query


def _first_id_at(moment: datetime) -> UUID:
    """Return what sorts before the id of every payment since a moment: ids are UUIDv7, milliseconds first.

    They count from 1970, and nothing was paid before.
    """
    return UUID(int=max(0, int(moment.timestamp() * 1000)) << 80)


def _queue(session: Session, wish: AnyRow, moves: Sequence[AnyRow], now: datetime) -> None:
    """Make the events and deliveries that are missing, and have all of them sent, but those that a worker holds."""
    connection = session.connection()
    found = [events.of_move(row._asdict()) for row in moves]
    insert_absent(connection, EVENTS, [vars(event) for event in found], unique="id")
    rows = [outbox.delivery_row(event, wish.endpoint_id, now) for event in found]
    insert_absent(connection, DELIVERIES, rows, unique=("endpoint_id", "event_id"))
    free = or_(DELIVERIES.c.lease.is_(None), DELIVERIES.c.due_at <= now)
    again = {"status": "pending", "cause": "replay", "step": 0, "replay_id": wish.id}
    session.execute(
        update(DELIVERIES)
        .where(DELIVERIES.c.endpoint_id == wish.endpoint_id, DELIVERIES.c.event_id.in_([event.id for event in found]))
        .where(free)
        .values({**again, "due_at": now, "scheduled_at": now})
    )


def _endpoint(session: Session, endpoint_id: int) -> AnyRow:
    row = session.execute(select(*ENDPOINTS.c).where(ENDPOINTS.c.id == endpoint_id)).one_or_none()
    if row is None:
        raise EndpointUnknown(NO_ENDPOINT)
    return row

"""Use cases: an endpoint is sent everything again since a moment, also what it was never sent.

Started by a person through the API or the CLI, continued by a worker, a batch at a time. Sends nothing itself.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Select, Table, and_, func, insert, not_, or_, select, update
from sqlalchemy.orm import Session

from database.bulk import insert_absent, inserted_id, table_of
from database.session import AnyRow, current_session, look_up, request_job, survives_deadlock, transaction
from enums import AttemptCause, DeliveryStatus, EventType, Job, listens_to
from errors import EndpointDisabled, EndpointUnknown, LimitReached, ReplayUnknown, TryAgain
from limits import LEASE_SECONDS, REPLAY_BATCH_EVENTS
from models import BalanceLog, Debit, Delivery, Endpoint, Payment, Replay
from models import Event as EventRow
from outbox import events, recording

ENDPOINTS, DELIVERIES, EVENTS, REPLAYS = (table_of(model) for model in (Endpoint, Delivery, EventRow, Replay))
PAYMENTS, DEBITS = table_of(Payment), table_of(Debit)

SWEPT = timedelta(seconds=LEASE_SECONDS)
"""How long around its beginning a replay looks a second time: a credit may commit late, and clocks may differ."""


@survives_deadlock
def start(endpoint_id: int, *, since: datetime, by: str, now: datetime) -> int:
    """Ask that an endpoint is sent every move since a moment again, also those that it was never sent.

    Returns the number of the replay; a worker queues the events. Raises EndpointUnknown,
    EndpointDisabled or LimitReached.
    """
    with transaction() as session:
        endpoint = _endpoint(session, endpoint_id)
        if endpoint.deleted_at is not None:
            raise EndpointUnknown
        if endpoint.disabled_at is not None:
            raise EndpointDisabled
        under_way = select(REPLAYS.c.id).where(REPLAYS.c.endpoint_id == endpoint_id, REPLAYS.c.finished_at.is_(None))
        if session.scalar(under_way.limit(1)) is not None:
            raise LimitReached("A replay of this endpoint is under way; wait until it is finished.")
        row = {"endpoint_id": endpoint_id, "since": since, "asked_by": by, "created_at": now, "queued": 0}
        request_job(session, Job.REPLAY)
        return inserted_id(session.execute(insert(REPLAYS).values(row)))


def find(endpoint_id: int, replay_id: int) -> dict[str, Any]:
    """Return a replay with how many of its deliveries are queued and still open; raise ReplayUnknown."""
    still_open = (
        select(func.count())
        .where(DELIVERIES.c.endpoint_id == endpoint_id, DELIVERIES.c.due_at.is_not(None))
        .where(DELIVERIES.c.replay_id == replay_id)
    )
    row = (
        current_session()
        .execute(
            select(*REPLAYS.c, still_open.scalar_subquery().label("open")).where(
                REPLAYS.c.id == replay_id, REPLAYS.c.endpoint_id == endpoint_id
            )
        )
        .one_or_none()
    )
    if row is None:
        raise ReplayUnknown
    return row._asdict()


@survives_deadlock
def continue_oldest(*, now: datetime) -> int:
    """Queue the next events of the oldest replay that is not finished; return how many moves were looked at.

    Read from the ledger, by payment: what happened while nobody listened has its event made now.
    """
    waiting = or_(REPLAYS.c.finished_at.is_(None), REPLAYS.c.sweep_at <= now)
    if not look_up(select(REPLAYS.c.id).where(waiting).limit(1)):
        return 0
    with transaction() as session:
        oldest = select(*REPLAYS.c).where(waiting).order_by(REPLAYS.c.id).limit(1)
        replay = session.execute(oldest.with_for_update(skip_locked=True)).one_or_none()
        if replay is None:
            return 0
        endpoint = _endpoint(session, replay.endpoint_id)
        moves = _next_moves(session, replay, endpoint) if endpoint.disabled_at is None else []
        queued = _queue(session, replay, endpoint, moves, now) if moves else 0
        progress = {
            "queued": replay.queued + queued,
            "cursor": events.cause_of(moves[-1]._asdict()) if moves else replay.cursor,
        }
        if len(moves) < REPLAY_BATCH_EVENTS:
            progress |= _at_the_end(replay, now)
        session.execute(update(REPLAYS).where(REPLAYS.c.id == replay.id).values(progress))
        if queued:
            request_job(session, Job.DELIVER)
    return max(len(moves), 1)


def _at_the_end(replay: AnyRow, now: datetime) -> dict[str, Any]:
    """Finish a replay, and have its last stretch swept once more when what was under way then is committed."""
    if replay.finished_at is not None:
        return {"sweep_at": None}
    from_then = _first_id_at(max(replay.since, replay.created_at - SWEPT))
    return {"finished_at": now, "sweep_at": replay.created_at + SWEPT, "cursor": from_then}


def _next_moves(session: Session, replay: AnyRow, endpoint: AnyRow) -> list[AnyRow]:
    """Return the next moves that the endpoint listens to, in the order of what caused them."""
    asked = [
        _moves_query(replay, endpoint, table)
        for kind, table in ((EventType.CREDITED, PAYMENTS), (EventType.DEBITED, DEBITS))
        if listens_to(endpoint.event_types, kind)
    ]
    moves = [move for query in asked for move in session.execute(query)]
    return sorted(moves, key=lambda move: events.cause_of(move._asdict()))[:REPLAY_BATCH_EVENTS]


def _moves_query(replay: AnyRow, endpoint: AnyRow, table: Table) -> Select[Any]:
    """Select moves by one of the two tables of their causes, each of which has its index."""
    until = replay.created_at + SWEPT
    query = (
        events.moves_query()
        .where(table.c.id > (replay.cursor or _first_id_at(replay.since)), BalanceLog.created_at <= until)
        .order_by(table.c.id)
        .limit(REPLAY_BATCH_EVENTS)
    )
    if endpoint.organization_id is not None:
        query = query.where(table.c.organization_id == endpoint.organization_id)
    return query


def _first_id_at(moment: datetime) -> UUID:
    """Return what sorts before the id of every payment and debit since a moment: ids are UUIDv7, milliseconds first.

    They count from 1970, and nothing was paid before.
    """
    return UUID(int=max(0, int(moment.timestamp() * 1000)) << 80)


def _queue(session: Session, replay: AnyRow, endpoint: AnyRow, moves: Sequence[AnyRow], now: datetime) -> int:
    """Make the events and deliveries that are missing and, but for the sweep, have all sent; return how many."""
    found = [events.of_move(row._asdict()) for row in [*moves, *_left_behind(session, endpoint, moves)]]
    of_these = (
        DELIVERIES.c.endpoint_id == endpoint.id,
        DELIVERIES.c.event_id.in_([event.id for event in found]),
    )
    # Under locks: one that is pruned before this is made anew, and one that is there now stays.
    locked = select(DELIVERIES.c.id, DELIVERIES.c.event_id).where(*of_these).order_by(DELIVERIES.c.id).with_for_update()
    there = {row.event_id for row in session.execute(locked)}
    _make(session, replay, [event for event in found if event.id not in there], now)
    if replay.finished_at is not None:
        return len({event.id for event in found} - there)
    again = {"status": DeliveryStatus.PENDING, "step": 0, "scheduled_at": now, "replay_id": replay.id}
    others = DELIVERIES.c.replay_id.is_distinct_from(replay.id)
    held = and_(DELIVERIES.c.lease.is_not(None), DELIVERIES.c.due_at > now)
    # What a worker holds goes on as soon as it is settled, unless it is delivered by then.
    session.execute(update(DELIVERIES).where(*of_these, others, held).values(again))
    free = {**again, "cause": AttemptCause.REPLAY, "due_at": now}
    session.execute(update(DELIVERIES).where(*of_these, others, not_(held)).values(free))
    return len(moves)


def _make(session: Session, replay: AnyRow, missing: Sequence[events.Event], now: datetime) -> None:
    if not missing:
        return
    connection = session.connection()
    insert_absent(connection, EVENTS, [vars(event) for event in missing], unique="id")
    # One that was there already may be pruned at this moment, and is made anew when this is run again.
    kept = select(EVENTS.c.id).where(EVENTS.c.id.in_([event.id for event in missing])).order_by(EVENTS.c.id)
    if len(session.scalars(kept.with_for_update(read=True, key_share=True)).all()) < len({e.id for e in missing}):
        raise TryAgain
    of_replay = {"cause": AttemptCause.REPLAY, "replay_id": replay.id}
    rows = [recording.delivery_row(event, replay.endpoint_id, now) | of_replay for event in missing]
    insert_absent(connection, DELIVERIES, rows, unique=("endpoint_id", "event_id"))


def _left_behind(session: Session, endpoint: AnyRow, moves: Sequence[AnyRow]) -> Sequence[AnyRow]:
    """Return earlier moves of the same balances whose payments come after these, for an endpoint that wants order."""
    if not endpoint.ordered:
        return []
    newest = {row.organization_id: row.version for row in sorted(moves, key=lambda row: row.version)}
    earlier = (
        and_(BalanceLog.organization_id == organization_id, BalanceLog.version < version)
        for organization_id, version in newest.items()
    )
    last = events.cause_of(moves[-1]._asdict())
    later = or_(PAYMENTS.c.id > last, DEBITS.c.id > last)
    found = session.execute(events.moves_query().where(later, or_(*earlier)))
    return [move for move in found if listens_to(endpoint.event_types, events.of_move(move._asdict()).type)]


def _endpoint(session: Session, endpoint_id: int) -> AnyRow:
    row = session.execute(select(*ENDPOINTS.c).where(ENDPOINTS.c.id == endpoint_id)).one_or_none()
    if row is None:
        raise EndpointUnknown
    return row

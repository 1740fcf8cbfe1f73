"""settle(): what came of attempts, when what failed is due again, and which endpoints are well.

Called by the dispatcher. Never decides by itself when the next attempt is due: outbox.retry does.
"""

import logging
import random
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, select, update
from sqlalchemy.orm import Session

import rules
from database.bulk import affected, insert, table_of, update_each
from database.session import survives_deadlock, transaction
from enums import AttemptCause, DeliveryStatus, DisabledReason, IncidentKind
from ledger import incidents
from limits import FAILING_SECONDS_MAX
from models import Delivery, DeliveryAttempt, Endpoint
from outbox import retry
from outbox.claims import NOT_LEASED
from outbox.delivery import Attempt, ClaimedDelivery

log = logging.getLogger("kopeck")

DELIVERIES, ATTEMPTS, ENDPOINTS = table_of(Delivery), table_of(DeliveryAttempt), table_of(Endpoint)


@survives_deadlock
def settle(finished: Sequence[tuple[ClaimedDelivery, Attempt]], *, now: datetime) -> None:
    """Write down what came of attempts, and when what failed is due again."""
    with transaction() as session:
        connection = session.connection()
        rows = _lock(connection, [delivery.delivery_id for delivery, _ in finished])
        # One that another worker settled, and that was old enough to be pruned since, is no more.
        finished = [(delivery, attempt) for delivery, attempt in finished if delivery.delivery_id in rows]
        attempts: list[dict[str, Any]] = []
        for delivery, attempt in finished:
            row = rows[delivery.delivery_id]
            attempts.append(_attempt_row(row, delivery, attempt))
            rows[delivery.delivery_id] = {
                **row,
                "attempt_count": row["attempt_count"] + 1,
                **_verdict(row, delivery, attempt, now),
            }
        if attempts:
            insert(connection, ATTEMPTS, attempts)
        update_each(connection, DELIVERIES, list(rows.values()))
        for delivery, _ in finished:
            if delivery.endpoint.ordered and rows[delivery.delivery_id]["due_at"] is None:
                _let_next_go(connection, delivery.delivery_id, now)
        _note_health(session, finished, now)


def disable(session: Session, endpoint_id: int, *, because: DisabledReason, now: datetime) -> bool:
    """Stop announcing to an endpoint; what is under way is paused when it is due. Return whether it was enabled."""
    enabled = (ENDPOINTS.c.id == endpoint_id, ENDPOINTS.c.disabled_at.is_(None))
    changes = {"disabled_at": now, "disabled_because": because}
    return affected(session.execute(update(ENDPOINTS).where(*enabled).values(changes))) == 1


def _lock(connection: Connection, delivery_ids: Collection[int]) -> dict[int, dict[str, Any]]:
    """Lock deliveries in the order of their numbers, and read what an attempt may change."""
    changing = DELIVERIES.c[
        "id", "status", "cause", "step", "attempt_count", "due_at", "scheduled_at", "lease", "claimed_at", "settled_at"
    ]
    query = select(*changing).where(DELIVERIES.c.id.in_(delivery_ids)).order_by(DELIVERIES.c.id).with_for_update()
    return {row.id: dict(row._mapping) for row in connection.execute(query)}


def _attempt_row(row: Mapping[str, Any], delivery: ClaimedDelivery, attempt: Attempt) -> dict[str, Any]:
    return {
        "delivery_id": delivery.delivery_id,
        "number": row["attempt_count"] + 1,
        "cause": delivery.cause,
        "started_at": attempt.started_at,
        "duration_ms": attempt.duration_ms,
        "status_code": attempt.status,
        "excerpt": attempt.excerpt,
        "error": attempt.error,
    }


def _verdict(row: Mapping[str, Any], delivery: ClaimedDelivery, attempt: Attempt, now: datetime) -> dict[str, Any]:
    """Return what an attempt changes about its delivery; a worker whose lease ran out can only bring good news."""
    again = {**NOT_LEASED, "cause": AttemptCause.SCHEDULE}
    done = {**again, "due_at": None, "scheduled_at": None, "settled_at": now}
    if retry.is_delivered(attempt.status):
        return {"status": DeliveryStatus.DELIVERED, **done}
    if row["lease"] != delivery.lease:
        return {}
    if delivery.cause == AttemptCause.MANUAL and (row["scheduled_at"] is None or row["scheduled_at"] > now):
        # The schedule goes on as if nobody had asked. A try that was due anyway counts as the one that was due.
        return {**again, "due_at": row["scheduled_at"]}
    failures = row["step"] + 1
    wait = retry.retry_in(
        failures,
        jitter=random.random(),  # noqa: S311 - not a secret
        status=attempt.status,
        asked=attempt.retry_after_seconds,
        ordered=delivery.endpoint.ordered,
    )
    if wait is None:
        log.warning("delivery %s to endpoint %s is given up", delivery.delivery_id, delivery.endpoint.id)
        return {"status": DeliveryStatus.EXHAUSTED, "step": failures, **done}
    due_at = now + timedelta(seconds=wait)
    return {**again, "step": failures, "due_at": due_at, "scheduled_at": due_at}


def _let_next_go(connection: Connection, delivery_id: int, now: datetime) -> None:
    """Wake the delivery that stood behind one which is done."""
    done, behind = DELIVERIES.alias("done"), DELIVERIES
    same_queue = and_(behind.c.endpoint_id == done.c.endpoint_id, behind.c.organization_id == done.c.organization_id)
    following = connection.execute(
        select(behind.c.id, behind.c.scheduled_at)
        .join(done, same_queue)
        .where(done.c.id == delivery_id, behind.c.version > done.c.version, behind.c.due_at.is_not(None))
        .order_by(behind.c.version)
        .limit(1)
    ).one_or_none()
    if following is None:
        return
    # In front of those that came later; a person's retry of one that is done has no schedule.
    wanted = following.scheduled_at or now
    if wanted <= now:
        # Still open: it may have been tried and settled since it was looked up.
        waits = (behind.c.id == following.id, behind.c.lease.is_(None), behind.c.due_at.is_not(None))
        connection.execute(update(behind).where(*waits).values(due_at=wanted))


def _note_health(session: Session, finished: Sequence[tuple[ClaimedDelivery, Attempt]], now: datetime) -> None:
    """Note which endpoints fail and since when; disable those that are gone or have failed for too long."""
    tried = {delivery.endpoint.id for delivery, _ in finished}
    well = {delivery.endpoint.id for delivery, attempt in finished if retry.is_delivered(attempt.status)}
    gone = {delivery.endpoint.id for delivery, attempt in finished if attempt.status == retry.GONE}
    failing_since = ENDPOINTS.c.failing_since
    _change_endpoints(session, well, failing_since.is_not(None), {"failing_since": None})
    _change_endpoints(session, tried - well, failing_since.is_(None), {"failing_since": now})
    too_long = failing_since <= now - timedelta(seconds=FAILING_SECONDS_MAX)
    for endpoint_id in _free_endpoints(session, tried - well, too_long):
        _give_up(session, endpoint_id, DisabledReason.FAILING, now)
    for endpoint_id in _free_endpoints(session, gone, ENDPOINTS.c.disabled_at.is_(None)):
        _give_up(session, endpoint_id, DisabledReason.GONE, now)


def _change_endpoints(
    session: Session, endpoint_ids: Collection[int], are: ColumnElement[bool], values: Mapping[str, Any]
) -> None:
    if ids := _free_endpoints(session, endpoint_ids, are):
        session.execute(update(ENDPOINTS).where(ENDPOINTS.c.id.in_(ids)).values(values))


def _free_endpoints(session: Session, endpoint_ids: Collection[int], are: ColumnElement[bool]) -> Sequence[int]:
    """Lock those of the endpoints that are as described and that nobody else holds.

    What came of deliveries must not wait for them; about an endpoint that is passed over the next attempt tells again.
    """
    if not endpoint_ids:
        return []
    wanted = select(ENDPOINTS.c.id).where(ENDPOINTS.c.id.in_(endpoint_ids), are).order_by(ENDPOINTS.c.id)
    return session.scalars(wanted.with_for_update(key_share=True, skip_locked=True)).all()


def _give_up(session: Session, endpoint_id: int, because: DisabledReason, now: datetime) -> None:
    """Disable an endpoint and tell a person."""
    if disable(session, endpoint_id, because=because, now=now):
        incidents.record(
            session,
            IncidentKind.ENDPOINT_DISABLED,
            source="outbox",
            operation_id=None,
            facts={"endpoint_id": endpoint_id, "because": because, "disabled_at": rules.rfc3339(now)},
            body=b"",
            key_id="",
            now=now,
        )

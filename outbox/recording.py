"""record(): events and a delivery for each endpoint that listens, written inside the caller's transaction.

Called by use cases. Never commits and never sends: a worker claims what is written here.
"""

from collections.abc import Sequence
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import Select, or_, select
from sqlalchemy.orm import Session

from database.bulk import among, insert, table_of
from database.session import AnyRow, request_job
from enums import AttemptCause, DeliveryStatus, Job, listens_to
from models import Delivery, Endpoint
from models import Event as EventRow
from outbox.events import Event

DELIVERIES, ENDPOINTS, EVENTS = table_of(Delivery), table_of(Endpoint), table_of(EventRow)


def record(session: Session, events: Sequence[Event]) -> None:
    """Write events, and a delivery of each for every endpoint that listens; nothing at all when none does."""
    connection = session.connection()
    owners = {event.organization_id for event in events if event.organization_id is not None}
    listeners = connection.execute(_listeners_query(connection.dialect.name), {"owners": list(owners)}).all()
    deliveries = [
        delivery_row(event, listener.id, event.occurred_at)
        for event in events
        for listener in listeners
        if _listens(listener, event)
    ]
    if deliveries:
        wanted = {row["event_id"] for row in deliveries}
        insert(connection, EVENTS, [vars(event) for event in events if event.id in wanted])
        insert(connection, DELIVERIES, deliveries)
        request_job(session, Job.DELIVER)


def record_for(session: Session, event: Event, endpoint_id: int, *, now: datetime) -> int:
    """Write an event for one endpoint alone, and return the number of its delivery."""
    insert(session.connection(), EVENTS, [vars(event)])
    insert(session.connection(), DELIVERIES, [delivery_row(event, endpoint_id, now) | {"cause": AttemptCause.MANUAL}])
    request_job(session, Job.DELIVER)
    return session.scalars(
        select(Delivery.id).where(Delivery.endpoint_id == endpoint_id, Delivery.event_id == event.id)
    ).one()


def delivery_row(event: Event, endpoint_id: int, due_at: datetime) -> dict[str, Any]:
    """Return a delivery that is due at a moment for the first time."""
    return {
        "event_id": event.id,
        "endpoint_id": endpoint_id,
        "organization_id": event.organization_id,
        "version": event.version,
        "status": DeliveryStatus.PENDING,
        "cause": AttemptCause.SCHEDULE,
        "step": 0,
        "attempt_count": 0,
        "due_at": due_at,
        "scheduled_at": due_at,
        "created_at": due_at,
    }


def _listens(listener: AnyRow, event: Event) -> bool:
    for_all = listener.organization_id is None
    return (for_all or listener.organization_id == event.organization_id) and listens_to(
        listener.event_types, event.type
    )


@cache
def _listeners_query(dialect: str) -> Select[Any]:
    owner = ENDPOINTS.c.organization_id
    return (
        select(*ENDPOINTS.c["id", "organization_id", "event_types"])
        .where(ENDPOINTS.c.disabled_at.is_(None), or_(owner.is_(None), among(owner, "owners", dialect)))
        .order_by(ENDPOINTS.c.id)
    )

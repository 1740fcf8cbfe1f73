"""claim() and release(): deliveries that are due, handed to one worker alone for as long as its lease lasts.

A delivery is a row, and who holds its lease may try it: nothing lives in memory that a crash could take along.
Never opens a socket.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, Integer, Select, and_, bindparam, func, select, update

from database.bulk import among, insert, table_of, update_each
from database.columns import UtcDateTime, new_id
from database.session import AnyRow, look_up, survives_deadlock, transaction
from encryption import SecretCipher
from enums import DeliveryStatus, Scheme
from errors import SecretUnreadable
from limits import (
    BLOCKED_SECONDS,
    CLAIM_ENDPOINTS_MAX,
    LEASE_SECONDS,
    ORDERED_LOOK_DELIVERIES,
    PAUSED_DELIVERIES,
)
from models import Delivery, DeliveryAttempt, Endpoint
from models import Event as EventRow
from outbox.delivery import ClaimedDelivery, EndpointSnapshot
from outbox.endpoint_keys import decrypt_keys

DELIVERIES, ATTEMPTS, ENDPOINTS = table_of(Delivery), table_of(DeliveryAttempt), table_of(Endpoint)
EVENTS = table_of(EventRow)

NOT_LEASED: dict[str, Any] = {"lease": None, "claimed_at": None}
"""What a delivery holds that no worker has."""

LOST = "The worker that tried this ended before it could say what came of it."


class Waiting(NamedTuple):
    """An endpoint that has something due."""

    id: int
    url: str
    failing: bool


Capacity = Callable[[Waiting], int]
"""How many more deliveries of an endpoint the worker can take."""


def claim(
    cipher: SecretCipher,
    *,
    capacity: Capacity,
    now: datetime,
    on_unreadable: Callable[[int], None] = lambda _: None,
) -> list[ClaimedDelivery]:
    """Take deliveries that are due, for LEASE_SECONDS, as many as the worker can take.

    Nobody else gets them meanwhile. Reads first whether there is anything, so that an idle worker locks nothing. The
    endpoint that has waited longest comes first, and no endpoint's backlog hides another's. `on_unreadable` hears of
    those that cannot be signed for; theirs wait.
    """
    # Asked once: in the middle of the claim the answer may fall below none.
    waiting = [(row.id, places) for row in _waiting(now) if (places := capacity(row)) > 0]
    # Further than the first lot only if that gave nothing, as when none of those endpoints can be signed for.
    for start in range(0, len(waiting), CLAIM_ENDPOINTS_MAX):
        deliveries, unreadable = _claim(cipher, dict(waiting[start : start + CLAIM_ENDPOINTS_MAX]), now)
        for endpoint_id in unreadable:
            on_unreadable(endpoint_id)
        if deliveries:
            return deliveries
    return []


@survives_deadlock
def claim_one(cipher: SecretCipher, delivery_id: int, *, now: datetime) -> ClaimedDelivery | None:
    """Take one delivery, if it is due and nobody holds it."""
    with transaction() as session:
        connection = session.connection()
        rows = connection.execute(_due_query().where(DELIVERIES.c.id == delivery_id), {"now": now}).all()
        endpoints = _endpoints(connection, cipher, [row.endpoint_id for row in rows])
        ready = [row for row in rows if endpoints[row.endpoint_id].keys]
        if ready and endpoints[ready[0].endpoint_id].ordered:
            ready = _in_order(connection, ready[0].endpoint_id, ready, now)
        return _lease(connection, endpoints, ready, now)[0] if ready else None


@survives_deadlock
def release(deliveries: Sequence[ClaimedDelivery], *, now: datetime) -> None:
    """Give back deliveries that were claimed and not tried."""
    with transaction() as session:
        for delivery in deliveries:
            held = (DELIVERIES.c.id == delivery.delivery_id, DELIVERIES.c.lease == delivery.lease)
            session.execute(update(DELIVERIES).where(*held).values(**NOT_LEASED, due_at=now))


def _waiting(now: datetime) -> list[Waiting]:
    return [Waiting(row.id, row.url, row.failing_since is not None) for row in look_up(_waiting_query(now))]


def _waiting_query(now: datetime) -> Select[Any]:
    """Find the endpoints that have something due; each costs one look into an index, however long its queue is."""
    first = select(func.min(DELIVERIES.c.due_at, type_=UtcDateTime)).where(DELIVERIES.c.endpoint_id == ENDPOINTS.c.id)
    shown = ENDPOINTS.c["id", "url", "failing_since"]
    queues = select(*shown, first.scalar_subquery().label("due_at")).subquery()
    return select(*queues.c["id", "url", "failing_since"]).where(queues.c.due_at <= now).order_by(queues.c.due_at)


@survives_deadlock
def _claim(cipher: SecretCipher, places: Mapping[int, int], now: datetime) -> tuple[list[ClaimedDelivery], list[int]]:
    """Return what was claimed, and the endpoints that cannot be signed for."""
    with transaction() as session:
        connection = session.connection()
        endpoints = _endpoints(connection, cipher, places.keys())
        due: list[AnyRow] = []
        unreadable = [endpoint.id for endpoint in endpoints.values() if not endpoint.disabled and not endpoint.keys]
        for endpoint in endpoints.values():
            if endpoint.disabled:
                _pause(connection, endpoint.id, now)
            elif endpoint.keys:
                due += _due(connection, endpoint, places[endpoint.id], now)
        return (_lease(connection, endpoints, due, now) if due else []), unreadable


def _endpoints(
    connection: Connection, cipher: SecretCipher, endpoint_ids: Collection[int]
) -> dict[int, EndpointSnapshot]:
    rows = connection.execute(select(*ENDPOINTS.c).where(ENDPOINTS.c.id.in_(endpoint_ids)))
    found = {row.id: _snapshot(cipher, row) for row in rows}
    return {endpoint_id: found[endpoint_id] for endpoint_id in endpoint_ids}


def _snapshot(cipher: SecretCipher, row: AnyRow) -> EndpointSnapshot:
    try:
        keys = decrypt_keys(cipher, row.secrets, endpoint_id=row.id) if row.disabled_at is None else ()
    except SecretUnreadable:
        # Its deliveries wait; those of others must not.
        keys = ()
    return EndpointSnapshot(
        id=row.id,
        url=row.url,
        scheme=Scheme(row.scheme),
        keys=keys,
        secrets=row.secrets,
        ordered=row.ordered,
        failing=row.failing_since is not None,
        disabled=row.disabled_at is not None,
    )


def _due(connection: Connection, endpoint: EndpointSnapshot, places: int, now: datetime) -> Sequence[AnyRow]:
    looked_at = max(places, ORDERED_LOOK_DELIVERIES) if endpoint.ordered else places
    params = {"endpoint_id": endpoint.id, "places": looked_at, "now": now}
    rows = connection.execute(_due_of_endpoint_query(), params).all()
    return _in_order(connection, endpoint.id, rows, now)[:places] if endpoint.ordered else rows


@cache
def _due_query() -> Select[Any]:
    """Lock deliveries that are due, passing over those that somebody else is looking at."""
    return (
        select(
            *DELIVERIES.c[
                "id",
                "endpoint_id",
                "event_id",
                "organization_id",
                "version",
                "cause",
                "lease",
                "attempt_count",
                "claimed_at",
                "due_at",
            ]
        )
        .where(DELIVERIES.c.due_at <= bindparam("now", type_=UtcDateTime))
        .order_by(DELIVERIES.c.due_at, DELIVERIES.c.id)
        .with_for_update(skip_locked=True)
    )


@cache
def _due_of_endpoint_query() -> Select[Any]:
    of_endpoint = DELIVERIES.c.endpoint_id == bindparam("endpoint_id")
    return _due_query().where(of_endpoint).limit(bindparam("places", type_=Integer))


def _in_order(connection: Connection, endpoint_id: int, rows: Sequence[AnyRow], now: datetime) -> list[AnyRow]:
    """Return what may go now, of each organisation what stands first, and let the rest wait for that.

    Asked after the rows were locked, so that nothing can have come in between; whoever settles what stands first wakes
    the next.
    """
    params = {"endpoint_id": endpoint_id, "owners": list({row.organization_id for row in rows} - {None})}
    first = {row.organization_id: row for row in connection.execute(_first_query(connection.dialect.name), params)}
    soon = now + timedelta(seconds=BLOCKED_SECONDS)
    blocked: dict[datetime, list[int]] = {}
    for row in rows:
        if row.version is not None and row.version != first[row.organization_id].version:
            blocked.setdefault(max(first[row.organization_id].due_at, soon), []).append(row.id)
    for until, ids in blocked.items():
        connection.execute(update(DELIVERIES).where(DELIVERIES.c.id.in_(ids)).values(due_at=until))
    held_back = {delivery_id for ids in blocked.values() for delivery_id in ids}
    return [row for row in rows if row.id not in held_back]


@cache
def _first_query(dialect: str) -> Select[Any]:
    """Find what stands first for each organisation: its earliest open delivery to the endpoint."""
    to_endpoint = (DELIVERIES.c.endpoint_id == bindparam("endpoint_id"), DELIVERIES.c.due_at.is_not(None))
    of_owners = among(DELIVERIES.c.organization_id, "owners", dialect)
    owner, version = DELIVERIES.c.organization_id, func.min(DELIVERIES.c.version).label("version")
    first = select(owner, version).where(*to_endpoint, of_owners).group_by(owner).subquery()
    same = and_(first.c.organization_id == owner, first.c.version == DELIVERIES.c.version)
    return select(*DELIVERIES.c["organization_id", "version", "due_at"]).join(first, same).where(*to_endpoint)


def _pause(connection: Connection, endpoint_id: int, now: datetime) -> None:
    """Pause what is due to an endpoint that is disabled, until it is enabled again; what is leased is not due."""
    # Under a lock: what is paused just after somebody has enabled it would stay there.
    disabled = (ENDPOINTS.c.id == endpoint_id, ENDPOINTS.c.disabled_at.is_not(None))
    lock = select(ENDPOINTS.c.id).where(*disabled).with_for_update(key_share=True, skip_locked=True)
    if connection.execute(lock).first() is None:
        return
    params = {"endpoint_id": endpoint_id, "places": PAUSED_DELIVERIES, "now": now}
    rows = connection.execute(_due_of_endpoint_query(), params).all()
    _record_lost(connection, rows)
    due = DELIVERIES.c.id.in_([row.id for row in rows])
    paused = {**NOT_LEASED, "status": DeliveryStatus.PAUSED, "due_at": None, "scheduled_at": None}
    connection.execute(update(DELIVERIES).where(due, DELIVERIES.c.status == DeliveryStatus.PENDING).values(paused))
    connection.execute(update(DELIVERIES).where(due).values(**NOT_LEASED, due_at=None))


def _lease(
    connection: Connection, endpoints: Mapping[int, EndpointSnapshot], rows: Sequence[AnyRow], now: datetime
) -> list[ClaimedDelivery]:
    """Hand deliveries to this worker alone."""
    _record_lost(connection, rows)
    lease, ends_at = new_id(now), now + timedelta(seconds=LEASE_SECONDS)
    ids = [row.id for row in rows]
    connection.execute(
        update(DELIVERIES).where(DELIVERIES.c.id.in_(ids)).values(lease=lease, claimed_at=now, due_at=ends_at)
    )
    event_ids = {row.event_id for row in rows}
    events = {event.id: event for event in connection.execute(select(*EVENTS.c).where(EVENTS.c.id.in_(event_ids)))}
    return [_claimed_delivery(row, lease, endpoints[row.endpoint_id], events[row.event_id]) for row in rows]


def _claimed_delivery(row: AnyRow, lease: UUID, endpoint: EndpointSnapshot, event: AnyRow) -> ClaimedDelivery:
    return ClaimedDelivery(
        delivery_id=row.id,
        lease=lease,
        cause=row.cause,
        endpoint=endpoint,
        event_id=event.id,
        event_type=event.type,
        occurred_at=event.occurred_at,
        data=event.data,
    )


def _record_lost(connection: Connection, rows: Iterable[AnyRow]) -> None:
    """Record the attempts of workers that vanished: those whose leases are still there, and have run out."""
    lost = [row for row in rows if row.lease is not None]
    attempts = [
        {
            "delivery_id": row.id,
            "number": row.attempt_count + 1,
            "cause": row.cause,
            # Not from due_at: a person may have asked for another attempt since.
            "started_at": row.claimed_at,
            "duration_ms": None,
            "status_code": None,
            "excerpt": "",
            "error": LOST,
        }
        for row in lost
    ]
    if attempts:
        insert(connection, ATTEMPTS, attempts)
        update_each(connection, DELIVERIES, [{"id": row.id, "attempt_count": row.attempt_count + 1} for row in lost])

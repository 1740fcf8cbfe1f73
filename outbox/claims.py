"""Events on their way out: record() inside the caller's transaction; claim(), settle() and release() for a worker.

A delivery is a row, and who holds its lease may try it: nothing lives in memory that a crash could take along.
Never opens a socket, and never decides when the next try is due (rules.retry_in does).
"""

import json
import logging
import random
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Integer, Select, and_, bindparam, func, or_, select, update
from sqlalchemy.orm import Session

import rules
from database.engine import (
    AnyRow,
    UtcDateTime,
    affected,
    among,
    insert,
    look_up,
    new_id,
    survives_deadlock,
    table_of,
    transaction,
    update_each,
)
from encryption import Vault
from errors import VaultClosed
from ledger import incidents
from limits import (
    BLOCKED_SECONDS,
    CLAIM_ENDPOINTS_MAX,
    FAILING_SECONDS_MAX,
    LEASE_SECONDS,
    ORDERED_LOOK_DELIVERIES,
    PARKED_DELIVERIES,
)
from models import Delivery, DeliveryAttempt, Endpoint
from models import Event as EventRow
from outbox.channels.webhook import Attempt, Key, Parcel, Receiver, Scheme
from outbox.events import Event

DELIVERIES, ATTEMPTS, ENDPOINTS = table_of(Delivery), table_of(DeliveryAttempt), table_of(Endpoint)
EVENTS = table_of(EventRow)

log = logging.getLogger("kopeck")


LOST = "The worker that tried this ended before it could say what came of it."

Room = Callable[[int], int]
"""How many more deliveries of an endpoint the worker has room for."""


# ---- Inside the transaction of a use case


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
        heard = {row["event_id"] for row in deliveries}
        insert(connection, EVENTS, [vars(event) for event in events if event.id in heard])
        insert(connection, DELIVERIES, deliveries)


def record_for(session: Session, event: Event, endpoint_id: int, *, now: datetime) -> int:
    """Write an event for one endpoint alone, and return the number of its delivery."""
    insert(session.connection(), EVENTS, [vars(event)])
    insert(session.connection(), DELIVERIES, [delivery_row(event, endpoint_id, now) | {"cause": "person"}])
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
        "status": "pending",
        "cause": "schedule",
        "step": 0,
        "tries": 0,
        "due_at": due_at,
        "scheduled_at": due_at,
        "created_at": due_at,
    }


def _listens(listener: AnyRow, event: Event) -> bool:
    for_all = listener.organization_id is None
    return (for_all or listener.organization_id == event.organization_id) and rules.listens_to(
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


# ---- For a worker


def claim(vault: Vault, *, room: Room, now: datetime) -> list[Parcel]:
    """Take deliveries that are due, for LEASE_SECONDS, as many as there is room for; nobody else gets them meanwhile.

    Reads first whether there is anything, so that an idle worker locks nothing. The endpoint that has waited longest
    comes first, and no endpoint's backlog hides another's.
    """
    # Asked once: in the middle of the claim there may be less room than none.
    waiting = [(row.id, places) for row in look_up(_waiting_query(now)) if (places := room(row.id)) > 0]
    # Further than the first lot only if that gave nothing, as when none of those endpoints can be signed for.
    for start in range(0, len(waiting), CLAIM_ENDPOINTS_MAX):
        if parcels := _claim(vault, dict(waiting[start : start + CLAIM_ENDPOINTS_MAX]), now):
            return parcels
    return []


@survives_deadlock
def claim_one(vault: Vault, delivery_id: int, *, now: datetime) -> Parcel | None:
    """Take one delivery, if it is due and nobody holds it."""
    with transaction() as session:
        connection = session.connection()
        rows = connection.execute(_due_query().where(DELIVERIES.c.id == delivery_id), {"now": now}).all()
        endpoints = _endpoints(connection, vault, [row.endpoint_id for row in rows])
        ready = [row for row in rows if endpoints[row.endpoint_id].keys]
        if ready and endpoints[ready[0].endpoint_id].ordered:
            ready = _in_order(connection, ready[0].endpoint_id, ready, now)
        return _lease(connection, endpoints, ready, now)[0] if ready else None


@survives_deadlock
def settle(finished: Sequence[tuple[Parcel, Attempt]], *, now: datetime) -> None:
    """Write down what came of attempts, and when what failed is due again."""
    with transaction() as session:
        connection = session.connection()
        rows = _lock(connection, [parcel.delivery_id for parcel, _ in finished])
        attempts = []
        for parcel, attempt in finished:
            row = rows[parcel.delivery_id]
            attempts.append(_attempt_row(row, parcel, attempt))
            rows[parcel.delivery_id] = {**row, "tries": row["tries"] + 1, **_verdict(row, parcel, attempt, now)}
        insert(connection, ATTEMPTS, attempts)
        update_each(connection, DELIVERIES, list(rows.values()))
        for parcel, _ in finished:
            if parcel.receiver.ordered and rows[parcel.delivery_id]["due_at"] is None:
                _let_next_go(connection, parcel.delivery_id, now)
        _note_health(session, finished, now)


@survives_deadlock
def release(parcels: Sequence[Parcel], *, now: datetime) -> None:
    """Give back deliveries that were claimed and not tried."""
    with transaction() as session:
        for parcel in parcels:
            held = (DELIVERIES.c.id == parcel.delivery_id, DELIVERIES.c.lease == parcel.lease)
            session.execute(update(DELIVERIES).where(*held).values(lease=None, due_at=now))


def disable(session: Session, endpoint_id: int, *, because: str, now: datetime) -> bool:
    """Stop announcing to an endpoint; what is under way is parked when it is due. Tell whether it was enabled."""
    enabled = (ENDPOINTS.c.id == endpoint_id, ENDPOINTS.c.disabled_at.is_(None))
    changes = {"disabled_at": now, "disabled_because": because}
    return affected(session.execute(update(ENDPOINTS).where(*enabled).values(changes))) == 1


def keys_of(vault: Vault, secrets: str) -> tuple[Key, ...]:
    """Unlock the keys of an endpoint, the newest first."""
    return tuple(
        Key(**{**key, "until": key["until"] and datetime.fromisoformat(key["until"])})
        for key in json.loads(vault.unlock(secrets))
    )


def lock_keys(vault: Vault, keys: Iterable[Key]) -> str:
    """Lock the keys of an endpoint, the newest first, as the table keeps them."""
    return vault.lock(json.dumps([{**vars(key), "until": key.until and key.until.isoformat()} for key in keys]))


def _waiting_query(now: datetime) -> Select[Any]:
    """Find the endpoints that have something due; each costs one look into an index, however long its queue is."""
    first = select(func.min(DELIVERIES.c.due_at, type_=UtcDateTime)).where(DELIVERIES.c.endpoint_id == ENDPOINTS.c.id)
    queues = select(ENDPOINTS.c.id, first.scalar_subquery().label("due_at")).subquery()
    return select(queues.c.id).where(queues.c.due_at <= now).order_by(queues.c.due_at)


@survives_deadlock
def _claim(vault: Vault, places: Mapping[int, int], now: datetime) -> list[Parcel]:
    with transaction() as session:
        connection = session.connection()
        endpoints = _endpoints(connection, vault, places.keys())
        due: list[AnyRow] = []
        for endpoint in endpoints.values():
            if endpoint.disabled:
                _park(connection, endpoint.id, now)
            elif endpoint.keys:
                due += _due(connection, endpoint, places[endpoint.id], now)
        return _lease(connection, endpoints, due, now) if due else []


def _endpoints(connection: Connection, vault: Vault, endpoint_ids: Collection[int]) -> dict[int, Receiver]:
    rows = connection.execute(select(*ENDPOINTS.c).where(ENDPOINTS.c.id.in_(endpoint_ids)))
    found = {row.id: _receiver(vault, row) for row in rows}
    return {endpoint_id: found[endpoint_id] for endpoint_id in endpoint_ids}


def _receiver(vault: Vault, row: AnyRow) -> Receiver:
    try:
        keys = keys_of(vault, row.secrets) if row.disabled_at is None else ()
    except VaultClosed as error:
        # Its deliveries wait; those of others must not.
        _tell_closed(row.id, str(error))
        keys = ()
    return Receiver(
        id=row.id,
        url=row.url,
        scheme=Scheme(row.scheme),
        keys=keys,
        ordered=row.ordered,
        failing=row.failing_since is not None,
        disabled=row.disabled_at is not None,
    )


@cache
def _tell_closed(endpoint_id: int, words: str) -> None:
    """Say it once in each process, and not at every look."""
    log.error("endpoint %s cannot be signed for, its deliveries wait: %s", endpoint_id, words)


def _due(connection: Connection, endpoint: Receiver, places: int, now: datetime) -> Sequence[AnyRow]:
    looked_at = max(places, ORDERED_LOOK_DELIVERIES) if endpoint.ordered else places
    told = {"endpoint_id": endpoint.id, "places": looked_at, "now": now}
    rows = connection.execute(_due_of_endpoint_query(), told).all()
    return _in_order(connection, endpoint.id, rows, now)[:places] if endpoint.ordered else rows


@cache
def _due_query() -> Select[Any]:
    """Lock deliveries that are due, passing over those that somebody else is looking at."""
    return (
        select(
            *DELIVERIES.c[
                "id", "endpoint_id", "event_id", "organization_id", "version", "cause", "lease", "tries", "due_at"
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
    told = {"endpoint_id": endpoint_id, "owners": list({row.organization_id for row in rows} - {None})}
    first = {row.organization_id: row for row in connection.execute(_first_query(connection.dialect.name), told)}
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


def _park(connection: Connection, endpoint_id: int, now: datetime) -> None:
    """Set aside what is due to an endpoint that is disabled, until it is enabled again; what is leased is not due."""
    # Under a lock: what is set aside just after somebody has enabled it would stay there.
    disabled = (ENDPOINTS.c.id == endpoint_id, ENDPOINTS.c.disabled_at.is_not(None))
    lock = select(ENDPOINTS.c.id).where(*disabled).with_for_update(key_share=True, skip_locked=True)
    if connection.execute(lock).first() is None:
        return
    told = {"endpoint_id": endpoint_id, "places": PARKED_DELIVERIES, "now": now}
    rows = connection.execute(_due_of_endpoint_query(), told).all()
    _note_lost(connection, rows)
    due = DELIVERIES.c.id.in_([row.id for row in rows])
    parked = {"status": "parked", "due_at": None, "scheduled_at": None, "lease": None}
    connection.execute(update(DELIVERIES).where(due, DELIVERIES.c.status == "pending").values(parked))
    connection.execute(update(DELIVERIES).where(due).values(due_at=None, lease=None))


def _lease(
    connection: Connection, endpoints: Mapping[int, Receiver], rows: Sequence[AnyRow], now: datetime
) -> list[Parcel]:
    """Hand deliveries to this worker alone."""
    _note_lost(connection, rows)
    lease, ends_at = new_id(now), now + timedelta(seconds=LEASE_SECONDS)
    ids = [row.id for row in rows]
    connection.execute(update(DELIVERIES).where(DELIVERIES.c.id.in_(ids)).values(lease=lease, due_at=ends_at))
    event_ids = {row.event_id for row in rows}
    events = {event.id: event for event in connection.execute(select(*EVENTS.c).where(EVENTS.c.id.in_(event_ids)))}
    return [_parcel(row, lease, endpoints[row.endpoint_id], events[row.event_id]) for row in rows]


def _parcel(row: AnyRow, lease: UUID, receiver: Receiver, event: AnyRow) -> Parcel:
    return Parcel(
        delivery_id=row.id,
        lease=lease,
        cause=row.cause,
        receiver=receiver,
        event_id=event.id,
        event_type=event.type,
        occurred_at=event.occurred_at,
        data=event.data,
    )


def _note_lost(connection: Connection, rows: Iterable[AnyRow]) -> None:
    """Log the attempts of workers that vanished: those whose leases are still there, and have run out."""
    lost = [row for row in rows if row.lease is not None]
    attempts = [
        {
            "delivery_id": row.id,
            "number": row.tries + 1,
            "cause": row.cause,
            # Not from due_at: a person may have asked for another try since.
            "started_at": _claimed_at(row.lease),
            "duration_ms": None,
            "status_code": None,
            "excerpt": "",
            "error": LOST,
        }
        for row in lost
    ]
    if attempts:
        insert(connection, ATTEMPTS, attempts)
        update_each(connection, DELIVERIES, [{"id": row.id, "tries": row.tries + 1} for row in lost])


def _claimed_at(lease: UUID) -> datetime:
    """Return when a lease began: it is a UUIDv7, milliseconds first."""
    return datetime.fromtimestamp((lease.int >> 80) / 1000, UTC)


def _lock(connection: Connection, delivery_ids: Collection[int]) -> dict[int, dict[str, Any]]:
    """Lock deliveries in the order of their numbers, and read what an attempt may change."""
    changing = DELIVERIES.c["id", "status", "cause", "step", "tries", "due_at", "scheduled_at", "lease", "settled_at"]
    query = select(*changing).where(DELIVERIES.c.id.in_(delivery_ids)).order_by(DELIVERIES.c.id).with_for_update()
    return {row.id: dict(row._mapping) for row in connection.execute(query)}


def _attempt_row(row: Mapping[str, Any], parcel: Parcel, attempt: Attempt) -> dict[str, Any]:
    return {
        "delivery_id": parcel.delivery_id,
        "number": row["tries"] + 1,
        "cause": parcel.cause,
        "started_at": attempt.started_at,
        "duration_ms": attempt.duration_ms,
        "status_code": attempt.status,
        "excerpt": attempt.excerpt,
        "error": attempt.error,
    }


def _verdict(row: Mapping[str, Any], parcel: Parcel, attempt: Attempt, now: datetime) -> dict[str, Any]:
    """Return what an attempt changes about its delivery; a worker whose lease ran out can only bring good news."""
    done = {"due_at": None, "scheduled_at": None, "lease": None, "cause": "schedule", "settled_at": now}
    if rules.is_delivered(attempt.status):
        return {"status": "delivered", **done}
    if row["lease"] != parcel.lease:
        return {}
    if parcel.cause == "person" and (row["scheduled_at"] is None or row["scheduled_at"] > now):
        # The schedule goes on as if nobody had asked. A try that was due anyway counts as the one that was due.
        return {"due_at": row["scheduled_at"], "lease": None, "cause": "schedule"}
    failures = row["step"] + 1
    wait = rules.retry_in(
        failures,
        jitter=random.random(),  # noqa: S311 - not a secret
        status=attempt.status,
        asked=attempt.retry_after_seconds,
    )
    if wait is None:
        return {"status": "exhausted", "step": failures, **done}
    due_at = now + timedelta(seconds=wait)
    return {"step": failures, "due_at": due_at, "scheduled_at": due_at, "lease": None, "cause": "schedule"}


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


def _note_health(session: Session, finished: Sequence[tuple[Parcel, Attempt]], now: datetime) -> None:
    """Note which endpoints fail and since when; disable those that are gone or have failed for too long."""
    tried = {parcel.receiver.id for parcel, _ in finished}
    well = {parcel.receiver.id for parcel, attempt in finished if rules.is_delivered(attempt.status)}
    gone = {parcel.receiver.id for parcel, attempt in finished if attempt.status == rules.GONE}
    failing_since = ENDPOINTS.c.failing_since
    _change_endpoints(session, well, failing_since.is_not(None), {"failing_since": None})
    _change_endpoints(session, tried - well, failing_since.is_(None), {"failing_since": now})
    too_long = failing_since <= now - timedelta(seconds=FAILING_SECONDS_MAX)
    for endpoint_id in _free_endpoints(session, tried - well, too_long):
        _give_up(session, endpoint_id, "failing", now)
    for endpoint_id in _free_endpoints(session, gone, ENDPOINTS.c.disabled_at.is_(None)):
        _give_up(session, endpoint_id, "gone", now)


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


def _give_up(session: Session, endpoint_id: int, because: str, now: datetime) -> None:
    """Disable an endpoint and tell a person."""
    if disable(session, endpoint_id, because=because, now=now):
        incidents.record(
            session,
            incidents.Kind.ENDPOINT_DISABLED,
            source="outbox",
            operation_id=None,
            facts={"endpoint_id": endpoint_id, "because": because, "disabled_at": rules.rfc3339(now)},
            body=b"",
            key_id="",
            now=now,
        )

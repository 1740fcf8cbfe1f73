"""Use cases: whom events are announced to. Register, ping, rotate, disable, enable, delete, retry a delivery.

Called by the API and the CLI with plain values and a moment. Sends nothing: a worker does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import and_, func, insert, select, update
from sqlalchemy.orm import Session

from database.bulk import affected, inserted_id, table_of
from database.columns import new_id
from database.session import AnyRow, request_job, survives_deadlock, transaction
from encryption import SecretCipher
from enums import AttemptCause, DeliveryStatus, DisabledReason, Job, Scheme
from errors import (
    DeliveryUnderWay,
    DeliveryUnknown,
    EndpointDisabled,
    EndpointRefused,
    EndpointUnknown,
    LimitReached,
    OrganizationUnknown,
)
from http_client import addresses
from http_client.networks import NO_NETWORKS, Networks
from limits import CURRENT_SECRETS_MAX, ENDPOINTS_MAX
from models import Delivery, Endpoint, Organization
from outbox import endpoint_keys, events, looks, recording, results
from outbox.endpoint_keys import Key

ENDPOINTS, DELIVERIES = table_of(Endpoint), table_of(Delivery)


@dataclass(frozen=True, kw_only=True)
class Reveal:
    """What a receiver needs to verify events, to be seen this once; `public_key` where the scheme has one."""

    id: int
    secret: str = field(repr=False)
    public_key: str | None


@survives_deadlock
def create(
    cipher: SecretCipher,
    *,
    url: str,
    scheme: Scheme,
    organization: str | None,
    event_types: str,
    ordered: bool,
    description: str,
    loopback_allowed: bool,
    https_only: bool,
    networks: Networks = NO_NETWORKS,
    now: datetime,
) -> Reveal:
    """Register an endpoint for one organisation or for all; raise EndpointRefused or OrganizationUnknown."""
    problem = addresses.problem_with(url, loopback_allowed=loopback_allowed, https_only=https_only, networks=networks)
    if problem:
        raise EndpointRefused(problem)
    key = endpoint_keys.new_key(scheme)
    with transaction() as session:
        count = session.scalar(select(func.count()).where(ENDPOINTS.c.deleted_at.is_(None)))
        if count is not None and count >= ENDPOINTS_MAX:
            raise LimitReached(f"There are {ENDPOINTS_MAX} endpoints already; delete one that is not needed.")
        row = {
            "organization_id": _organization_id(session, organization),
            "url": url,
            "description": description,
            "scheme": scheme,
            "secrets": "",
            "event_types": event_types,
            "ordered": ordered,
            "created_at": now,
        }
        endpoint_id = inserted_id(session.execute(insert(ENDPOINTS).values(row)))
        # They are bound to the number of the row, which is known now.
        _store_keys(session, cipher, endpoint_id, [key])
    return _reveal(endpoint_id, key)


@survives_deadlock
def rotate(cipher: SecretCipher, endpoint_id: int, *, overlap_seconds: int, now: datetime) -> Reveal:
    """Give an endpoint a new secret; the old ones stay good for the overlap at most. Raise EndpointUnknown.

    Without an overlap nothing that is signed with an old one goes out after the return.
    """
    with transaction() as session:
        endpoint = _lock(session, endpoint_id)
        key, until = endpoint_keys.new_key(Scheme(endpoint.scheme)), now + timedelta(seconds=overlap_seconds)
        # Without an overlap the old ones need not be decrypted: this is the way out when SECRETS_KEYS were lost.
        if overlap_seconds and len(_current(cipher, endpoint, now)) >= CURRENT_SECRETS_MAX:
            raise LimitReached(
                "Too many old secrets of this endpoint are still good; wait, or rotate without an overlap."
            )
        old = [_ending(key, until) for key in _keys(cipher, endpoint)] if overlap_seconds else []
        keys = [key, *(key for key in old if key.until is not None and key.until > now)]
        _store_keys(session, cipher, endpoint_id, keys)
        if not overlap_seconds:
            looks.outlast(session)
    return _reveal(endpoint_id, key)


@survives_deadlock
def disable(endpoint_id: int, *, now: datetime) -> None:
    """Stop announcing to an endpoint; nothing goes out to it after the return. Raise EndpointUnknown."""
    with transaction() as session:
        _lock(session, endpoint_id)
        results.disable(session, endpoint_id, because=DisabledReason.MANUAL, now=now)
        looks.outlast(session)


@survives_deadlock
def enable(endpoint_id: int, *, now: datetime) -> None:
    """Announce to an endpoint again, what was paused first; raise EndpointUnknown."""
    with transaction() as session:
        _lock(session, endpoint_id)
        _change(session, endpoint_id, {"disabled_at": None, "disabled_because": None, "failing_since": None})
        paused = (DELIVERIES.c.endpoint_id == endpoint_id, DELIVERIES.c.status == DeliveryStatus.PAUSED)
        resumed = {"status": DeliveryStatus.PENDING, "due_at": now, "scheduled_at": now}
        if affected(session.execute(update(DELIVERIES).where(*paused).values(resumed))):
            request_job(session, Job.DELIVER)


@survives_deadlock
def remove(endpoint_id: int, *, now: datetime) -> None:
    """Forget an endpoint and its secrets; its deliveries stay to be read. Raise EndpointUnknown."""
    with transaction() as session:
        _lock(session, endpoint_id)
        results.disable(session, endpoint_id, because=DisabledReason.DELETED, now=now)
        _change(session, endpoint_id, {"deleted_at": now, "secrets": ""})
        looks.outlast(session)


@survives_deadlock
def ping(endpoint_id: int, *, now: datetime) -> int:
    """Queue an event that says nothing, and return the number of its delivery.

    Raises EndpointUnknown or EndpointDisabled.
    """
    with transaction() as session:
        _refuse_disabled(_lock(session, endpoint_id))
        return recording.record_for(
            session, events.ping(endpoint_id, ping_id=new_id(now), now=now), endpoint_id, now=now
        )


@survives_deadlock
def retry(delivery_id: int, *, now: datetime) -> None:
    """Have a delivery tried once more, now; its schedule goes on as if it had not been.

    Raises DeliveryUnknown, EndpointDisabled, or DeliveryUnderWay.
    """
    with transaction() as session:
        held = (DELIVERIES.c.lease.is_not(None), DELIVERIES.c.due_at > now)
        row = session.execute(
            select(DELIVERIES.c.endpoint_id, and_(*held).label("under_way"))
            .where(DELIVERIES.c.id == delivery_id)
            .with_for_update()
        ).one_or_none()
        if row is None:
            raise DeliveryUnknown
        _refuse_disabled(session.execute(select(*ENDPOINTS.c).where(ENDPOINTS.c.id == row.endpoint_id)).one())
        if row.under_way:
            raise DeliveryUnderWay
        asked = {"due_at": now, "cause": AttemptCause.MANUAL}
        session.execute(update(DELIVERIES).where(DELIVERIES.c.id == delivery_id).values(asked))
        request_job(session, Job.DELIVER)


def _organization_id(session: Session, inn: str | None) -> int | None:
    if inn is None:
        return None
    organization_id = session.scalar(select(Organization.id).where(Organization.inn == inn))
    if organization_id is None:
        raise OrganizationUnknown
    return organization_id


def _lock(session: Session, endpoint_id: int) -> AnyRow:
    # Without the key: credits that refer to the endpoint need not wait.
    there = (ENDPOINTS.c.id == endpoint_id, ENDPOINTS.c.deleted_at.is_(None))
    row = session.execute(select(*ENDPOINTS.c).where(*there).with_for_update(key_share=True)).one_or_none()
    if row is None:
        raise EndpointUnknown
    return row


def _current(cipher: SecretCipher, endpoint: AnyRow, now: datetime) -> list[Key]:
    return [key for key in _keys(cipher, endpoint) if key.until is None or key.until > now]


def _keys(cipher: SecretCipher, endpoint: AnyRow) -> tuple[Key, ...]:
    return endpoint_keys.decrypt_keys(cipher, endpoint.secrets, endpoint_id=endpoint.id)


def _store_keys(session: Session, cipher: SecretCipher, endpoint_id: int, keys: Sequence[Key]) -> None:
    encrypted = endpoint_keys.encrypt_keys(cipher, keys, endpoint_id=endpoint_id)
    _change(session, endpoint_id, {"secrets": encrypted})


def _change(session: Session, endpoint_id: int, values: Mapping[str, Any]) -> None:
    session.execute(update(ENDPOINTS).where(ENDPOINTS.c.id == endpoint_id).values(values))


def _ending(key: Key, until: datetime) -> Key:
    return replace(key, until=until if key.until is None else min(key.until, until))


def _reveal(endpoint_id: int, key: Key) -> Reveal:
    public_key = endpoint_keys.public_key(key) if key.private_key else None
    return Reveal(id=endpoint_id, secret=key.secret, public_key=public_key)


def _refuse_disabled(endpoint: AnyRow) -> None:
    if endpoint.deleted_at is not None:
        raise EndpointDisabled("This endpoint was deleted; nothing is sent there any more.")
    if endpoint.disabled_at is not None:
        raise EndpointDisabled

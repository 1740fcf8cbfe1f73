"""A proof: everything about one operation in one signed packet, which others can check without Kopeck.

Called by `flask ledger proof`. docs/proof.md describes the form. Writes nothing.
"""

import base64
import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

import rules
import signing
from database.bulk import table_of
from database.session import AnyRow, current_session, snapshot
from errors import OperationUnknown
from ledger import chain, log_audit
from models import EMPTY_LOG_SHA256, BalanceLog, Delivery, DeliveryAttempt, Endpoint, Event, Organization, Payment

FORM = "kopeck-proof-1"

ORGANIZATIONS, LOG, PAYMENTS, EVENTS, DELIVERIES, ATTEMPTS, ENDPOINTS = (
    table_of(model) for model in (Organization, BalanceLog, Payment, Event, Delivery, DeliveryAttempt, Endpoint)
)


def organization_of(operation_id: UUID, source: str) -> str:
    """Return the INN of the organisation that a payment was credited to; raise OperationUnknown."""
    inn: str | None = current_session().scalar(
        select(ORGANIZATIONS.c.inn)
        .join(PAYMENTS, PAYMENTS.c.organization_id == ORGANIZATIONS.c.id)
        .where(PAYMENTS.c.operation_id == operation_id, PAYMENTS.c.source == source)
    )
    if inn is None:
        raise OperationUnknown
    return inn


def packet(operation_id: UUID, source: str, *, until: int | None, key: str, now: datetime) -> bytes:
    """Return the packet of a payment: a line of JSON, and a line with its signature; raise OperationUnknown.

    The chain goes from its row to this version of its organisation, or to the newest.
    """
    with snapshot() as session:
        said = _packet(session, operation_id, source, until)
    said = {"form": FORM, "made_at": rules.rfc3339(now), "public_key": signing.public_key(key), **said}
    line = json.dumps(said, separators=(",", ":")).encode()
    return line + b"\n" + signing.sign_document(line, key).encode() + b"\n"


def _packet(session: Session, operation_id: UUID, source: str, until: int | None) -> dict[str, Any]:
    payment = session.execute(
        select(*PAYMENTS.c, LOG.c.version, LOG.c.organization_id.label("owner"))
        .join(LOG, LOG.c.payment_id == PAYMENTS.c.id)
        .where(PAYMENTS.c.operation_id == operation_id, PAYMENTS.c.source == source)
    ).one_or_none()
    if payment is None:
        raise OperationUnknown
    if until is not None and until < payment.version:
        raise OperationUnknown("The seal is older than this payment.")
    return {
        "operation_id": str(operation_id),
        "source": source,
        "key_id": payment.key_id,
        "body": base64.b64encode(payment.body).decode(),
        **_chain(session, payment, until),
        "events": _events(session, payment),
    }


def _chain(session: Session, payment: AnyRow, until: int | None) -> dict[str, Any]:
    """Return what is hashed of each row from the payment's on, and the hashes around and between."""
    before = session.scalar(
        select(LOG.c.row_sha256).where(LOG.c.organization_id == payment.owner, LOG.c.version == payment.version - 1)
    )
    rows = log_audit.rows_of(session, payment.owner, since=payment.version, until=until)
    return {
        "organization": rows[0].organization_inn,
        "before": before or EMPTY_LOG_SHA256,
        "rows": [chain.move_members(*log_audit.parts(row)) for row in rows],
        "hashes": [row.log_row_sha256 for row in rows],
    }


def _events(session: Session, payment: AnyRow) -> list[dict[str, Any]]:
    """Return what was announced of the payment, to whom, and every attempt that is kept."""
    found = session.execute(
        select(*EVENTS.c["id", "type", "data"]).where(
            EVENTS.c.organization_id == payment.owner, EVENTS.c.version == payment.version
        )
    ).all()
    return [
        {"id": str(row.id), "type": row.type, "data": row.data, "deliveries": _deliveries(session, row.id)}
        for row in found
    ]


def _deliveries(session: Session, event_id: UUID) -> list[dict[str, Any]]:
    deliveries = session.execute(
        select(DELIVERIES.c.id, DELIVERIES.c.status, ENDPOINTS.c.url)
        .join(ENDPOINTS, ENDPOINTS.c.id == DELIVERIES.c.endpoint_id)
        .where(DELIVERIES.c.event_id == event_id)
        .order_by(DELIVERIES.c.id)
    ).all()
    return [
        {"url": row.url, "status": row.status, "attempts": [_attempt(one) for one in _attempts(session, row.id)]}
        for row in deliveries
    ]


def _attempts(session: Session, delivery_id: int) -> Sequence[AnyRow]:
    query = select(*ATTEMPTS.c).where(ATTEMPTS.c.delivery_id == delivery_id).order_by(ATTEMPTS.c.number)
    return session.execute(query).all()


def _attempt(row: AnyRow) -> dict[str, Any]:
    return {
        "number": row.number,
        "started_at": rules.rfc3339(row.started_at),
        "duration_ms": row.duration_ms,
        "status_code": row.status_code,
    }

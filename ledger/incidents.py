"""Incidents: what is authentic and could not be counted, kept for a person to look at.

record() and close() write inside the caller's transaction and never commit; find() and rows() read.
"""

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from database.bulk import affected, insert_absent, table_of
from database.session import AnyRow, current_session
from enums import IncidentKind
from errors import IncidentNotOpen, IncidentUnknown
from models import Incident, Payment

ASSIGNABLE = (IncidentKind.UNKNOWN_INN, IncidentKind.BALANCE_LIMIT)
"""The kinds that hold money which a person may credit to an organisation."""

Operation = tuple[str, UUID]
"""The name of a source, and the number that it gave to an operation."""

ASSIGNED = "assigned to "
"""How the resolution of an incident begins whose money went to the organisation with the INN that follows."""


def record(
    session: Session,
    kind: IncidentKind,
    *,
    source: str,
    operation_id: UUID | None,
    facts: Mapping[str, Any],
    body: bytes,
    key_id: str,
    now: datetime,
) -> int:
    """Keep an incident, or count one more of the same, and return its number."""
    fingerprint = _fingerprint(kind, source, operation_id, facts, body)
    row = {
        "fingerprint": fingerprint,
        "kind": kind,
        "source": source,
        "operation_id": operation_id,
        "facts": dict(facts),
        "body": body,
        "body_sha256": hashlib.sha256(body).hexdigest(),
        "key_id": key_id,
        "seen_count": 0,
        "created_at": now,
        "last_seen_at": now,
    }
    table = table_of(Incident)
    insert_absent(session.connection(), table_of(Incident), [row], unique="fingerprint")
    session.execute(
        update(table)
        .where(table.c.fingerprint == fingerprint)
        .values(seen_count=table.c.seen_count + 1, last_seen_at=now)
    )
    if kind in ASSIGNABLE:
        _reopen_uncredited(session, fingerprint)
    return session.scalars(select(Incident.id).where(Incident.fingerprint == fingerprint)).one()


def find(incident_id: int) -> AnyRow:
    """Return one incident, inside a transaction as it stands there; raise IncidentUnknown."""
    row = current_session().execute(select(*table_of(Incident).c).where(Incident.id == incident_id)).one_or_none()
    if row is None:
        raise IncidentUnknown
    return row


def close(session: Session, incident_id: int, *, resolution: str, by: str, now: datetime) -> None:
    """Mark an open incident as resolved; of two callers one wins and the other gets IncidentNotOpen."""
    closed = session.execute(
        update(Incident)
        .where(Incident.id == incident_id, Incident.resolved_at.is_(None))
        .values(resolved_at=now, resolved_by=by, resolution=resolution)
    )
    if affected(closed) != 1:
        raise IncidentNotOpen


def assigned(session: Session) -> dict[Operation, set[str]]:
    """Return the INNs to which the money of incidents was assigned, by operation."""
    query = select(Incident.source, Incident.operation_id, Incident.resolution).where(
        Incident.operation_id.is_not(None), Incident.resolved_at.is_not(None), Incident.resolution.startswith(ASSIGNED)
    )
    found: dict[Operation, set[str]] = {}
    for row in session.execute(query):
        found.setdefault((row.source, row.operation_id), set()).add(row.resolution.removeprefix(ASSIGNED))
    return found


def _reopen_uncredited(session: Session, fingerprint: str) -> None:
    """Open an incident again when its money was resolved away uncredited and the bank still announces it."""
    credited = select(Payment.id).where(Payment.operation_id == Incident.operation_id).exists()
    session.execute(
        update(Incident)
        .where(Incident.fingerprint == fingerprint, Incident.resolved_at.is_not(None), ~credited)
        .values(resolved_at=None)  # who resolved it and why stays to be read
        .execution_options(synchronize_session=False)
    )


def _fingerprint(
    kind: IncidentKind, source: str, operation_id: UUID | None, facts: Mapping[str, Any], body: bytes
) -> str:
    """Name what arrived: by operation and facts where it could be read, so that white space makes no second incident.

    The operation belongs in it: two payments may agree in everything else, and each is money to be kept.
    """
    unread = body if operation_id is None else b""
    named = f"{kind}:{source}:{operation_id}:{json.dumps(facts, sort_keys=True)}:"
    return hashlib.sha256(named.encode() + unread).hexdigest()

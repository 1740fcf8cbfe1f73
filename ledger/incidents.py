"""Incidents: what is authentic and could not be counted, kept for a person to look at.

What records and closes them writes inside the caller's transaction and never commits.
"""

import hashlib
import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Select, and_, func, insert, select, update
from sqlalchemy.orm import Session

import rules
from database.bulk import affected, insert_absent, table_of
from database.session import AnyRow, current_session
from enums import IncidentKind
from errors import FieldProblem, IncidentNotOpen, IncidentUnknown, UnusableBody
from ledger import bodies
from limits import OPEN_UNUSABLE_WEBHOOKS_MAX
from models import Incident, IncidentResolution, Payment
from rules import Facts, Operation

INCIDENTS, RESOLUTIONS = table_of(Incident), table_of(IncidentResolution)

_SAME_OPERATION = (Payment.operation_id == Incident.operation_id, Payment.source == Incident.source)
"""The payment that has credited the operation of an incident."""

ASSIGNABLE = (IncidentKind.UNKNOWN_INN, IncidentKind.BALANCE_LIMIT)
"""The kinds that hold money which a person may credit to an organisation."""

ASSIGNED = "assigned to "
"""How the resolution of an incident begins whose money went to the organisation with the INN that follows."""

RESERVED = re.compile(r"\s*assigned\s+to\b", re.IGNORECASE)
"""How a note must not begin: the audit and a trigger read these words, people read them in any spelling."""

WHY_RESERVED = (
    f'A note cannot begin with "{ASSIGNED.strip()}": only an assignment, which credits the money, is kept in these '
    "words. To credit it use `flask incidents assign`, or POST to /assign/ of this incident; else begin in other words."
)


@dataclass(frozen=True, kw_only=True)
class UnusableWebhook:
    """An authentic webhook that cannot be used; `identity` is what its repeats have in common."""

    source: str
    identity: str
    operation_id: UUID | None
    errors: Sequence[FieldProblem]
    body: bytes
    key_id: str


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
    row: dict[str, Any] = {
        "fingerprint": _fingerprint(kind, source, operation_id, facts, body),
        "kind": kind,
        "source": source,
        "operation_id": operation_id,
        "facts": dict(facts),
        "body": body,
        "key_id": key_id,
    }
    _count(session, row, now)
    if kind in ASSIGNABLE:
        _reopen_uncredited(session, row["fingerprint"])
    if kind == IncidentKind.UNREADABLE_KEYS:
        # It is recorded when a worker begins, and stays for as long as nobody mends it.
        _reopen(session, row["fingerprint"])
    return _number_of(session, row["fingerprint"])


def record_unusable(session: Session, webhook: UnusableWebhook, *, acknowledged: bool, now: datetime) -> int:
    """Keep a webhook that cannot be used, or count one more of the same, and return the number of its incident.

    One that its bank was refused comes again: of those no more than OPEN_UNUSABLE_WEBHOOKS_MAX are kept open for one
    bank, and others are only counted, in an incident of their own. One that was acknowledged is always kept.
    """
    row: dict[str, Any] = {
        "fingerprint": _hash(f"{IncidentKind.UNUSABLE_BODY}:{webhook.source}:{webhook.identity}"),
        "kind": IncidentKind.UNUSABLE_BODY,
        "source": webhook.source,
        "operation_id": webhook.operation_id,
        "facts": {"errors": list(webhook.errors)},
        "body": webhook.body,
        "key_id": webhook.key_id,
    }
    if acknowledged or _is_known(session, row["fingerprint"]) or not _are_enough_open(session, webhook.source):
        _count(session, row, now)
        return _number_of(session, row["fingerprint"])
    beyond = {
        **row,
        "fingerprint": _hash(f"{IncidentKind.UNUSABLE_BODY}:{webhook.source}:beyond"),
        "operation_id": None,
        "facts": {"errors": [], "beyond": OPEN_UNUSABLE_WEBHOOKS_MAX},
    }
    _count(session, beyond, now)
    _reopen(session, beyond["fingerprint"])
    return _number_of(session, beyond["fingerprint"])


def as_json(facts: Facts) -> dict[str, Any]:
    """Write what was announced, or recorded, as an incident keeps it."""
    return {**facts._asdict(), "document_date": rules.rfc3339(facts.document_date)}


def fingerprints_of_held(operation_id: UUID, facts: Facts, external_id: str | None) -> set[str]:
    """Return by which fingerprints money is known that was announced so and is held."""
    kept = {"announced": as_json(facts), "external_id": external_id}
    return {_fingerprint(kind, facts.source, operation_id, kept, b"") for kind in ASSIGNABLE}


def query() -> Select[*tuple[Any, ...]]:
    """Select incidents, each beside the payment that has credited its operation since, if one has."""
    return select(*INCIDENTS.c, Payment.id.label("payment_id")).outerjoin(Payment, and_(*_SAME_OPERATION))


def find(incident_id: int) -> AnyRow:
    """Return one incident, inside a transaction as it stands there; raise IncidentUnknown."""
    row = current_session().execute(query().where(Incident.id == incident_id)).one_or_none()
    if row is None:
        raise IncidentUnknown
    return row


def resolutions(incident_ids: Collection[int]) -> dict[int, list[AnyRow]]:
    """Return how these incidents were resolved, each time that they were, the first time first."""
    rows = select(*RESOLUTIONS.c).where(RESOLUTIONS.c.incident_id.in_(incident_ids)).order_by(RESOLUTIONS.c.number)
    found: dict[int, list[AnyRow]] = {incident_id: [] for incident_id in incident_ids}
    for row in current_session().execute(rows):
        found[row.incident_id].append(row)
    return found


def is_assignable(incident: AnyRow) -> bool:
    """Return whether an incident holds money that a person may credit to an organisation.

    A conflict does if it is one of two sources: older versions took their operations with one number for the same.
    """
    if incident.kind == IncidentKind.CONFLICT:
        recorded = bodies.member(bodies.member(incident.facts, "recorded"), "source")
        return recorded is not None and bool(recorded != incident.source)
    return incident.kind in ASSIGNABLE


def assign(session: Session, incident_id: int, *, inn: str, by: str, now: datetime) -> None:
    """Mark an incident as resolved by a credit of this transaction and this moment; raise IncidentNotOpen."""
    _close(session, incident_id, resolution=f"{ASSIGNED}{inn}", by=by, now=now)


def resolve(session: Session, incident_id: int, *, note: str, by: str, now: datetime) -> None:
    """Mark an incident as resolved with a person's note; raise IncidentNotOpen, or UnusableBody for reserved words."""
    if RESERVED.match(note):
        raise UnusableBody(WHY_RESERVED, errors=[{"pointer": "#/resolution", "detail": WHY_RESERVED}])
    _close(session, incident_id, resolution=note, by=by, now=now)


def assigned(session: Session) -> dict[Operation, set[str]]:
    """Return the INNs to which the money of incidents was assigned, by operation.

    Read from the resolutions, which the database refuses to change, and believed only of the payment that was made at
    the same moment: older versions took notes in the same words.
    """
    query = (
        select(Incident.source, Incident.operation_id, RESOLUTIONS.c.resolution)
        .join(RESOLUTIONS, RESOLUTIONS.c.incident_id == Incident.id)
        .join(Payment, and_(*_SAME_OPERATION, Payment.received_at == RESOLUTIONS.c.resolved_at))
        .where(RESOLUTIONS.c.resolution.startswith(ASSIGNED))
    )
    found: dict[Operation, set[str]] = {}
    for row in session.execute(query):
        found.setdefault(Operation(row.operation_id, row.source), set()).add(row.resolution.removeprefix(ASSIGNED))
    return found


def _close(session: Session, incident_id: int, *, resolution: str, by: str, now: datetime) -> None:
    """Mark an open incident as resolved; of two callers one wins and the other gets IncidentNotOpen."""
    how = {"resolved_at": now, "resolved_by": by, "resolution": resolution}
    closed = session.execute(
        update(INCIDENTS).where(INCIDENTS.c.id == incident_id, INCIDENTS.c.resolved_at.is_(None)).values(how)
    )
    if affected(closed) != 1:
        raise IncidentNotOpen
    # The incident is locked by now, so nobody else takes the same number.
    before = select(func.count()).where(RESOLUTIONS.c.incident_id == incident_id)
    number = (session.scalar(before) or 0) + 1
    session.execute(insert(RESOLUTIONS).values(incident_id=incident_id, number=number, **how))


def _count(session: Session, row: Mapping[str, Any], now: datetime) -> None:
    """Insert an incident that is not there yet, then count it."""
    new = {**row, "body_sha256": hashlib.sha256(row["body"]).hexdigest(), "seen_count": 0}
    times = {"created_at": now, "last_seen_at": now}
    counted = update(INCIDENTS).where(INCIDENTS.c.fingerprint == row["fingerprint"])
    counted = counted.values(seen_count=INCIDENTS.c.seen_count + 1, last_seen_at=now)
    insert_absent(session.connection(), INCIDENTS, [{**new, **times}], unique="fingerprint")
    while not affected(session.execute(counted)):
        # It was there, and was pruned before it could be counted.
        insert_absent(session.connection(), INCIDENTS, [{**new, **times}], unique="fingerprint")


def _number_of(session: Session, fingerprint: str) -> int:
    return session.scalars(select(Incident.id).where(Incident.fingerprint == fingerprint)).one()


def _is_known(session: Session, fingerprint: str) -> bool:
    return session.scalar(select(Incident.id).where(Incident.fingerprint == fingerprint)) is not None


def _are_enough_open(session: Session, source: str) -> bool:
    """Return whether no more of a bank's unusable bodies are to be kept; some more are when many come at once."""
    unusable = (Incident.kind == IncidentKind.UNUSABLE_BODY, Incident.source == source)
    still_open = select(Incident.id).where(*unusable, Incident.resolved_at.is_(None)).limit(OPEN_UNUSABLE_WEBHOOKS_MAX)
    return session.scalar(select(func.count()).select_from(still_open.subquery())) == OPEN_UNUSABLE_WEBHOOKS_MAX


def _reopen(session: Session, fingerprint: str) -> None:
    """Open an incident again, if it was resolved; how it was stays to be read."""
    session.execute(update(INCIDENTS).where(INCIDENTS.c.fingerprint == fingerprint).values(resolved_at=None))


def _reopen_uncredited(session: Session, fingerprint: str) -> None:
    """Open an incident again when its money was resolved away uncredited and the bank still announces it."""
    credited = select(Payment.id).where(*_SAME_OPERATION).exists()
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


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()

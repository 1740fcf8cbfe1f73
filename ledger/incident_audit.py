"""Whether incidents still say what they said: compared with their bodies, their resolutions and the payments.

Called by the audit. Whoever changes an incident changes what a person will credit, or hides that there is something to
credit; so its columns are not believed. Reads only.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby

from sqlalchemy import Select, and_, exists, func, or_, select
from sqlalchemy.orm import Session

import rules
from database.bulk import table_of
from database.session import AnyRow
from enums import IncidentKind
from ledger import bodies, incidents
from ledger.incidents import ASSIGNABLE, ASSIGNED, INCIDENTS, RESOLUTIONS
from models import Inbox, Payment
from rules import Facts, Operation

BATCH_ROWS = 500

ANNOUNCED = (*ASSIGNABLE, IncidentKind.CONFLICT)
"""The kinds whose facts say what a bank announced."""

WITHOUT_BODY = (IncidentKind.ENDPOINT_DISABLED, IncidentKind.UNREADABLE_KEYS)
"""The kinds that no webhook has made."""

HOW = ("resolved_at", "resolved_by", "resolution")
"""What an incident tells of its newest resolution."""


def rows(session: Session, at_a_time: int) -> Iterator[tuple[AnyRow, list[AnyRow]]]:
    """Read each incident and its resolutions, beside the payment that has credited its operation, as one stream."""
    same_operation = and_(Payment.operation_id == INCIDENTS.c.operation_id, Payment.source == INCIDENTS.c.source)
    found = session.execute(
        select(
            *INCIDENTS.c,
            Payment.id.label("payment_id"),
            RESOLUTIONS.c.number,
            *(RESOLUTIONS.c[name].label(f"then_{name}") for name in HOW),
        )
        .outerjoin(Payment, same_operation)
        .outerjoin(RESOLUTIONS, RESOLUTIONS.c.incident_id == INCIDENTS.c.id)
        # By the key alone, which the database need not sort: bodies are long.
        .order_by(INCIDENTS.c.id)
        .execution_options(yield_per=at_a_time)
    )
    for _id, parts in groupby(found, key=lambda row: row.id):
        first, *others = parts
        resolutions = [] if first.number is None else sorted((first, *others), key=lambda row: row.number)
        yield first, resolutions


def problems(incident: AnyRow, resolutions: Sequence[AnyRow]) -> Iterator[str]:
    """Yield what is wrong with an incident and its resolutions."""
    if incident.kind in ANNOUNCED:
        yield from _announced_problems(incident)
    else:
        yield from bodies.damage(incident.body, incident.body_sha256)
        yield from _kind_problems(incident)
    yield from _resolution_problems(incident, resolutions)


def _announced_problems(incident: AnyRow) -> Iterator[str]:
    """Compare what an incident holds with the body that brought it: assigned, it becomes money."""
    kept = bodies.announced(incident.operation_id, incident.facts)
    if kept is None:
        yield "its facts do not say what was announced"
    elif incident.facts["announced"].get("source") != incident.source:
        yield "its facts name another source than the row"
    kept = kept or {"operation_id": incident.operation_id}
    yield from bodies.differences(incident.source, incident.body, incident.body_sha256, kept)
    if incident.kind == IncidentKind.CONFLICT:
        recorded = bodies.member(incident.facts, "recorded")
        if bodies.member(recorded, "source") is None:
            yield "its facts do not say what was recorded"
        elif not incidents.is_assignable(incident) and incident.payment_id is None:
            yield "is a conflict with a payment that does not exist, so nobody credits what it announces"


def _kind_problems(incident: AnyRow) -> Iterator[str]:
    """Look whether an incident was made for money, and has a kind since of which nobody expects that."""
    if incident.kind in WITHOUT_BODY and incident.body:
        yield f"has the body of a webhook, and its kind is {incident.kind}"
    elif bodies.member(incident.facts, "announced") is not None or incident.fingerprint in _fingerprints(incident):
        yield f"was made for money that is held, and its kind is {incident.kind}"


def _fingerprints(incident: AnyRow) -> set[str]:
    """Return the fingerprints that an incident has if its body is held as money.

    That a body can be read proves nothing by itself: it may have been refused for its Content-Type.
    """
    said = bodies.read(incident.source, incident.body)
    if said is None:
        return set()
    facts = Facts(incident.source, said.amount, said.payer_inn, said.document_number, said.document_date)
    return incidents.fingerprints_of_held(said.operation_id, facts, said.external_id)


def _resolution_problems(incident: AnyRow, resolutions: Sequence[AnyRow]) -> Iterator[str]:
    """Compare an incident with its resolutions; one that was opened again has some, and is not resolved."""
    numbers = [row.number for row in resolutions]
    if numbers != list(range(1, len(numbers) + 1)):
        yield f"its resolutions have the numbers {', '.join(map(str, numbers))}: rows before or between are missing"
    if incident.resolved_at is not None and not resolutions:
        yield "is resolved, and no row of incident_resolutions says how"
    elif incident.resolved_at is not None:
        for name in HOW:
            said, kept = getattr(resolutions[-1], f"then_{name}"), getattr(incident, name)
            if said != kept:
                yield f"its newest resolution says {name} {bodies.written(said)}, the row says {bodies.written(kept)}"
    for row in resolutions:
        # Where there is a payment, the audit of payments asks who was credited, and why.
        if incident.kind in ANNOUNCED and incident.payment_id is None and _is_assignment(row.then_resolution):
            yield f"was {row.then_resolution}, and no payment has credited its operation"


def _is_assignment(resolution: str) -> bool:
    return resolution.startswith(ASSIGNED) and rules.INN.fullmatch(resolution.removeprefix(ASSIGNED)) is not None


def left_the_inbox(session: Session) -> Iterator[AnyRow]:
    """Yield the incidents about webhooks in the inbox whose money is neither there any more, nor credited, nor held."""
    last = 0
    while found := session.execute(_gone_from_inbox(last)).all():
        said = {row.id: bodies.read(row.source, row.body) for row in found}
        ids = {announcement.operation_id for announcement in said.values() if announcement is not None}
        others = or_(INCIDENTS.c.operation_id.in_(ids), INCIDENTS.c.body_sha256.in_({row.body_sha256 for row in found}))
        kept = session.execute(
            select(*INCIDENTS.c["operation_id", "source", "body_sha256"]).where(
                INCIDENTS.c.kind != IncidentKind.STUCK_WEBHOOK, others
            )
        ).all()
        paid = session.execute(select(Payment.operation_id, Payment.source).where(Payment.operation_id.in_(ids))).all()
        operations = {Operation(row.operation_id, row.source) for row in (*paid, *kept)}
        copies = {(row.source, row.body_sha256) for row in kept}
        for row in found:
            announcement = said[row.id]
            if announcement is None or (row.source, row.body_sha256) in copies:
                continue
            if Operation(announcement.operation_id, row.source) not in operations:
                yield row
        last = found[-1].id


def _gone_from_inbox(last: int) -> Select[tuple[int, str, bytes, str]]:
    inbox = table_of(Inbox)
    # Each is compared with all that waits of its bank: the lengths first, for which no long body need be read.
    same_body = (func.length(inbox.c.body) == func.length(INCIDENTS.c.body), inbox.c.body == INCIDENTS.c.body)
    waits = exists().where(inbox.c.source == INCIDENTS.c.source, *same_body)
    return (
        select(*INCIDENTS.c["id", "source", "body", "body_sha256"])
        .where(INCIDENTS.c.id > last, INCIDENTS.c.kind == IncidentKind.STUCK_WEBHOOK, ~waits)
        .order_by(INCIDENTS.c.id)
        .limit(BATCH_ROWS)
    )


def without_incident(session: Session) -> Iterator[int]:
    """Yield the numbers of incidents that have resolutions, and are not there."""
    yield from session.scalars(
        select(RESOLUTIONS.c.incident_id)
        .outerjoin(INCIDENTS, INCIDENTS.c.id == RESOLUTIONS.c.incident_id)
        .where(INCIDENTS.c.id.is_(None))
        .distinct()
        .order_by(RESOLUTIONS.c.incident_id)
    ).all()

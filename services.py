"""Use cases, money in: receive a bank's webhook at once or by way of the inbox, preview one, settle an incident.

Called by the doors with plain values and a moment; each opens one transaction and returns plain values.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session
from werkzeug.datastructures import Headers

import banks
import rules
from banks.base import Announcement, Bank, Message
from database.failures import is_contention, is_unavailable, log_crash, log_unavailable
from database.group_commit import GroupCommit
from database.session import AnyRow, current_session, survives_deadlock, transaction
from enums import IncidentKind, PostingStatus, PreviewOutcome, UnknownInn, WebhookStatus
from errors import (
    BalanceLimit,
    BankUnknown,
    IncidentNotAssignable,
    OperationTaken,
    OrganizationUnknown,
    Overdraft,
    PaymentError,
    UnusableBody,
)
from ledger import bodies, inbox, incidents, overdue, posting
from ledger.entries import Credit, Debit, Entry
from ledger.inbox import QueuedWebhook
from ledger.incidents import UnusableWebhook
from ledger.posting import Outcome, Recorded
from limits import INBOX_ATTEMPTS_BEFORE_INCIDENT, INBOX_BATCH_WEBHOOKS
from models import Organization
from outbox import events, recording
from rules import Facts, Operation

log = logging.getLogger("kopeck")

WHY_NOT_DEBITED: dict[PostingStatus, type[PaymentError]] = {
    PostingStatus.UNKNOWN_INN: OrganizationUnknown,
    PostingStatus.OVERDRAFT: Overdraft,
    PostingStatus.BALANCE_LIMIT: BalanceLimit,
    PostingStatus.CONFLICT: OperationTaken,
}

RECEIPTED = (PostingStatus.CREDITED, PostingStatus.DUPLICATE)
"""What a bank gets a receipt for: that what it says is counted."""

INCIDENT_KINDS = {
    PostingStatus.CONFLICT: IncidentKind.CONFLICT,
    PostingStatus.UNKNOWN_INN: IncidentKind.UNKNOWN_INN,
    PostingStatus.BALANCE_LIMIT: IncidentKind.BALANCE_LIMIT,
}
"""The outcomes that a person must look at."""

WHY_NOT_ASSIGNED = {
    PostingStatus.UNKNOWN_INN: "No organisation has this INN; register it first.",
    PostingStatus.BALANCE_LIMIT: "The balance of this organisation would pass the largest that can be kept.",
    PostingStatus.DUPLICATE: "This operation has been credited since; resolve the incident with a note instead.",
    PostingStatus.CONFLICT: (
        "This operation has been credited since, with other facts; resolve the incident with a note."
    ),
}


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """What became of a webhook: credited, duplicate, conflict or held."""

    status: WebhookStatus
    operation_id: UUID
    payment_id: UUID | None
    recorded: Recorded | None = None
    incident_id: int | None


@dataclass(frozen=True, kw_only=True)
class DebitReceipt:
    """What became of a debit: the row that holds it, and an incident if it took the balance below what may be owed."""

    status: PostingStatus
    debit_id: UUID
    incident_id: int | None


@dataclass(frozen=True, kw_only=True)
class Preview:
    """What would become of a webhook; balances in kopecks, None where no organisation is known."""

    outcome: PreviewOutcome
    inn: str | None = None
    balance: int | None = None
    balance_after: int | None = None
    refusal: PaymentError | None = None


def receive_webhook(
    bank: Bank,
    message: Message,
    *,
    key_id: str,
    message_id: str | None = None,
    unknown_inn: UnknownInn,
    now: datetime,
) -> Receipt:
    """Take one authentic webhook: credit it once, or keep it as an incident; committed when this returns.

    Raises UnusableBody after the body has been kept as an incident.
    """
    try:
        credit = _read(bank, message, key_id=key_id, may_create=unknown_inn == UnknownInn.CREATE, now=now)
    except UnusableBody as error:
        _keep_refused(bank, message, error, key_id=key_id, message_id=message_id, now=now)
        raise
    return _credit_commits.run(credit)


def enqueue_webhook(
    bank: Bank,
    message: Message,
    *,
    key_id: str,
    message_id: str | None = None,
    unknown_inn: UnknownInn,
    now: datetime,
) -> None:
    """Store one authentic webhook for process_inbox() to credit; committed when this returns."""
    arrival = QueuedWebhook(
        source=bank.name,
        content_type=message.content_type,
        body=message.body,
        key_id=key_id,
        message_id=message_id,
        unknown_inn=unknown_inn,
        received_at=now,
    )
    _inbox_commits.run(arrival)


def process_inbox(*, now: datetime) -> int:
    """Credit what waits in the inbox, or keep it as incidents, one batch; return how many rows were looked at.

    Of a batch that fails for a reason of ours each is tried by itself, and only those that fail again wait.
    """
    ids = inbox.due(places=INBOX_BATCH_WEBHOOKS, now=now)
    if not ids:
        return 0
    try:
        return _credit_batch(ids)
    except Exception as error:
        if is_unavailable(error) and not is_contention(error):
            raise
    for taken, inbox_id in enumerate(ids, 1):
        if not _credit_alone(inbox_id, now):
            # Somebody's lock held it up: to wait for each that it concerns would keep all others waiting.
            return taken
    return len(ids)


def _take(session: Session, credits: Sequence[Credit]) -> list[Receipt]:
    """Post credits that arrived together, announce them, and keep for a person what could not be counted."""
    outcomes = posting.post(session, credits)
    _announce(session, credits, outcomes)
    unclear = [place for place, outcome in enumerate(outcomes) if outcome.status in INCIDENT_KINDS]
    # In the same order in every process: an incident that is there already stays locked until the commit.
    unclear.sort(key=lambda place: (credits[place].operation, credits[place].facts))
    incident_ids = {place: _keep_for_a_person(session, credits[place], outcomes[place]) for place in unclear}
    return [_receipt(credits[place], outcomes[place], incident_ids.get(place)) for place in range(len(credits))]


_credit_commits = GroupCommit(_take)
_inbox_commits = GroupCommit(inbox.put)


@survives_deadlock
def _credit_batch(ids: Sequence[int]) -> int:
    with transaction() as session:
        rows = inbox.take(session, ids)
        readable = [credit for row in rows if (credit := _read_queued(session, row)) is not None]
        if readable:
            _take(session, readable)
        inbox.remove(session, [row.id for row in rows])
    return len(rows)


def _read_queued(session: Session, row: AnyRow) -> Credit | None:
    """Read a webhook of the inbox; keep it for a person, and return nothing, when it cannot be used."""
    bank = banks.find(row.source)
    headers = Headers({"Content-Type": row.content_type})
    message = Message(headers=headers, content_type=row.content_type, body=row.body)
    try:
        return _read(
            bank, message, key_id=row.key_id, may_create=row.unknown_inn == UnknownInn.CREATE, now=row.received_at
        )
    except UnusableBody as error:
        unusable = _unusable(bank, message, error, key_id=row.key_id, message_id=row.message_id)
        # Acknowledged when it came: the bank will not send it again.
        incidents.record_unusable(session, unusable, acknowledged=True, now=row.received_at)
        return None


def _credit_alone(inbox_id: int, now: datetime) -> bool:
    """Credit one webhook of the inbox by itself, or let it wait; False when another transaction's lock stood there."""
    try:
        _credit_batch([inbox_id])
        return True
    except Exception as error:
        held_up = is_contention(error)
        if is_unavailable(error) and not held_up:
            raise
        _log_left(f"webhook {inbox_id} in the inbox, which is tried again later", error)
    with transaction() as session:
        for row in inbox.take(session, [inbox_id]):
            inbox.postpone(session, row, failed=not held_up, now=now)
            if not held_up and row.attempt_count + 1 == INBOX_ATTEMPTS_BEFORE_INCIDENT:
                overdue.record(session, row, now=now)
    return not held_up


def _log_left(where: str, error: Exception) -> None:
    if isinstance(error, BankUnknown):
        # It fails so at each try, and where in our code says nothing.
        log.error("%s: its bank is not in the registry; `flask inbox list` names it", where)
    elif is_contention(error):
        log_unavailable(where, error)
    else:
        log_crash(where, error)


def _announce(session: Session, entries: Sequence[Entry], outcomes: Sequence[Outcome]) -> None:
    """Record an event for each move of a balance to which somebody listens."""
    moved = [(entry, outcome.move) for entry, outcome in zip(entries, outcomes, strict=True)]
    of_interest = [events.posted(entry, move) for entry, move in moved if move is not None and move.has_subscribers]
    if of_interest:
        recording.record(session, of_interest)


def _receipt(credit: Credit, outcome: Outcome, incident_id: int | None) -> Receipt:
    return Receipt(
        status=_public_status(outcome.status),
        operation_id=credit.operation_id,
        payment_id=outcome.first.id if outcome.first else None,
        recorded=outcome.first if outcome.status in RECEIPTED else None,
        incident_id=incident_id,
    )


@survives_deadlock
def debit(entry: Debit) -> DebitReceipt:
    """Take money from a balance, once; a repeat changes nothing.

    One that has happened outside is recorded whatever the balance, with an incident where it passes the limit.
    Raises OrganizationUnknown, Overdraft, BalanceLimit or OperationTaken.
    """
    with transaction() as session:
        (outcome,) = posting.post(session, [entry])
        if (refusal := WHY_NOT_DEBITED.get(outcome.status)) is not None:
            raise refusal
        _announce(session, [entry], [outcome])
        incident_id = _keep_overdrawn(session, entry, outcome)
    assert outcome.first is not None
    return DebitReceipt(status=outcome.status, debit_id=outcome.first.id, incident_id=incident_id)


def _keep_overdrawn(session: Session, entry: Debit, outcome: Outcome) -> int | None:
    move = outcome.move
    if move is None or move.balance_after >= -move.overdraft_limit:
        return None
    facts = {
        "inn": entry.inn,
        "debit_id": str(move.debit_id),
        "amount": entry.amount,
        "counter_account": entry.counter_account,
        "balance_after": move.balance_after,
        "overdraft_limit": move.overdraft_limit,
    }
    return incidents.record(
        session,
        IncidentKind.OVERDRAWN,
        source=entry.source,
        operation_id=entry.operation_id,
        facts=facts,
        body=b"",
        key_id="",
        now=entry.made_at,
    )


def preview(bank: Bank, message: Message, *, unknown_inn: UnknownInn) -> Preview:
    """Return what receive_webhook() would do with an authentic webhook at this moment; write nothing."""
    try:
        announcement = bank.announcement(message)
    except UnusableBody as error:
        return Preview(outcome=PreviewOutcome.UNUSABLE, refusal=error)
    facts = _facts(bank, announcement)
    operation = Operation(announcement.operation_id, bank.name)
    recorded = posting.find_recorded(current_session().connection(), [operation]).get(operation)
    balance = current_session().scalar(select(Organization.balance).where(Organization.inn == facts.payer_inn))
    status = posting.compare(facts, recorded) if recorded else _expected_status(balance, facts.amount, unknown_inn)
    credited = status is PostingStatus.CREDITED
    return Preview(
        outcome=PreviewOutcome(_public_status(status)),
        inn=facts.payer_inn,
        balance=balance,
        balance_after=(balance or 0) + facts.amount if credited else balance,
    )


@survives_deadlock
def assign_incident(incident_id: int, *, inn: str, by: str, now: datetime) -> Receipt:
    """Credit the money that an incident holds to an organisation, once, and resolve the incident.

    Raises IncidentUnknown, IncidentNotOpen, or IncidentNotAssignable.
    """
    with transaction() as session:
        credit = _held_credit(session, incident_id, inn, now)
        # Posted before the incident is touched: receive_webhook() locks in this order too.
        (outcome,) = posting.post(session, [credit])
        _announce(session, [credit], [outcome])
        incidents.assign(session, incident_id, inn=inn, by=by, now=now)
        if outcome.status is not PostingStatus.CREDITED:
            raise IncidentNotAssignable(WHY_NOT_ASSIGNED[outcome.status])
    return _receipt(credit, outcome, incident_id)


@survives_deadlock
def resolve_incident(incident_id: int, *, resolution: str, by: str, now: datetime) -> None:
    """Note why an incident needs nothing more; raise IncidentUnknown, IncidentNotOpen or UnusableBody."""
    with transaction() as session:
        incidents.find(incident_id)
        incidents.resolve(session, incident_id, note=resolution, by=by, now=now)


def _read(bank: Bank, message: Message, *, key_id: str, may_create: bool, now: datetime) -> Credit:
    """Read an authentic body; raise UnusableBody."""
    announcement = bank.announcement(message)
    return Credit(
        operation_id=announcement.operation_id,
        inn=announcement.payer_inn,
        facts=_facts(bank, announcement),
        external_id=announcement.external_id,
        body=message.body,
        key_id=key_id,
        received_at=now,
        may_create=may_create,
    )


@survives_deadlock
def _keep_refused(
    bank: Bank, message: Message, error: UnusableBody, *, key_id: str, message_id: str | None, now: datetime
) -> None:
    unusable = _unusable(bank, message, error, key_id=key_id, message_id=message_id)
    with transaction() as session:
        incidents.record_unusable(session, unusable, acknowledged=False, now=now)


def _unusable(
    bank: Bank, message: Message, error: UnusableBody, *, key_id: str, message_id: str | None
) -> UnusableWebhook:
    identity = bank.identify(message.body, message_id=message_id)
    return UnusableWebhook(
        source=bank.name,
        identity=identity.text,
        operation_id=identity.operation_id,
        errors=error.errors,
        body=message.body,
        key_id=key_id,
    )


def _facts(bank: Bank, announcement: Announcement) -> Facts:
    return Facts(
        source=bank.name,
        amount=announcement.amount,
        payer_inn=announcement.payer_inn,
        document_number=announcement.document_number,
        document_date=announcement.document_date,
    )


def _keep_for_a_person(session: Session, credit: Credit, outcome: Outcome) -> int:
    facts = {"announced": incidents.as_json(credit.facts), "external_id": credit.external_id}
    if outcome.first is not None and isinstance(outcome.first.facts, Facts):
        facts |= {"recorded": incidents.as_json(outcome.first.facts), "payment_id": str(outcome.first.id)}
    return incidents.record(
        session,
        INCIDENT_KINDS[outcome.status],
        source=credit.facts.source,
        operation_id=credit.operation_id,
        facts=facts,
        body=credit.body,
        key_id=credit.key_id,
        now=credit.received_at,
    )


def _held_credit(session: Session, incident_id: int, inn: str, now: datetime) -> Credit:
    incident = incidents.find(incident_id)
    if not incidents.is_assignable(incident):
        raise IncidentNotAssignable("This incident holds no money that could be credited; resolve it with a note.")
    announced = bodies.announced(incident.operation_id, incident.facts)
    if announced is None or announced["operation_id"] is None:
        raise IncidentNotAssignable("Its facts were changed; see `flask ledger verify`.")
    return Credit(
        operation_id=announced.pop("operation_id"),
        inn=inn,
        external_id=announced.pop("external_id"),
        facts=Facts(source=incident.source, **announced),
        body=incident.body,
        key_id=incident.key_id,
        received_at=now,
    )


def _expected_status(balance: int | None, amount: int, unknown_inn: UnknownInn) -> PostingStatus:
    if balance is None and unknown_inn == UnknownInn.HOLD:
        return PostingStatus.UNKNOWN_INN
    return PostingStatus.CREDITED if rules.fits(balance or 0, amount) else PostingStatus.BALANCE_LIMIT


def _public_status(status: PostingStatus) -> WebhookStatus:
    """Name an outcome as the bank hears it: the two reasons for holding money are ours alone."""
    if status in (PostingStatus.UNKNOWN_INN, PostingStatus.BALANCE_LIMIT):
        return WebhookStatus.HELD
    return WebhookStatus(status)

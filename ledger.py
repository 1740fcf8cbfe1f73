"""post(): the only code that changes a balance, always together with its payment and balance_log rows.

Called by use cases inside their transaction, with one credit or with many: the number of statements is the same.
Never commits, and never decides what a caller is told.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import BigInteger, Case, case, insert, literal, select, update
from sqlalchemy.orm import Session

import rules
from database import insert_absent, new_id, table_of
from errors import TryAgain
from models import CURRENCY, BalanceLog, Organization, Payment
from rules import Facts

CREDITS_MAX = 200
"""As many as fit into one statement on every database, the stored bodies included."""


class Status(StrEnum):
    """What became of one credit."""

    CREDITED = "credited"
    DUPLICATE = "duplicate"  # the operation was posted before, with the same facts
    CONFLICT = "conflict"  # the operation was posted before, with other facts
    UNKNOWN_INN = "unknown_inn"  # no such organisation, and none may be created
    BALANCE_LIMIT = "balance_limit"  # the balance would pass rules.MONEY_MAX


@dataclass(frozen=True, kw_only=True)
class Credit:
    """Money announced by a source, in kopecks, for the organisation with this INN."""

    operation_id: UUID
    inn: str
    facts: Facts
    external_id: str | None
    body: bytes
    key_id: str


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """A payment that is in the ledger."""

    payment_id: UUID
    facts: Facts


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one credit; `first` is the payment that holds the operation, if one does."""

    status: Status
    first: Recorded | None = None


@dataclass(frozen=True, kw_only=True)
class Account:
    """A locked organisation; `created` when this transaction found it missing."""

    id: int
    balance: int
    version: int
    created: bool


def post(session: Session, credits: Sequence[Credit], *, create_unknown: bool, now: datetime) -> list[Outcome]:
    """Post credits in the caller's transaction; return what became of each, in the order given.

    Of several credits with one operation_id the first that can be posted wins. Unknown INNs are created only
    when asked. At most CREDITS_MAX at once. Raises TryAgain in the one race that cannot be settled here, and
    leaves it to the caller's rollback to undo all.
    """
    if len(credits) > CREDITS_MAX:
        raise ValueError(f"at most {CREDITS_MAX} credits can be posted at once")
    operation_ids = {credit.operation_id for credit in credits}
    recorded = find_recorded(session, operation_ids)
    fresh = [credit for credit in credits if credit.operation_id not in recorded]
    chosen: dict[UUID, Credit] = {}
    refused: dict[int, Status] = {}
    if fresh:
        accounts = _lock_accounts(session, fresh, create_unknown=create_unknown, now=now)
        chosen, refused = _choose(fresh, accounts)
        payment_ids = _insert_payments(session, chosen, accounts, now)
        recorded = find_recorded(session, operation_ids)
        for operation_id in [id_ for id_ in chosen if recorded[id_].payment_id != payment_ids[id_]]:
            _check_nothing_left(accounts[chosen.pop(operation_id).inn])
        _move_balances(session, chosen.values(), accounts, payment_ids, now)
    return _outcomes(credits, recorded, chosen, refused)


def find_recorded(session: Session, operation_ids: Collection[UUID]) -> dict[UUID, Recorded]:
    """Return the payments that hold these operations."""
    rows = session.execute(
        select(
            Payment.operation_id,
            Payment.id,
            Payment.source,
            Payment.amount,
            Payment.payer_inn,
            Payment.document_number,
            Payment.document_date,
        ).where(Payment.operation_id.in_(operation_ids))
    )
    return {row.operation_id: Recorded(payment_id=row.id, facts=Facts(*row[2:])) for row in rows}


def judge(facts: Facts, recorded: Recorded) -> Status:
    """Tell a harmless repeat from one that says something else about the same operation."""
    return Status.DUPLICATE if facts == recorded.facts else Status.CONFLICT


def _lock_accounts(
    session: Session, credits: Sequence[Credit], *, create_unknown: bool, now: datetime
) -> dict[str, Account]:
    """Lock organisations, creating those that are missing when asked, and read them as they are under the lock.

    Rows are created before any is locked and both happen in one order, so that two transactions do not wait for
    each other in a circle. Locked by id and not by INN: MariaDB locks in the order of the index it reads.
    """
    inns = {credit.inn for credit in credits}
    ids = _find_ids(session, inns)
    # Of several credits with one operation only the first may create: no organisation is to be left without a credit.
    first_inns = {credit.operation_id: credit.inn for credit in reversed(credits)}
    missing = sorted(set(first_inns.values()) - ids.keys()) if create_unknown else []
    if missing:
        insert_absent(session, Organization, [{"inn": inn, "created_at": now} for inn in missing], unique="inn")
        ids = _find_ids(session, inns)
    rows = session.execute(
        select(Organization.inn, Organization.id, Organization.balance, Organization.version)
        .where(Organization.id.in_(ids.values()))
        .order_by(Organization.id)
        .with_for_update(key_share=True)
    )
    return {
        inn: Account(id=id_, balance=balance, version=version, created=inn in missing)
        for inn, id_, balance, version in rows
    }


def _find_ids(session: Session, inns: Collection[str]) -> dict[str, int]:
    rows = session.execute(select(Organization.inn, Organization.id).where(Organization.inn.in_(inns)))
    return {row.inn: row.id for row in rows}


def _choose(credits: Sequence[Credit], accounts: Mapping[str, Account]) -> tuple[dict[UUID, Credit], dict[int, Status]]:
    """Split credits into those that can be posted, one for each operation, and the refusals of others by id()."""
    balances = {inn: account.balance for inn, account in accounts.items()}
    chosen: dict[UUID, Credit] = {}
    refused: dict[int, Status] = {}
    for credit in credits:
        if credit.operation_id in chosen:
            continue
        if credit.inn not in accounts:
            refused[id(credit)] = Status.UNKNOWN_INN
        elif not rules.fits(balances[credit.inn], credit.facts.amount):
            refused[id(credit)] = Status.BALANCE_LIMIT
        else:
            chosen[credit.operation_id] = credit
            balances[credit.inn] += credit.facts.amount
    return chosen, refused


def _insert_payments(
    session: Session, credits: Mapping[UUID, Credit], accounts: Mapping[str, Account], now: datetime
) -> dict[UUID, UUID]:
    """Insert a payment for each operation that has none, and return the id that each was given here.

    A transaction that inserted the same operation first is waited for by the unique constraint, and wins. In
    order of operation, so that two batches cannot wait for each other.
    """
    payment_ids = {operation_id: new_id(now) for operation_id in credits}
    rows = [
        {
            "id": payment_ids[operation_id],
            "operation_id": operation_id,
            "external_id": credit.external_id,
            "source": credit.facts.source,
            "organization_id": accounts[credit.inn].id,
            "payer_inn": credit.facts.payer_inn,
            "amount": credit.facts.amount,
            "currency": CURRENCY,
            "document_number": credit.facts.document_number,
            "document_date": credit.facts.document_date,
            "body": credit.body,
            "body_sha256": hashlib.sha256(credit.body).hexdigest(),
            "key_id": credit.key_id,
            "received_at": now,
        }
        for operation_id, credit in sorted(credits.items())
    ]
    if rows:
        insert_absent(session, Payment, rows, unique="operation_id")
    return payment_ids


def _check_nothing_left(account: Account) -> None:
    """Refuse to leave behind an organisation that was created for a credit which then lost its operation."""
    if account.created and account.version == 0:
        raise TryAgain("The same operation arrived twice at this instant, for two payers. Nothing was changed.")


def _move_balances(
    session: Session,
    credits: Collection[Credit],
    accounts: Mapping[str, Account],
    payment_ids: Mapping[UUID, UUID],
    now: datetime,
) -> None:
    """Write a balance_log row for each credit, with running balances, and the last of them to each organisation."""
    running = dict(accounts)
    entries = []
    for credit in credits:
        before = running[credit.inn]
        after = replace(before, balance=before.balance + credit.facts.amount, version=before.version + 1)
        running[credit.inn] = after
        entries.append(
            {
                "organization_id": after.id,
                "version": after.version,
                "delta": credit.facts.amount,
                "balance_before": before.balance,
                "balance_after": after.balance,
                "payment_id": payment_ids[credit.operation_id],
                "reason": "credit",
                "created_at": now,
            }
        )
    if not entries:
        return
    session.execute(insert(table_of(BalanceLog)).values(entries))
    moved = [account for inn, account in running.items() if account is not accounts[inn]]
    session.execute(
        update(table_of(Organization))
        .where(Organization.id.in_([account.id for account in moved]))
        .values(
            balance=_by_id({account.id: account.balance for account in moved}),
            version=_by_id({account.id: account.version for account in moved}),
        )
    )


def _outcomes(
    credits: Sequence[Credit],
    recorded: Mapping[UUID, Recorded],
    posted: Mapping[UUID, Credit],
    refused: Mapping[int, Status],
) -> list[Outcome]:
    waiting = dict(posted)
    outcomes = []
    for credit in credits:
        first = recorded.get(credit.operation_id)
        if first is None:
            outcomes.append(Outcome(status=refused[id(credit)]))
        elif waiting.get(credit.operation_id) is credit:
            del waiting[credit.operation_id]
            outcomes.append(Outcome(status=Status.CREDITED, first=first))
        else:
            outcomes.append(Outcome(status=judge(credit.facts, first), first=first))
    return outcomes


def _by_id(values: Mapping[int, int]) -> Case[int]:
    # Named BIGINT: a balance of several billion would otherwise be sent as a 32-bit number.
    whens = {id_: literal(value, BigInteger) for id_, value in values.items()}
    return case(whens, value=Organization.id)

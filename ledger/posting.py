"""post(): the only code that changes a balance, always together with its payment and balance_log rows.

Called by use cases inside their transaction, with one credit or with many: the number of statements is the same.
Never commits, and never decides what a caller is told.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Select, Update, or_, select, update
from sqlalchemy.orm import Session

import rules
from database.bulk import among, insert, insert_absent, table_of
from database.columns import new_id
from database.session import AnyRow
from enums import LogReason, PostingStatus
from errors import TryAgain
from limits import BATCH_CREDITS_MAX
from models import CURRENCY, BalanceLog, Endpoint, Organization, Payment
from rules import Facts, Operation

PAYMENTS, ORGANIZATIONS, LOG = table_of(Payment), table_of(Organization), table_of(BalanceLog)
ENDPOINTS = table_of(Endpoint)


@dataclass(frozen=True, kw_only=True)
class Credit:
    """Money announced by a source, in kopecks, for the organisation with this INN."""

    operation_id: UUID
    inn: str
    facts: Facts
    external_id: str | None
    body: bytes
    key_id: str
    received_at: datetime
    may_create: bool = False  # whether an organisation is made for an INN that has none

    @property
    def operation(self) -> Operation:
        """Return what no second payment may have."""
        return Operation(self.operation_id, self.facts.source)


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """A payment that is in the ledger."""

    payment_id: UUID
    facts: Facts


@dataclass(frozen=True, kw_only=True)
class Move:
    """One row of balance_log as it was just written; `has_subscribers` when an endpoint listens to it."""

    organization_id: int
    version: int
    delta: int
    balance_before: int
    balance_after: int
    payment_id: UUID
    has_subscribers: bool


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one credit; `first` is the payment that holds the operation, if one does."""

    status: PostingStatus
    first: Recorded | None = None
    move: Move | None = None


@dataclass(frozen=True, kw_only=True)
class Account:
    """A locked organisation; `created` when this transaction found it missing."""

    id: int
    balance: int
    version: int
    has_subscribers: bool
    created: bool = False


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Which credits are to be posted, by their positions: one for each operation; and why others cannot be."""

    chosen: Mapping[Operation, int]
    refused: Mapping[int, PostingStatus]


def post(session: Session, credits: Sequence[Credit]) -> list[Outcome]:
    """Post credits in the caller's transaction; return what became of each, in the order given.

    Of several credits with one operation the first that can be posted wins. At most BATCH_CREDITS_MAX at once.
    Raises TryAgain in the races that cannot be settled here, and leaves it to the caller's rollback to undo all.
    """
    if len(credits) > BATCH_CREDITS_MAX:
        raise ValueError(f"at most {BATCH_CREDITS_MAX} credits can be posted at once")
    connection = session.connection()
    operations = {credit.operation for credit in credits}
    accounts = _lock(connection, {credit.inn for credit in credits})
    recorded: dict[Operation, Recorded] = {}
    plan = _plan(credits, accounts, recorded)
    if plan.refused:
        # Repeats need no balance and no new organisation; those are looked for only now, because this is rare.
        recorded = find_recorded(connection, operations)
        accounts |= _create_missing(connection, credits, accounts, recorded)
        plan = _plan(credits, accounts, recorded)
    chosen = {operation: credits[position] for operation, position in plan.chosen.items()}
    payment_ids = {operation: new_id(credit.received_at) for operation, credit in chosen.items()}
    recorded |= _insert_payments(connection, chosen, accounts, payment_ids)
    posted = {which: credit for which, credit in chosen.items() if recorded[which].payment_id == payment_ids[which]}
    for operation in chosen.keys() - posted.keys():
        _check_nothing_left(accounts[chosen[operation].inn])
    moves = _move_balances(connection, posted, accounts, payment_ids)
    if plan.refused:
        recorded |= find_recorded(connection, operations)
    return [_outcome(position, credit, plan, recorded, moves) for position, credit in enumerate(credits)]


def find_recorded(connection: Connection, operations: Collection[Operation]) -> dict[Operation, Recorded]:
    """Return the payments that hold these operations."""
    query = _recorded_query(connection.dialect.name)
    rows = connection.execute(query, {"operation_ids": list({operation.id for operation in operations})})
    # Found by id alone, which the index begins with: another source may have used the same one.
    found = {Operation(row.operation_id, row.source): row for row in rows}
    return {
        operation: Recorded(payment_id=row.id, facts=_facts(row))
        for operation, row in found.items()
        if operation in operations
    }


def _facts(row: AnyRow) -> Facts:
    return Facts(
        source=row.source,
        amount=row.amount,
        payer_inn=row.payer_inn,
        document_number=row.document_number,
        document_date=row.document_date,
    )


def compare(facts: Facts, recorded: Recorded) -> PostingStatus:
    """Tell a harmless repeat from one that says something else about the same operation."""
    return PostingStatus.DUPLICATE if facts == recorded.facts else PostingStatus.CONFLICT


def _lock(connection: Connection, inns: Collection[str]) -> dict[str, Account]:
    """Lock the organisations that exist, and read them under the lock."""
    rows = connection.execute(_lock_query(connection.dialect.name), {"inns": sorted(inns)})
    return {
        row.inn: Account(id=row.id, balance=row.balance, version=row.version, has_subscribers=row.has_subscribers)
        for row in rows
    }


def _create_missing(
    connection: Connection,
    credits: Sequence[Credit],
    accounts: Mapping[str, Account],
    recorded: Mapping[Operation, Recorded],
) -> dict[str, Account]:
    """Create the organisations that are missing and may be created, and lock them."""
    # Of several credits with one operation only the first may create: no organisation is to be left without a credit.
    first = {credit.operation: credit for credit in reversed(credits) if credit.operation not in recorded}
    missing = {credit.inn: credit for credit in first.values() if credit.may_create and credit.inn not in accounts}
    if not missing:
        return {}
    rows = [{"inn": inn, "created_at": missing[inn].received_at} for inn in sorted(missing)]
    inserted = insert_absent(connection, ORGANIZATIONS, rows, unique="inn")
    if inserted is not None and inserted < len(rows):
        # To lock it now, after others, could be to wait for somebody who waits for us.
        raise TryAgain("Somebody else registered one of these organisations at this instant.")
    return {inn: replace(account, created=True) for inn, account in _lock(connection, missing).items()}


def _plan(credits: Sequence[Credit], accounts: Mapping[str, Account], recorded: Mapping[Operation, Recorded]) -> Plan:
    """Choose the credits that can be posted, one for each operation that is not recorded yet."""
    balances = {inn: account.balance for inn, account in accounts.items()}
    chosen: dict[Operation, int] = {}
    refused: dict[int, PostingStatus] = {}
    for position, credit in enumerate(credits):
        operation = credit.operation
        if operation in chosen or operation in recorded:
            continue
        if credit.inn not in accounts:
            refused[position] = PostingStatus.UNKNOWN_INN
        elif not rules.fits(balances[credit.inn], credit.facts.amount):
            refused[position] = PostingStatus.BALANCE_LIMIT
        else:
            chosen[operation] = position
            balances[credit.inn] += credit.facts.amount
    return Plan(chosen=chosen, refused=refused)


def _insert_payments(
    connection: Connection,
    credits: Mapping[Operation, Credit],
    accounts: Mapping[str, Account],
    payment_ids: Mapping[Operation, UUID],
) -> dict[Operation, Recorded]:
    """Insert a payment for each operation that has none; return the payments that hold the operations, ours or not.

    A transaction that inserted the same operation first is waited for by the unique constraint, and wins. In
    order of operation, so that two batches cannot wait for each other.
    """
    ordered = sorted(credits)
    rows = [_payment(payment_ids[which], credits[which], accounts[credits[which].inn]) for which in ordered]
    if not rows or insert_absent(connection, PAYMENTS, rows, unique=("operation_id", "source")) == len(rows):
        return {which: Recorded(payment_id=payment_ids[which], facts=credits[which].facts) for which in ordered}
    return find_recorded(connection, credits.keys())


def _payment(payment_id: UUID, credit: Credit, account: Account) -> dict[str, Any]:
    return {
        "id": payment_id,
        "operation_id": credit.operation_id,
        "external_id": credit.external_id,
        "source": credit.facts.source,
        "organization_id": account.id,
        "payer_inn": credit.facts.payer_inn,
        "amount": credit.facts.amount,
        "currency": CURRENCY,
        "document_number": credit.facts.document_number,
        "document_date": credit.facts.document_date,
        "body": credit.body,
        "body_sha256": hashlib.sha256(credit.body).hexdigest(),
        "key_id": credit.key_id,
        "received_at": credit.received_at,
    }


def _check_nothing_left(account: Account) -> None:
    """Refuse to leave behind an organisation that was created for a credit which then lost its operation."""
    if account.created and account.version == 0:
        raise TryAgain("The same operation arrived twice at this instant, for two payers. Nothing was changed.")


def _move_balances(
    connection: Connection,
    credits: Mapping[Operation, Credit],
    accounts: Mapping[str, Account],
    payment_ids: Mapping[Operation, UUID],
) -> dict[Operation, Move]:
    """Write a balance_log row for each credit, with running balances, and make each balance what its log says last.

    Returns the moves by operation.
    """
    running = dict(accounts)
    moves, entries = {}, []
    for operation, credit in credits.items():
        before = running[credit.inn]
        after = replace(before, balance=before.balance + credit.facts.amount, version=before.version + 1)
        running[credit.inn] = after
        entry: dict[str, Any] = {
            "organization_id": after.id,
            "version": after.version,
            "delta": credit.facts.amount,
            "balance_before": before.balance,
            "balance_after": after.balance,
            "payment_id": payment_ids[operation],
        }
        moves[operation] = Move(**entry, has_subscribers=after.has_subscribers)
        entries.append({**entry, "reason": LogReason.CREDIT, "created_at": credit.received_at})
    if entries:
        insert(connection, LOG, entries)
        moved = [account.id for inn, account in running.items() if account is not accounts[inn]]
        connection.execute(_move_query(connection.dialect.name), {"moved": moved})
    return moves


def _outcome(
    position: int,
    credit: Credit,
    plan: Plan,
    recorded: Mapping[Operation, Recorded],
    moves: Mapping[Operation, Move],
) -> Outcome:
    """Return what became of a credit; of several with one operation only the chosen one is new."""
    first, move = recorded.get(credit.operation), moves.get(credit.operation)
    if first is None:
        return Outcome(status=plan.refused[position])
    if move is not None and plan.chosen[credit.operation] == position:
        return Outcome(status=PostingStatus.CREDITED, first=first, move=move)
    return Outcome(status=compare(credit.facts, first), first=first)


@cache
def _recorded_query(dialect: str) -> Select[Any]:
    columns = PAYMENTS.c["operation_id", "id", "source", "amount", "payer_inn", "document_number", "document_date"]
    return select(*columns).where(among(PAYMENTS.c.operation_id, "operation_ids", dialect))


@cache
def _lock_query(dialect: str) -> Select[Any]:
    """Read organisations and lock them, in the order of their INNs on every database.

    All who lock several rows do it here, so that no two wait for each other in a circle. MariaDB locks in the order of
    the index that it reads, whatever ORDER BY says, and is therefore told which. Whether anybody listens is asked along
    with it, so that it costs no round trip.
    """
    mine = or_(ENDPOINTS.c.organization_id.is_(None), ENDPOINTS.c.organization_id == ORGANIZATIONS.c.id)
    has_subscribers = select(ENDPOINTS.c.id).where(ENDPOINTS.c.disabled_at.is_(None), mine).exists()
    return (
        select(*ORGANIZATIONS.c["inn", "id", "balance", "version"], has_subscribers.label("has_subscribers"))
        .with_hint(ORGANIZATIONS, "FORCE INDEX (uq_organizations_inn)", "mariadb")
        .with_hint(ORGANIZATIONS, "FORCE INDEX (uq_organizations_inn)", "mysql")
        .where(among(ORGANIZATIONS.c.inn, "inns", dialect))
        .order_by(ORGANIZATIONS.c.inn)
        .with_for_update(key_share=True)
    )


@cache
def _move_query(dialect: str) -> Update:
    """Give organisations the balance and the version of the newest row of their log."""
    log = LOG.alias("newest")
    newest = select(log).where(log.c.organization_id == ORGANIZATIONS.c.id).order_by(log.c.version.desc()).limit(1)
    return (
        update(ORGANIZATIONS)
        .where(among(ORGANIZATIONS.c.id, "moved", dialect))
        .values(
            balance=newest.with_only_columns(log.c.balance_after).scalar_subquery(),
            version=newest.with_only_columns(log.c.version).scalar_subquery(),
        )
    )

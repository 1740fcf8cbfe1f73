"""post(): the only code that changes a balance, always together with its row of balance_log and what explains it.

Called by use cases inside their transaction, with one entry or with many: the number of statements is the same.
Never commits, and never decides what a caller is told.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Select, Table, select
from sqlalchemy.orm import Session

from database.bulk import among, insert_absent, table_of
from database.columns import new_id
from database.session import AnyRow
from enums import PostingStatus
from errors import TryAgain
from ledger import accounts, moves
from ledger.entries import DebitFacts, Entry, Key
from ledger.moves import Locked, Move
from limits import BATCH_CREDITS_MAX
from models import BalanceLog, Debit, Organization, Payment
from rules import Facts, Operation

PAYMENTS, DEBITS = table_of(Payment), table_of(Debit)
ORGANIZATIONS, LOG = table_of(Organization), table_of(BalanceLog)


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """A payment or a debit that is in the ledger; the hashes of its body and its row are those of a payment."""

    id: UUID
    facts: Facts | DebitFacts
    body_sha256: str = ""
    row_sha256: str = ""
    recorded_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one entry; `first` is the payment or debit that holds the operation, if one does."""

    status: PostingStatus
    first: Recorded | None = None
    move: Move | None = None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Which entries are to be posted, by their positions: one for each operation; and why others cannot be."""

    chosen: Mapping[Key, int]
    refused: Mapping[int, PostingStatus]


def post(session: Session, entries: Sequence[Entry]) -> list[Outcome]:
    """Post credits and debits in the caller's transaction; return what became of each, in the order given.

    Of several entries with one operation the first that can be posted wins. At most BATCH_CREDITS_MAX at once.
    Raises TryAgain in the races that cannot be settled here, and leaves it to the caller's rollback to undo all.
    """
    if len(entries) > BATCH_CREDITS_MAX:
        raise ValueError(f"at most {BATCH_CREDITS_MAX} entries can be posted at once")
    connection = session.connection()
    codes = {entry.counter_account for entry in entries}
    organizations, have_accounts = moves.lock(connection, {entry.inn for entry in entries}, codes)
    recorded: dict[Key, Recorded] = {}
    plan = _plan(entries, organizations, recorded)
    if plan.refused:
        # Repeats need no balance and no new organisation; those are looked for only now, because this is rare.
        recorded = _find(connection, {entry.key for entry in entries})
        organizations |= _create_missing(connection, entries, organizations, recorded)
        plan = _plan(entries, organizations, recorded)
    chosen = {key: entries[position] for key, position in plan.chosen.items()}
    if chosen and not have_accounts:
        accounts.make(connection, {entry.counter_account for entry in chosen.values()})
    causes = {
        key: entry.row(entry.id or new_id(entry.moment), organizations[entry.inn].id) for key, entry in chosen.items()
    }
    lost = _insert_causes(connection, causes)
    for key in lost:
        _check_nothing_left(organizations[chosen[key].inn])
    posted = {key: entry for key, entry in chosen.items() if key not in lost}
    written = moves.write(connection, posted, causes, organizations)
    recorded |= lost
    recorded |= {key: _recorded(entry, causes[key], written[key]) for key, entry in posted.items()}
    if plan.refused:
        recorded |= _find(connection, {entry.key for entry in entries})
    return [_outcome(position, entry, plan, recorded, written) for position, entry in enumerate(entries)]


def _recorded(entry: Entry, cause: Mapping[str, Any], move: Move) -> Recorded:
    return Recorded(
        id=cause["id"],
        facts=entry.facts,
        body_sha256=cause.get("body_sha256", ""),
        row_sha256=move.row_sha256,
        recorded_at=cause.get("received_at"),
    )


def find_recorded(connection: Connection, operations: Collection[Operation]) -> dict[Operation, Recorded]:
    """Return the payments that hold these operations."""
    found = _rows_by_operation(connection, _recorded_query(connection.dialect.name), operations)
    return {
        operation: Recorded(
            id=row.id,
            facts=_facts(row),
            body_sha256=row.body_sha256,
            row_sha256=row.row_sha256 or "",
            recorded_at=row.received_at,
        )
        for operation, row in found.items()
    }


def _rows_by_operation(
    connection: Connection, query: Select[Any], operations: Collection[Operation]
) -> dict[Operation, AnyRow]:
    rows = connection.execute(query, {"operation_ids": list({operation.id for operation in operations})})
    # Found by id alone, which the index begins with: another source may have used the same one.
    found = {Operation(row.operation_id, row.source): row for row in rows}
    return {operation: row for operation, row in found.items() if operation in operations}


def _find(connection: Connection, keys: Collection[Key]) -> dict[Key, Recorded]:
    """Return what holds these operations, payments and debits; only those tables are asked that are concerned."""
    found: dict[Key, Recorded] = {}
    if payments := {key.operation for key in keys if not key.is_debit}:
        found |= {Key.of(each, is_debit=False): it for each, it in find_recorded(connection, payments).items()}
    if debits := {key.operation for key in keys if key.is_debit}:
        found |= {Key.of(each, is_debit=True): it for each, it in _find_debits(connection, debits).items()}
    return found


def _find_debits(connection: Connection, operations: Collection[Operation]) -> dict[Operation, Recorded]:
    found = _rows_by_operation(connection, _debits_query(connection.dialect.name), operations)
    return {
        operation: Recorded(
            id=row.id,
            facts=DebitFacts(inn=row.inn, amount=row.amount, counter_account=row.counter_account, reason=row.reason),
        )
        for operation, row in found.items()
    }


def _facts(row: AnyRow) -> Facts:
    return Facts(
        source=row.source,
        amount=row.amount,
        payer_inn=row.payer_inn,
        document_number=row.document_number,
        document_date=row.document_date,
    )


def compare(facts: Facts | DebitFacts, recorded: Recorded) -> PostingStatus:
    """Tell a harmless repeat from one that says something else about the same operation."""
    return PostingStatus.DUPLICATE if facts == recorded.facts else PostingStatus.CONFLICT


def _create_missing(
    connection: Connection,
    entries: Sequence[Entry],
    organizations: Mapping[str, Locked],
    recorded: Mapping[Key, Recorded],
) -> dict[str, Locked]:
    """Create the organisations that are missing and may be created, and lock them."""
    # Of several with one operation only the first may create: no organisation is to be left without a credit.
    first = {entry.key: entry for entry in reversed(entries) if entry.key not in recorded}
    missing = {entry.inn: entry for entry in first.values() if entry.may_create and entry.inn not in organizations}
    if not missing:
        return {}
    rows = [{"inn": inn, "created_at": missing[inn].moment} for inn in sorted(missing)]
    inserted = insert_absent(connection, ORGANIZATIONS, rows, unique="inn")
    if inserted is not None and inserted < len(rows):
        # To lock it now, after others, could be to wait for somebody who waits for us.
        raise TryAgain("Somebody else registered one of these organisations at this instant.")
    created, _ = moves.lock(connection, missing, ())
    return {inn: replace(locked, created=True) for inn, locked in created.items()}


def _plan(entries: Sequence[Entry], organizations: Mapping[str, Locked], recorded: Mapping[Key, Recorded]) -> Plan:
    """Choose the entries that can be posted, one for each operation that is not recorded yet."""
    balances = {inn: organization.balance for inn, organization in organizations.items()}
    outside = {inn: organization.outside_debits for inn, organization in organizations.items()}
    chosen: dict[Key, int] = {}
    refused: dict[int, PostingStatus] = {}
    for position, entry in enumerate(entries):
        if entry.key in chosen or entry.key in recorded:
            continue
        organization = organizations.get(entry.inn)
        if organization is None:
            refused[position] = PostingStatus.UNKNOWN_INN
            continue
        refusal = entry.refusal(balances[entry.inn], organization.overdraft_limit, outside[entry.inn])
        if refusal is not None:
            refused[position] = refusal
        else:
            chosen[entry.key] = position
            balances[entry.inn] += entry.delta
            outside[entry.inn] += entry.taken_outside
    return Plan(chosen=chosen, refused=refused)


def _insert_causes(connection: Connection, causes: Mapping[Key, dict[str, Any]]) -> dict[Key, Recorded]:
    """Insert a payment or a debit for each operation that has none; return what holds the others.

    A transaction that inserted the same operation first is waited for by the unique constraint, and wins. In
    order of operation, so that two batches cannot wait for each other.
    """
    ordered = sorted(causes)
    are_whole = [
        _insert_all(connection, table, [causes[key] for key in ordered if key.is_debit == is_debit])
        for is_debit, table in ((False, PAYMENTS), (True, DEBITS))
    ]
    if all(are_whole):
        return {}
    return {key: held for key, held in _find(connection, ordered).items() if held.id != causes[key]["id"]}


def _insert_all(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> bool:
    """Insert rows, and return whether each of them is known to be in."""
    return not rows or insert_absent(connection, table, rows, unique=("operation_id", "source")) == len(rows)


def _check_nothing_left(organization: Locked) -> None:
    """Refuse to leave behind an organisation that was created for a credit which then lost its operation."""
    if organization.created and organization.version == 0:
        raise TryAgain("The same operation arrived twice at this instant, for two payers. Nothing was changed.")


def _outcome(
    position: int,
    entry: Entry,
    plan: Plan,
    recorded: Mapping[Key, Recorded],
    written: Mapping[Key, Move],
) -> Outcome:
    """Return what became of an entry; of several with one operation only the chosen one is new."""
    first, move = recorded.get(entry.key), written.get(entry.key)
    if first is None:
        return Outcome(status=plan.refused[position])
    if move is not None and plan.chosen[entry.key] == position:
        return Outcome(status=entry.posted, first=first, move=move)
    return Outcome(status=compare(entry.facts, first), first=first)


@cache
def _recorded_query(dialect: str) -> Select[Any]:
    facts = PAYMENTS.c["operation_id", "id", "source", "amount", "payer_inn", "document_number", "document_date"]
    return (
        select(*facts, *PAYMENTS.c["body_sha256", "received_at"], LOG.c.row_sha256)
        .join_from(PAYMENTS, LOG, LOG.c.payment_id == PAYMENTS.c.id, isouter=True)
        .where(among(PAYMENTS.c.operation_id, "operation_ids", dialect))
    )


@cache
def _debits_query(dialect: str) -> Select[Any]:
    return (
        select(
            *DEBITS.c["operation_id", "id", "source", "amount"],
            ORGANIZATIONS.c.inn,
            *LOG.c["counter_account", "reason"],
        )
        .join_from(DEBITS, ORGANIZATIONS, ORGANIZATIONS.c.id == DEBITS.c.organization_id)
        .join(LOG, LOG.c.debit_id == DEBITS.c.id, isouter=True)
        .where(among(DEBITS.c.operation_id, "operation_ids", dialect))
    )

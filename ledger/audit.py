"""The check that re-adds every kopeck: each log row against its payment and the row before, balances against logs.

Payments and incidents are compared with the bodies that announced them, the database with what it is to refuse.
Called by `flask ledger verify` and by the tests after everything that moves money. Reads one snapshot, writes nothing.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.orm import Session

import banks
from banks.plain import PlainBank
from database import backup, guards
from database.bulk import table_of
from database.columns import Base, milliseconds, milliseconds_of
from database.session import AnyRow, snapshot
from enums import LogReason
from ledger import bodies, incident_audit, incidents, log_audit, spelling_audit, trial_balance
from ledger.findings import ROWS_AT_A_TIME, Finding, Progress, Unread, readable
from models import CURRENCY, BalanceLog, Debit, Incident, Organization, Payment, Transfer
from rules import Operation


def verify() -> Iterator[Finding | Progress]:
    """Check the whole ledger; yield what is broken, and now and then how far it has come."""
    with snapshot() as session:
        yield from _verify(session)


def verify_copy(path: Path) -> Iterator[Finding | Progress]:
    """Check the ledger in a copy of a SQLite database."""
    with backup.reading(path) as session:
        yield from _verify(session)


def _verify(session: Session) -> Iterator[Finding | Progress]:
    tables = (BalanceLog, Payment, Debit, Transfer, Incident)
    total = sum(session.scalar(select(func.count()).select_from(table)) or 0 for table in tables)
    yield Progress(rows=0, total=total)
    for fallen in guards.fallen(session.connection(), Base.metadata):
        yield Finding(row=f"table {fallen.table}", problem=fallen.problem)
    rows = 0
    # Asked before anything is streamed: MariaDB allows no second query beside a stream.
    assigned = incidents.assigned(session)
    unread = _UnreadBodies()
    checks = {
        "balance_log": log_audit.check_rows(session),
        "debits": log_audit.check_debits(session),
        "transfers": log_audit.check_transfers(session),
        "accounts": log_audit.check_accounts(session),
        "overdraft_limits": log_audit.check_limits(session),
        "payments": _check_payments(session, assigned, unread),
        "incidents": _check_incidents(session, unread),
        "incident_resolutions without incidents": _check_resolutions(session),
        "balance_log without organisations": log_audit.check_owners(session),
        "trial balance": _check_trial_balance(session),
        "ids and moments": spelling_audit.check(session),
        "banks": unread.named(),
    }
    for name, check in checks.items():
        for step in readable(name, check):
            if isinstance(step, Finding):
                yield step
                continue
            rows += step
            if rows >= ROWS_AT_A_TIME:
                yield Progress(rows=rows, total=total)
                rows = 0
    yield Progress(rows=rows, total=total)


def _check_trial_balance(session: Session) -> Iterator[Finding | int]:
    """Add up all debits and all credits, as the accountants do."""
    total = trial_balance.read(session)
    if total.debits != total.credits:
        problem = f"the debits of all accounts come to {total.debits} kopecks, their credits to {total.credits}"
        yield Finding(row="trial balance", problem=problem)


class _UnreadBodies:
    """Counts, by bank, the bodies that no bank of the registry can read: one sentence says it of them all."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._first: dict[str, str] = {}

    def note(self, source: str, row: str) -> None:
        if not banks.is_known(source):
            self._counts[source] += 1
            self._first.setdefault(source, row)

    def named(self) -> Iterator[Finding]:
        for source, count in self._counts.items():
            what = "1 stored body" if count == 1 else f"{count} stored bodies"
            problem = (
                f"is not in the registry, so {what} cannot be read again, first of all that of {self._first[source]}; "
                "enter it in banks/ again and set its secrets to have them compared"
            )
            yield Unread(row=f"bank {source}", problem=problem)


def _check_payments(
    session: Session, assigned: Mapping[Operation, set[str]], unread: _UnreadBodies
) -> Iterator[Finding | int]:
    """Compare each payment with its log row, its owner, and the body that announced it."""
    log = (BalanceLog.version, BalanceLog.reason, BalanceLog.created_at)
    rows = session.execute(
        select(*table_of(Payment).c, *log, Organization.inn)
        .outerjoin(BalanceLog, BalanceLog.payment_id == Payment.id)
        .outerjoin(Organization, Organization.id == Payment.organization_id)
        .order_by(Payment.id)
        .execution_options(yield_per=ROWS_AT_A_TIME)
    )
    for row in rows:
        unread.note(row.source, f"payments {row.id}")
        kept = {name: getattr(row, name) for name in bodies.FACTS}
        for problem in (
            *_payment_problems(row),
            *bodies.differences(row.source, row.body, row.body_sha256, kept),
            *_owner_problems(row, assigned.get(Operation(row.operation_id, row.source), set())),
        ):
            yield Finding(row=f"payments {row.id}", problem=problem)
        yield 1


def _payment_problems(row: AnyRow) -> Iterator[str]:
    """Compare what a payment and its log row say beside the facts of the body."""
    if row.version is None:
        yield "no row of balance_log moves it"
    else:
        if row.reason != LogReason.CREDIT:
            yield f"its row of balance_log gives the reason {row.reason}"
        if row.created_at != row.received_at:
            yield "its row of balance_log has another time"
    if row.forward_id not in (None, row.operation_id) or (row.forward_id and row.source == PlainBank.name):
        yield "its forward_id is not one that a migration has written: a receiver would take it for another operation"
    if row.currency != CURRENCY:
        yield f"is not in {CURRENCY}"
    if milliseconds_of(row.id) != milliseconds(row.received_at):
        yield "its id was made at another time than it was received"


def _owner_problems(row: AnyRow, assigned: set[str]) -> Iterator[str]:
    """Compare who was credited with who paid, unless a person assigned the money to somebody else."""
    if row.inn is None:
        yield "its organisation is missing"
    elif assigned and row.inn not in assigned:
        yield f"was credited to inn {row.inn}, its incident was assigned to {' and '.join(sorted(assigned))}"
    elif not assigned and row.inn != row.payer_inn:
        yield f"was credited to inn {row.inn}, its payer is {row.payer_inn}, and no assignment explains it"


def _check_incidents(session: Session, unread: _UnreadBodies) -> Iterator[Finding | int]:
    """Compare incidents with their bodies and resolutions."""
    for row, resolutions in incident_audit.rows(session, ROWS_AT_A_TIME):
        if row.kind in incident_audit.ANNOUNCED:
            unread.note(row.source, f"incidents {row.id}")
        for problem in incident_audit.problems(row, resolutions):
            yield Finding(row=f"incidents {row.id}", problem=problem)
        yield 1
    for row in incident_audit.left_the_inbox(session):
        yield Finding(row=f"incidents {row.id}", problem="announces money that is not credited, held or in the inbox")


def _check_resolutions(session: Session) -> Iterator[Finding | int]:
    """Look for resolutions of incidents that do not exist."""
    for incident_id in incident_audit.without_incident(session):
        yield Finding(row=f"incident_resolutions incident_id {incident_id}", problem="no incident has this id")

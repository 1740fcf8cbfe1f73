"""The check that re-adds every kopeck: each log row against its payment and the row before, balances against logs.

Payments are compared with the bodies that announced them, and the database with its keys, constraints and triggers.
Called by `flask ledger verify` and by the tests after everything that moves money. Reads one snapshot, writes nothing.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from database import backup, guards
from database.bulk import table_of
from database.columns import Base, milliseconds, milliseconds_of
from database.session import AnyRow, snapshot
from enums import LogReason
from ledger import bodies, incidents
from models import CURRENCY, BalanceLog, Incident, Organization, Payment
from rules import Operation

ROWS_AT_A_TIME = 1000


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One row that does not add up, and why."""

    row: str
    problem: str


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How many more rows of balance_log and payments were checked, of how many in all."""

    rows: int
    total: int


def verify() -> Iterator[Finding | Progress]:
    """Check the whole ledger; yield what is broken, and now and then how far it has come."""
    with snapshot() as session:
        yield from _verify(session)


def verify_copy(path: Path) -> Iterator[Finding | Progress]:
    """Check the ledger in a copy of a SQLite database."""
    engine = backup.opened(path)
    try:
        with Session(engine) as session:
            yield from _verify(session)
    finally:
        engine.dispose()


def _verify(session: Session) -> Iterator[Finding | Progress]:
    tables = (BalanceLog, Payment, Incident)
    total = sum(session.scalar(select(func.count()).select_from(table)) or 0 for table in tables)
    yield Progress(rows=0, total=total)
    for fallen in guards.fallen(session.connection(), Base.metadata):
        yield Finding(row=f"table {fallen.table}", problem=fallen.problem)
    rows = 0
    # Asked before anything is streamed: MariaDB allows no second query beside a stream.
    assigned = incidents.assigned(session)
    checks = {
        "balance_log": _check_chains(session),
        "payments": _check_payments(session, assigned),
        "incidents": _check_incidents(session),
        "balance_log without organisations": _check_owners(session),
    }
    for name, check in checks.items():
        for step in _readable(name, check):
            if isinstance(step, Finding):
                yield step
                continue
            rows += step
            if rows >= ROWS_AT_A_TIME:
                yield Progress(rows=rows, total=total)
                rows = 0
    yield Progress(rows=rows, total=total)


def _readable(name: str, check: Iterator[Finding | int]) -> Iterator[Finding | int]:
    """Go on with a check until a row cannot even be read: SQLite keeps whatever it is given."""
    try:
        yield from check
    except (ValueError, TypeError):
        problem = "hold a value of another kind than their column's; the rows after it were not looked at"
        yield Finding(row=name, problem=problem)


def _check_chains(session: Session) -> Iterator[Finding | int]:
    """Walk each organisation's log from version 1 on, and compare its end with the organisation."""
    for _id, moves in groupby(_organizations_with_log(session), key=lambda row: row.id):
        version = balance = seen = 0
        for row in moves:
            if row.moved_at_version is not None:
                seen += 1
                yield from _check_row(row, version=version, balance=balance)
                version, balance = row.moved_at_version, row.balance_after
        if (row.version, row.balance) != (version, balance):
            problem = (
                f"balance {row.balance} at version {row.version}, "
                f"but its log ends with balance {balance} at version {version}"
            )
            yield Finding(row=f"organizations inn {row.inn}", problem=problem)
        if row.currency != CURRENCY:
            yield Finding(row=f"organizations inn {row.inn}", problem=f"is not in {CURRENCY}")
        yield seen


def _organizations_with_log(session: Session) -> Iterator[AnyRow]:
    """Read each organisation beside each of its moves and their payments, as one stream: MariaDB allows no second."""
    yield from session.execute(
        select(
            Organization.id,
            Organization.inn,
            Organization.balance,
            Organization.version,
            Organization.currency,
            BalanceLog.version.label("moved_at_version"),
            BalanceLog.delta,
            BalanceLog.balance_before,
            BalanceLog.balance_after,
            BalanceLog.payment_id,
            Payment.amount,
            Payment.organization_id.label("paid_to"),
        )
        .outerjoin(BalanceLog, BalanceLog.organization_id == Organization.id)
        .outerjoin(Payment, Payment.id == BalanceLog.payment_id)
        .order_by(Organization.id, BalanceLog.version)
        .execution_options(yield_per=ROWS_AT_A_TIME)
    )


def _check_row(row: AnyRow, *, version: int, balance: int) -> Iterator[Finding]:
    """Compare one log row with the one before it and with its payment."""
    name = f"balance_log inn {row.inn} version {row.moved_at_version}"
    if not all(isinstance(kopecks, int) for kopecks in (row.delta, row.balance_before, row.balance_after)):
        # SQLite keeps whatever it is given.
        yield Finding(row=name, problem="holds something else than whole kopecks")
        return
    if row.moved_at_version != version + 1:
        yield Finding(row=name, problem=f"follows version {version}: rows between are missing")
    elif row.balance_before != balance:
        yield Finding(row=name, problem=f"begins at {row.balance_before}, the row before ended at {balance}")
    if row.balance_before + row.delta != row.balance_after:
        yield Finding(row=name, problem=f"{row.balance_before} + {row.delta} is not {row.balance_after}")
    if row.amount is None:
        yield Finding(row=name, problem=f"its payment {row.payment_id} is missing")
    elif row.amount != row.delta:
        yield Finding(row=name, problem=f"moves {row.delta}, its payment {row.payment_id} says {row.amount}")
    elif row.paid_to != row.id:
        yield Finding(row=name, problem=f"its payment {row.payment_id} belongs to another organisation")


def _check_payments(session: Session, assigned: Mapping[Operation, set[str]]) -> Iterator[Finding | int]:
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


def _check_incidents(session: Session) -> Iterator[Finding | int]:
    """Compare what incidents hold with the bodies that brought it: assigned, it becomes money."""
    columns = table_of(Incident).c["id", "kind", "source", "operation_id", "facts", "body", "body_sha256"]
    rows = session.execute(select(*columns).order_by(Incident.id).execution_options(yield_per=ROWS_AT_A_TIME))
    for row in rows:
        if "announced" in row.facts:
            kept = bodies.announced(row.operation_id, row.facts)
            problems = bodies.differences(row.source, row.body, row.body_sha256, kept)
        else:
            problems = bodies.damage(row.body, row.body_sha256)
        for problem in problems:
            yield Finding(row=f"incidents {row.id}", problem=problem)
        yield 1


def _check_owners(session: Session) -> Iterator[Finding | int]:
    """Look for log rows of organisations that do not exist."""
    rows = session.execute(
        select(BalanceLog.organization_id, BalanceLog.version)
        .outerjoin(Organization, Organization.id == BalanceLog.organization_id)
        .where(Organization.id.is_(None))
        .order_by(BalanceLog.organization_id, BalanceLog.version)
        .execution_options(yield_per=ROWS_AT_A_TIME)
    )
    for row in rows:
        name = f"balance_log organization_id {row.organization_id} version {row.version}"
        yield Finding(row=name, problem="no organisation has this id")

"""The check that re-adds every kopeck: each log row against its payment and the row before, balances against logs.

Called by `flask ledger verify` and by the tests after everything that moves money. Reads one snapshot, writes nothing.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from database.session import AnyRow, snapshot
from models import CURRENCY, BalanceLog, Organization, Payment

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
        total = sum(session.scalar(select(func.count()).select_from(table)) or 0 for table in (BalanceLog, Payment))
        yield Progress(rows=0, total=total)
        rows = 0
        for check in (_check_chains, _check_payments, _check_owners):
            for step in check(session):
                if isinstance(step, Finding):
                    yield step
                    continue
                rows += step
                if rows >= ROWS_AT_A_TIME:
                    yield Progress(rows=rows, total=total)
                    rows = 0
        yield Progress(rows=rows, total=total)


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


def _check_payments(session: Session) -> Iterator[Finding | int]:
    """Look for payments that no log row explains, and for bodies that are not those received."""
    rows = session.execute(
        select(Payment.id, Payment.currency, Payment.body, Payment.body_sha256, BalanceLog.version)
        .outerjoin(BalanceLog, BalanceLog.payment_id == Payment.id)
        .order_by(Payment.id)
        .execution_options(yield_per=ROWS_AT_A_TIME)
    )
    for row in rows:
        name = f"payments {row.id}"
        if row.version is None:
            yield Finding(row=name, problem="no row of balance_log moves it")
        if row.currency != CURRENCY:
            yield Finding(row=name, problem=f"is not in {CURRENCY}")
        # SQLite keeps text where it was told of bytes.
        if not isinstance(row.body, bytes) or hashlib.sha256(row.body).hexdigest() != row.body_sha256:
            yield Finding(row=name, problem="its body is not the one whose SHA-256 was kept")
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

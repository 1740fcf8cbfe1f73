"""The trial balance: what each account was debited and credited, and that both come to the same.

Called by the API, the CLI and the audit. All organisations together are one account, whose details are their logs.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any

from sqlalchemy import Column, ColumnElement, Integer, Select, func, literal, select
from sqlalchemy.orm import Session

from database.bulk import table_of
from database.session import snapshot
from ledger.exports import ZONE
from models import Account, BalanceLog, Debit, Payment, Transfer

ACCOUNTS, LOG, TRANSFERS = table_of(Account), table_of(BalanceLog), table_of(Transfer)
PAYMENTS, DEBITS = table_of(Payment), table_of(Debit)

ORGANIZATIONS = "organizations"
"""The account of all organisations: what is theirs."""

HALF = 32
"""Sums are made of two halves of this many bits: one of whole amounts could pass what a BIGINT holds."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One account, in kopecks."""

    account: str
    debits: int
    credits: int

    @property
    def balance(self) -> int:
        """Return debits less credits."""
        return self.debits - self.credits


@dataclass(frozen=True, kw_only=True)
class TrialBalance:
    """Every account, and the sums."""

    lines: Sequence[Line]

    @property
    def debits(self) -> int:
        """Return all debits together."""
        return sum(line.debits for line in self.lines)

    @property
    def credits(self) -> int:
        """Return all credits together."""
        return sum(line.credits for line in self.lines)


def at(day: date | None = None) -> TrialBalance:
    """Add up what was recorded until the end of a day, or by now."""
    with snapshot() as session:
        return read(session, None if day is None else end_of(day))


def read(session: Session, until: datetime | None = None) -> TrialBalance:
    """Add up what was recorded before a moment, or all of it."""
    codes = {ORGANIZATIONS, *session.scalars(select(ACCOUNTS.c.code))}
    sides: Counter[tuple[str, str]] = Counter()
    for query in _queries(until):
        for row in session.execute(query):
            sides[row.account, row.side] += (int(row.high or 0) << HALF) + int(row.low or 0)
    # Rows that were changed may name an account that is not there: they count all the same.
    codes |= {code for code, _side in sides}
    lines = [Line(account=code, debits=sides[code, "debits"], credits=sides[code, "credits"]) for code in sorted(codes)]
    return TrialBalance(lines=lines)


def end_of(day: date) -> datetime:
    """Return the moment at which a day ends where the accountants are."""
    return datetime.combine(day + timedelta(days=1), time(), ZONE)


def _queries(until: datetime | None) -> Iterator[Select[*tuple[Any, ...]]]:
    """Select each side of everything that moved.

    The other side of the log is read from payments and debits: taken from the log too, it could only be equal.
    """
    log_account, debit, credit = LOG.c.counter_account, TRANSFERS.c.debit_account, TRANSFERS.c.credit_account
    yield _sum(log_account, "debits", LOG.c.delta, LOG.c.created_at, until).where(LOG.c.delta > 0)
    yield _sum(log_account, "credits", -LOG.c.delta, LOG.c.created_at, until).where(LOG.c.delta < 0)
    yield _sum(literal(ORGANIZATIONS), "credits", PAYMENTS.c.amount, PAYMENTS.c.received_at, until)
    yield _sum(literal(ORGANIZATIONS), "debits", DEBITS.c.amount, DEBITS.c.made_at, until)
    yield _sum(debit, "debits", TRANSFERS.c.amount, TRANSFERS.c.made_at, until)
    yield _sum(credit, "credits", TRANSFERS.c.amount, TRANSFERS.c.made_at, until)


def _sum(
    account: ColumnElement[str],
    side: str,
    amount: ColumnElement[int],
    moment: ColumnElement[datetime],
    until: datetime | None,
) -> Select[*tuple[Any, ...]]:
    query = select(
        account.label("account"),
        literal(side).label("side"),
        func.sum(amount.bitwise_rshift(literal(HALF, Integer()))).label("high"),
        func.sum(amount.bitwise_and((1 << HALF) - 1)).label("low"),
    )
    if isinstance(account, Column):
        query = query.group_by(account)
    return query if until is None else query.where(moment < until)

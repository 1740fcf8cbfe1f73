"""The check of the log: each row against the one before, what explains it, its hash and its account; heads and limits.

Called by the audit, within its snapshot. Writes nothing.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from database.bulk import table_of
from database.columns import milliseconds, milliseconds_of
from database.session import AnyRow
from enums import AccountKind, LogReason
from ledger import accounts, chain
from ledger.findings import ROWS_AT_A_TIME, Finding
from models import (
    CURRENCY,
    EMPTY_LOG_SHA256,
    Account,
    BalanceLog,
    Debit,
    Organization,
    OverdraftLimit,
    Payment,
    Transfer,
)

LOG, PAYMENTS, DEBITS, ORGANIZATIONS, LIMITS, TRANSFERS = (
    table_of(model) for model in (BalanceLog, Payment, Debit, Organization, OverdraftLimit, Transfer)
)

CAUSES = {
    "payment": [column for column in PAYMENTS.c if column.name != "body"],
    "debit": list(DEBITS.c),
}
"""What is read beside each row of the log: it is a part of what is hashed."""


def check_rows(session: Session) -> Iterator[Finding | int]:
    """Walk each organisation's log from version 1 on, and compare its end with the organisation."""
    # Asked before anything is streamed: MariaDB allows no second query beside a stream.
    limits = _limits(session)
    for _id, moves in groupby(_organizations_with_log(session), key=lambda row: row.organization_id):
        end, due = _End(), _LimitsDue(limits.get(_id, ()))
        for row in moves:
            if row.log_version is not None:
                yield from _check_row(row, end, due)
                end.pass_by(row)
        yield from _check_organization(row, end, due.last)
        yield end.rows


class _End:
    """How far the log of one organisation was walked."""

    def __init__(self) -> None:
        self.rows = self.version = self.balance = self.outside_debits = 0
        self.head_sha256 = EMPTY_LOG_SHA256

    def pass_by(self, row: AnyRow) -> None:
        """Go on to the next row."""
        self.rows += 1
        self.version, self.balance, self.head_sha256 = row.log_version, row.log_balance_after, row.log_row_sha256
        if row.log_reason == LogReason.OUTSIDE_DEBIT and isinstance(row.log_delta, int):
            self.outside_debits -= row.log_delta


class _LimitsDue:
    """The overdraft limits of one organisation, in the order in which they held."""

    def __init__(self, limits: Sequence[int]) -> None:
        self._limits, self._place = [0, *limits], 0

    @property
    def last(self) -> int:
        """Return the newest one."""
        return self._limits[-1]

    def held(self, limit: int) -> bool:
        """Return whether this one held next; several may have been set between two rows."""
        place = next((place for place in range(self._place, len(self._limits)) if self._limits[place] == limit), None)
        if place is not None:
            self._place = place
        return place is not None


def rows_of(
    session: Session, organization_id: int, *, since: int, until: int | None = None, limit: int | None = None
) -> Sequence[AnyRow]:
    """Return rows of one log, from a version to another or to the newest, each beside its cause, bodies included."""
    query = _query().where(LOG.c.organization_id == organization_id, LOG.c.version >= since).limit(limit)
    query = query.add_columns(PAYMENTS.c.body.label("payment_body"))
    return session.execute(query if until is None else query.where(LOG.c.version <= until)).all()


def _organizations_with_log(session: Session) -> Iterator[AnyRow]:
    """Read each organisation beside each of its moves, as one stream: MariaDB allows no second."""
    yield from session.execute(_query().execution_options(yield_per=ROWS_AT_A_TIME))


def _query() -> Select[Any]:
    query: Select[Any] = (
        select(
            *[column.label(f"organization_{column.name}") for column in ORGANIZATIONS.c],
            *[column.label(f"log_{column.name}") for column in LOG.c],
            *[column.label(f"{cause}_{column.name}") for cause, columns in CAUSES.items() for column in columns],
            Account.kind.label("account_kind"),
        )
        .outerjoin(LOG, LOG.c.organization_id == ORGANIZATIONS.c.id)
        .outerjoin(PAYMENTS, PAYMENTS.c.id == LOG.c.payment_id)
        .outerjoin(DEBITS, DEBITS.c.id == LOG.c.debit_id)
        .outerjoin(Account, Account.code == LOG.c.counter_account)
        .order_by(ORGANIZATIONS.c.id, LOG.c.version)
    )
    return query


def _check_organization(row: AnyRow, end: _End, overdraft_limit: int) -> Iterator[Finding]:
    """Compare an organisation with the end of its log, and with the newest limit that somebody set."""
    name = f"organizations inn {row.organization_inn}"
    if (row.organization_version, row.organization_balance) != (end.version, end.balance):
        problem = (
            f"balance {row.organization_balance} at version {row.organization_version}, "
            f"but its log ends with balance {end.balance} at version {end.version}"
        )
        yield Finding(row=name, problem=problem)
    if row.organization_head_sha256 != end.head_sha256:
        yield Finding(row=name, problem="its head is not the hash of the last row of its log")
    if row.organization_outside_debits != end.outside_debits:
        problem = f"says {row.organization_outside_debits} were taken outside, its log says {end.outside_debits}"
        yield Finding(row=name, problem=problem)
    if row.organization_overdraft_limit != overdraft_limit:
        problem = f"its overdraft limit is {row.organization_overdraft_limit}, the last one set is {overdraft_limit}"
        yield Finding(row=name, problem=problem)
    if row.organization_currency != CURRENCY:
        yield Finding(row=name, problem=f"is not in {CURRENCY}")


def _check_row(row: AnyRow, end: _End, due: _LimitsDue) -> Iterator[Finding]:
    """Compare one log row with the one before it, with its cause, and with the limit of its moment."""
    name = f"balance_log inn {row.organization_inn} version {row.log_version}"
    for problem in (*_sums(row, end), *_explanation(row)):
        yield Finding(row=name, problem=problem)
    if not due.held(row.log_overdraft_limit):
        yield Finding(
            row=name, problem=f"was posted under an overdraft limit of {row.log_overdraft_limit}, set by nobody"
        )


def _sums(row: AnyRow, end: _End) -> Iterator[str]:
    before, delta, after = row.log_balance_before, row.log_delta, row.log_balance_after
    if not all(isinstance(kopecks, int) for kopecks in (before, delta, after)):
        # SQLite keeps whatever it is given.
        yield "holds something else than whole kopecks"
        return
    if row.log_version != end.version + 1:
        yield f"follows version {end.version}: rows between are missing"
    elif before != end.balance:
        yield f"begins at {before}, the row before ended at {end.balance}"
    if before + delta != after:
        yield f"{before} + {delta} is not {after}"
    if row.log_reason == LogReason.DEBIT and after < -row.log_overdraft_limit:
        yield f"takes the balance to {after}, below its overdraft limit of {row.log_overdraft_limit}"
    move, cause = parts(row)
    if cause["id"] is not None and row.log_row_sha256 != chain.move_sha256(
        end.head_sha256, row.organization_inn, move, cause
    ):
        yield "its hash is not that of what it says, what explains it, and the row before"


def parts(row: AnyRow) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the row of balance_log and that of its payment or debit, by the names of their columns."""
    cause = "debit" if row.log_payment_id is None else "payment"
    return (
        {column.name: getattr(row, f"log_{column.name}") for column in LOG.c},
        {column.name: getattr(row, f"{cause}_{column.name}") for column in CAUSES[cause]},
    )


def _explanation(row: AnyRow) -> Iterator[str]:
    """Compare a row with its payment or debit, and with the account that it names."""
    is_debit = row.log_payment_id is None
    what, id_, sign = ("debit", row.log_debit_id, -1) if is_debit else ("payment", row.log_payment_id, 1)
    _move, cause = parts(row)
    if cause["amount"] is None:
        yield f"its {what} {id_} is missing"
    elif cause["amount"] * sign != row.log_delta:
        yield f"moves {row.log_delta}, its {what} {id_} says {cause['amount']}"
    elif cause["organization_id"] != row.organization_id:
        yield f"its {what} {id_} belongs to another organisation"
    if row.log_payment_id is not None and row.log_debit_id is not None:
        yield "both a payment and a debit explain it"
    if row.account_kind is None:
        yield f"its account {row.log_counter_account} is missing"
    elif not is_debit and row.log_counter_account != accounts.code(AccountKind.BANK, str(cause["source"])):
        yield f"its account is {row.log_counter_account}, its payment came from {cause['source']}"


def _limits(session: Session) -> dict[int, list[int]]:
    """Return the overdraft limits that were set, the oldest first, by organisation."""
    limits: dict[int, list[int]] = {}
    for row in session.execute(select(LIMITS.c.organization_id, LIMITS.c.overdraft_limit).order_by(LIMITS.c.number)):
        limits.setdefault(row.organization_id, []).append(row.overdraft_limit)
    return limits


def check_debits(session: Session) -> Iterator[Finding | int]:
    """Compare each debit with its log row and its owner."""
    rows = session.execute(
        select(*DEBITS.c, LOG.c.version, LOG.c.created_at, ORGANIZATIONS.c.inn)
        .outerjoin(LOG, LOG.c.debit_id == DEBITS.c.id)
        .outerjoin(ORGANIZATIONS, ORGANIZATIONS.c.id == DEBITS.c.organization_id)
        .order_by(DEBITS.c.id)
        .execution_options(yield_per=ROWS_AT_A_TIME)
    )
    for row in rows:
        for problem in _debit_problems(row):
            yield Finding(row=f"debits {row.id}", problem=problem)
        yield 1


def _debit_problems(row: AnyRow) -> Iterator[str]:
    if row.version is None:
        yield "no row of balance_log moves it"
    elif row.created_at != row.made_at:
        yield "its row of balance_log has another time"
    if row.inn is None:
        yield "its organisation is missing"
    if row.currency != CURRENCY:
        yield f"is not in {CURRENCY}"
    if milliseconds_of(row.id) != milliseconds(row.made_at):
        yield "its id was made at another time than it was made"


def check_transfers(session: Session) -> Iterator[Finding | int]:
    """Walk the transfers from number 1 on, each against the one before."""
    number, head = 0, EMPTY_LOG_SHA256
    codes = set(session.scalars(select(Account.code)))
    rows = session.execute(
        select(*TRANSFERS.c).order_by(TRANSFERS.c.number).execution_options(yield_per=ROWS_AT_A_TIME)
    )
    for row in rows:
        name = f"transfers {row.number}"
        for code in {row.debit_account, row.credit_account} - codes:
            yield Finding(row=name, problem=f"its account {code} is missing")
        if row.number != number + 1:
            yield Finding(row=name, problem=f"follows number {number}: rows between are missing")
        if row.row_sha256 != chain.transfer_sha256(head, row._asdict()):
            yield Finding(row=name, problem="its hash is not that of what it says and the row before")
        if row.currency != CURRENCY:
            yield Finding(row=name, problem=f"is not in {CURRENCY}")
        number, head = row.number, row.row_sha256
        yield 1


def check_accounts(session: Session) -> Iterator[Finding | int]:
    """Compare what each account says of itself with its code; one that no row names was not made by us."""
    columns = (LOG.c.counter_account, TRANSFERS.c.debit_account, TRANSFERS.c.credit_account)
    used = {code for column in columns for code in session.scalars(select(column).distinct())}
    for row in session.execute(select(*table_of(Account).c).order_by(Account.code)):
        if row.kind != row.code.partition(":")[0]:
            yield Finding(row=f"accounts {row.code}", problem=f"is of the kind {row.kind}")
        if row.code not in used:
            yield Finding(row=f"accounts {row.code}", problem="no row of the ledger names it")
        if row.currency != CURRENCY:
            yield Finding(row=f"accounts {row.code}", problem=f"is not in {CURRENCY}")


def check_limits(session: Session) -> Iterator[Finding | int]:
    """Walk the overdraft limits of each organisation from number 1 on, each against the one before."""
    rows = session.execute(
        select(*LIMITS.c, ORGANIZATIONS.c.inn)
        .outerjoin(ORGANIZATIONS, ORGANIZATIONS.c.id == LIMITS.c.organization_id)
        .order_by(LIMITS.c.organization_id, LIMITS.c.number)
        .execution_options(yield_per=ROWS_AT_A_TIME)
    )
    for _id, limits in groupby(rows, key=lambda row: row.organization_id):
        number, head = 0, EMPTY_LOG_SHA256
        for row in limits:
            name = f"overdraft_limits inn {row.inn} number {row.number}"
            if row.number != number + 1:
                yield Finding(row=name, problem=f"follows number {number}: rows between are missing")
            if row.row_sha256 != chain.limit_sha256(head, row.inn, row._asdict()):
                yield Finding(row=name, problem="its hash is not that of what it says and the row before")
            number, head = row.number, row.row_sha256


def check_owners(session: Session) -> Iterator[Finding | int]:
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

"""rebuild(): the whole ledger posted again into an empty database, from the bodies as they were received.

Called by `flask ledger rebuild`. What was posted again is compared with what stands, row by row. Changes nothing in the
database that it reads.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from sqlalchemy import URL, Engine, create_engine, func, insert, inspect, select, text, update
from sqlalchemy.orm import Session

import models
from database import append_only
from database.bulk import table_of
from database.columns import Base
from database.engine import engine_options, prepare
from database.session import WRITES, AnyRow, snapshot
from enums import LogReason
from ledger import bodies, chain, incidents, log_audit, posting
from ledger.entries import Credit, Debit, Entry
from ledger.findings import Finding, Progress
from limits import BATCH_CREDITS_MAX
from models import EMPTY_LOG_SHA256, Account, BalanceLog, Organization, OverdraftLimit, Payment, Transfer
from rules import Facts, Operation

ORGANIZATIONS, LOG, LIMITS, ACCOUNTS, TRANSFERS, PAYMENTS, DEBITS = (
    table_of(model) for model in (Organization, BalanceLog, OverdraftLimit, Account, Transfer, Payment, models.Debit)
)


class NotEmpty(Exception):
    """There is something in the database already."""


def into(url: URL) -> Iterator[Finding | Progress]:
    """Post everything again into an empty database; yield each row that came out otherwise, and how far it has come."""
    engine = _empty(url)
    try:
        with snapshot() as session, Session(engine) as target:
            target.connection(execution_options={WRITES: True})
            yield from _rebuild(session, target)
            target.commit()
    finally:
        engine.dispose()


def _empty(url: URL) -> Engine:
    """Make our tables with their triggers in a database that has none; raise NotEmpty."""
    engine = create_engine(url, **engine_options(url))
    prepare(engine, statement_seconds=0)
    if inspect(engine).get_table_names():
        engine.dispose()
        raise NotEmpty
    Base.metadata.create_all(engine)
    dialect = engine.dialect.name
    with engine.begin() as connection:
        for function in append_only.functions(dialect).values():
            connection.execute(text(function))
        for trigger in append_only.triggers(dialect):
            connection.execute(text(trigger.statement))
    return engine


def _rebuild(session: Session, target: Session) -> Iterator[Finding | Progress]:
    total = session.scalar(select(func.count()).select_from(LOG)) or 0
    yield Progress(rows=0, total=total)
    if found := _rows(session, select(*ACCOUNTS.c)):
        target.execute(insert(ACCOUNTS), found)
    assigned = incidents.assigned(session)
    for organization in session.execute(select(*ORGANIZATIONS.c).order_by(ORGANIZATIONS.c.id)).all():
        target.execute(insert(ORGANIZATIONS).values(**_as_new(organization)))
        limits = _Limits(session, target, organization)
        version = 0
        while rows := log_audit.rows_of(session, organization.id, since=version + 1, limit=BATCH_CREDITS_MAX):
            # One limit at a time: a row is posted under the limit that it was posted under.
            for limit, together in groupby(rows, key=lambda row: row.log_overdraft_limit):
                limits.go_to(limit)
                yield from _post(target, list(together), assigned)
            version = rows[-1].log_version
            yield Progress(rows=len(rows), total=total)
        yield from limits.write()
        yield from _compare_organization(organization, target)
    yield from _transfers(session, target)
    yield from _compare_counts(session, target)


def _rows(session: Session, query: Any) -> list[dict[str, Any]]:
    return [row._asdict() for row in session.execute(query)]


def _as_new(organization: AnyRow) -> dict[str, Any]:
    return {
        **organization._asdict(),
        "balance": 0,
        "version": 0,
        "overdraft_limit": 0,
        "outside_debits": 0,
        "head_sha256": EMPTY_LOG_SHA256,
    }


class _Limits:
    """The overdraft limits of one organisation: rows are posted again under those of their moments."""

    def __init__(self, session: Session, target: Session, organization: AnyRow) -> None:
        mine = LIMITS.c.organization_id == organization.id
        self._rows = _rows(session, select(*LIMITS.c).where(mine).order_by(LIMITS.c.number))
        self._target, self._id, self._inn = target, organization.id, organization.inn
        self._current = 0

    def go_to(self, limit: int) -> None:
        """Have a limit hold, if it was ever set."""
        if limit in (0, *(row["overdraft_limit"] for row in self._rows)):
            self._hold(limit)

    def write(self) -> Iterator[Finding]:
        """Have the last one hold, and write them all again."""
        head = EMPTY_LOG_SHA256
        for row in self._rows:
            head = chain.limit_sha256(head, self._inn, row)
            self._target.execute(insert(LIMITS).values(**{**row, "row_sha256": head}))
            if head != row["row_sha256"]:
                name = f"overdraft_limits inn {self._inn} number {row['number']}"
                yield Finding(row=name, problem="written again it has another hash")
        self._hold(self._rows[-1]["overdraft_limit"] if self._rows else 0)

    def _hold(self, limit: int) -> None:
        if limit != self._current:
            mine = ORGANIZATIONS.c.id == self._id
            self._target.execute(update(ORGANIZATIONS).where(mine).values(overdraft_limit=limit))
            self._current = limit


def _post(target: Session, rows: Sequence[AnyRow], assigned: dict[Operation, set[str]]) -> Iterator[Finding]:
    """Post what rows of the log say was posted, from the bodies of payments and the rows of debits."""
    entries = [(row, _entry(row, assigned)) for row in rows]
    for row, entry in entries:
        if entry is None:
            yield Finding(row=_name(row), problem="cannot be posted again: its payment or debit cannot be read")
    posted = [(row, entry) for row, entry in entries if entry is not None]
    if not posted:
        return
    outcomes = posting.post(target, [entry for _row, entry in posted])
    for (row, entry), outcome in zip(posted, outcomes, strict=True):
        problem = _difference(row, entry, outcome)
        if problem is not None:
            yield Finding(row=_name(row), problem=problem)


def _name(row: AnyRow) -> str:
    return f"balance_log inn {row.organization_inn} version {row.log_version}"


def _entry(row: AnyRow, assigned: dict[Operation, set[str]]) -> Entry | None:
    if row.log_payment_id is None:
        return _debit(row) if row.debit_id is not None else None
    announcement = bodies.read(row.payment_source, row.payment_body)
    if announcement is None:
        return None
    owners = assigned.get(Operation(announcement.operation_id, row.payment_source), {announcement.payer_inn})
    return Credit(
        id=row.payment_id,
        operation_id=announcement.operation_id,
        inn=row.organization_inn if row.organization_inn in owners else min(owners),
        facts=Facts(
            source=row.payment_source,
            amount=announcement.amount,
            payer_inn=announcement.payer_inn,
            document_number=announcement.document_number,
            document_date=announcement.document_date,
        ),
        external_id=announcement.external_id,
        forward_id=row.payment_forward_id,
        body=row.payment_body,
        key_id=row.payment_key_id,
        received_at=row.payment_received_at,
    )


def _debit(row: AnyRow) -> Debit:
    return Debit(
        id=row.debit_id,
        operation_id=row.debit_operation_id,
        source=row.debit_source,
        inn=row.organization_inn,
        amount=row.debit_amount,
        counter_account=row.log_counter_account,
        outside=row.log_reason == LogReason.OUTSIDE_DEBIT,
        note=row.debit_note,
        made_by=row.debit_made_by,
        made_at=row.debit_made_at,
    )


def _difference(row: AnyRow, entry: Entry, outcome: posting.Outcome) -> str | None:
    if outcome.move is None:
        return f"posted again it is {outcome.status}"
    move, cause = log_audit.parts(row)
    moved, caused = outcome.move._asdict(), entry.row(cause["id"], outcome.move.organization_id)
    names = [name for name in move if name in moved and moved[name] != move[name]]
    names += [name for name in cause if caused[name] != cause[name]]
    return f"posted again it has another {' and '.join(names)}" if names else None


def _compare_organization(organization: AnyRow, target: Session) -> Iterator[Finding]:
    again = target.execute(select(*ORGANIZATIONS.c).where(ORGANIZATIONS.c.id == organization.id)).one()
    names = [name for name, value in organization._asdict().items() if getattr(again, name) != value]
    if names:
        problem = f"posted again it has another {' and '.join(names)}"
        yield Finding(row=f"organizations inn {organization.inn}", problem=problem)


def _compare_counts(session: Session, target: Session) -> Iterator[Finding]:
    """Look for rows that nothing led to: of no organisation, or of no row of the log."""
    for table in (LOG, PAYMENTS, DEBITS, LIMITS):
        there, here = (each.scalar(select(func.count()).select_from(table)) or 0 for each in (session, target))
        if there != here:
            yield Finding(row=table.name, problem=f"has {there} rows, of which {here} could be posted again")


def _transfers(session: Session, target: Session) -> Iterator[Finding]:
    head = EMPTY_LOG_SHA256
    for row in session.execute(select(*TRANSFERS.c).order_by(TRANSFERS.c.number)).all():
        again = row._asdict()
        again["row_sha256"] = head = chain.transfer_sha256(head, again)
        target.execute(insert(TRANSFERS).values(**again))
        if head != row.row_sha256:
            yield Finding(row=f"transfers {row.number}", problem="written again it has another hash")

"""The check of what is announced: each stored event against the move of the balance that it tells of.

An event is sent again as it is stored, and signed: one that was changed would be believed. Called by `flask ledger
verify` and `flask backup create` after the check of the ledger. Writes nothing.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import and_, select
from sqlalchemy.orm import Session

from database import backup
from database.session import AnyRow, snapshot
from enums import EventType
from ledger.findings import Finding, readable
from models import BalanceLog, Debit, Event, Organization, Payment
from outbox import events

ROWS_AT_A_TIME = 1000
ROWS = "events and their payments"
"""What a value that cannot be read stands in: both are read in one query."""

PINGS = and_(Event.type == EventType.PING, Event.organization_id.is_(None), Event.version.is_(None))
"""The events that tell of no move. Their type alone proves nothing: it is signed and sent, and may be changed too."""

ALWAYS = ("organization", "payment_id", "operation_id", "amount", "version")
"""Members of a credit that every version has written."""


def verify() -> Iterator[Finding]:
    """Yield each event that tells otherwise than the ledger."""
    with snapshot() as session:
        yield from readable(ROWS, _verify(session))


def verify_copy(path: Path) -> Iterator[Finding]:
    """Check the events in a copy of a SQLite database."""
    with backup.reading(path) as session:
        yield from readable(ROWS, _verify(session))


def _verify(session: Session) -> Iterator[Finding]:
    move = and_(BalanceLog.organization_id == Event.organization_id, BalanceLog.version == Event.version)
    columns = [column for column in events.moves_query().selected_columns if column.key not in ("id", "version")]
    query = (
        select(Event.id.label("event_id"), Event.type, Event.version, Event.data, Event.occurred_at, *columns)
        .outerjoin(BalanceLog, move)
        .outerjoin(Payment, Payment.id == BalanceLog.payment_id)
        .outerjoin(Debit, Debit.id == BalanceLog.debit_id)
        .outerjoin(Organization, Organization.id == BalanceLog.organization_id)
        .where(~PINGS)
        .order_by(Event.id)
        .execution_options(yield_per=ROWS_AT_A_TIME)
    )
    for row in session.execute(query):
        for problem in _problems(row):
            yield Finding(row=f"events {row.event_id}", problem=problem)


def _problems(row: AnyRow) -> Iterator[str]:
    if row.delta is None:
        yield "its move is not in the log"
        return
    if row.operation_id is None:
        # Its payment or debit is gone: the check of the ledger names it, and nothing else knows what it must say.
        return
    event = events.of_move(dict(row._mapping))
    if row.type != event.type:
        yield "its type is not that of a move"
    if row.event_id != event.id:
        yield "its id is not that of its payment or debit"
    if row.occurred_at != event.occurred_at:
        yield "its time is not that of its move"
    stored, expected = _members(row.data), json.loads(event.data)
    # Older versions have written fewer members; none has written others.
    always = ALWAYS if row.debit_id is None else tuple(expected)
    for name in {*always, *stored}:
        if name not in stored or name not in expected or not _is_same(stored[name], expected[name]):
            yield f"it says another {name} than the ledger"


def _is_same(stored: object, expected: object) -> bool:
    """Compare texts, whole numbers and nulls as receivers read them: to Python 1, 1.0 and true are equal."""
    return type(stored) is type(expected) and stored == expected


def _members(data: str) -> dict[str, Any]:
    try:
        members = json.loads(data, object_pairs_hook=_distinct)
    except (ValueError, TypeError, RecursionError):
        return {}
    return members if isinstance(members, dict) else {}


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse what says one thing twice: of two members with one name some receivers believe the first one."""
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member is repeated")
    return members

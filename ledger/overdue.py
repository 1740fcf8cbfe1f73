"""Looks now and then whether what was acknowledged waits too long, and tells a person: no worker may be running.

Called by the webhook door, whatever BALANCE_UPDATES says: rows may have stayed from when it was `queued`. Also by
`/readyz`, the use cases and the shell, which say in the same words what waits.
"""

import logging
from collections.abc import Collection
from datetime import datetime, timedelta
from weakref import WeakKeyDictionary

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

import banks
import rules
from database.failures import is_unavailable, log_crash, log_unavailable
from database.session import AnyRow, current_engine, survives_deadlock, transaction
from enums import IncidentKind
from ledger import inbox, incidents
from limits import INBOX_LOOK_SECONDS
from models import Incident

log = logging.getLogger("kopeck")

BANK_GONE = "No bank of this name is in the registry, so nobody can read them."
"""What webhooks wait for whose bank was taken out of banks/ before they were credited."""

BRING_BACK = "Enter it in banks/ again and set its secrets: then a worker credits them."

_looked_at: WeakKeyDictionary[Engine, datetime] = WeakKeyDictionary()


def look(*, now: datetime) -> None:
    """Look at the inbox, at most once in INBOX_LOOK_SECONDS; never raises, since no request depends on it."""
    engine = current_engine()
    last = _looked_at.get(engine)
    if last is not None and abs(now - last) < timedelta(seconds=INBOX_LOOK_SECONDS):
        return
    _looked_at[engine] = now
    try:
        _look(now)
    except Exception as error:
        if is_unavailable(error):
            log_unavailable("a look at the inbox", error)
        else:
            log_crash("a look at the inbox", error)


def warnings(*, now: datetime) -> list[str]:
    """Say in a sentence each what waits too long: for a worker, or for a bank that is in the registry no more."""
    return [_sentence(row) for row in _late(now)]


def record(session: Session, row: AnyRow, *, now: datetime) -> None:
    """Keep an incident about a webhook that is acknowledged and not credited; one for all of a bank that is gone."""
    facts = {"inbox_id": row.id, "received_at": rules.rfc3339(row.received_at)}
    if not banks.is_known(row.source):
        if _is_open(session, [row.source]):
            return
        facts["problem"] = f"{BANK_GONE} {BRING_BACK}"
    incidents.record(
        session,
        IncidentKind.STUCK_WEBHOOK,
        source=row.source,
        operation_id=None,
        facts=facts,
        body=row.body,
        key_id=row.key_id,
        now=now,
    )


def _late(now: datetime) -> list[AnyRow]:
    """Return the oldest that waits too long of the banks that can be read, and the oldest of all if its bank is gone.

    The second waits however many workers run, and must not hide that none does.
    """
    first = inbox.oldest()
    if first is None:
        return []
    found = [first] if banks.is_known(first.source) else [first, inbox.oldest(banks.BANKS)]
    return [row for row in found if row is not None and inbox.is_overdue(row.received_at, now=now)]


def _sentence(row: AnyRow) -> str:
    since = rules.rfc3339(row.received_at)
    if not banks.is_known(row.source):
        return f"Webhooks of bank {row.source} wait in the inbox since {since}. {BANK_GONE} {BRING_BACK}"
    return (
        f"Webhooks wait in the inbox since {since}: they are acknowledged and not credited. "
        "Is a worker running? `flask inbox list` shows them, `flask inbox credit` credits them once."
    )


def _look(now: datetime) -> None:
    for row in _late(now):
        log.warning("%s", _sentence(row))
        _record_oldest(row, now)


@survives_deadlock
def _record_oldest(oldest: AnyRow, now: datetime) -> None:
    """Keep one incident for all that waits: while it is open, those behind the oldest need none of their own."""
    with transaction() as session:
        if banks.is_known(oldest.source) and _is_open(session, banks.BANKS):
            return
        # None of it where a worker has it in hand at this moment.
        for row in inbox.take(session, [oldest.id]):
            record(session, row, now=now)


def _is_open(session: Session, sources: Collection[str]) -> bool:
    """Return whether a person was told of webhooks of these banks, and has not resolved that yet."""
    stuck = (Incident.kind == IncidentKind.STUCK_WEBHOOK, Incident.source.in_(sources))
    still_open = select(Incident.id).where(*stuck, Incident.resolved_at.is_(None)).limit(1)
    return session.scalar(still_open) is not None

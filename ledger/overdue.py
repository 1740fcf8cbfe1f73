"""Looks now and then whether what was acknowledged waits too long, and tells a person: no worker may be running.

Called by the webhook door, whatever BALANCE_UPDATES says: rows may have stayed from when it was `queued`.
"""

import logging
from datetime import datetime, timedelta
from weakref import WeakKeyDictionary

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

import rules
from database.failures import is_unavailable, log_crash, log_unavailable
from database.session import AnyRow, current_engine, survives_deadlock, transaction
from enums import IncidentKind
from ledger import inbox, incidents
from limits import INBOX_LOOK_SECONDS
from models import Incident

log = logging.getLogger("kopeck")

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


def warning(*, now: datetime) -> str | None:
    """Say in one sentence what waits too long, if anything does."""
    row = inbox.oldest()
    if row is None or not inbox.is_overdue(row.received_at, now=now):
        return None
    return (
        f"Webhooks wait in the inbox since {rules.rfc3339(row.received_at)}: they are acknowledged and not credited. "
        "Is a worker running? `flask inbox list` shows them, `flask inbox credit` credits them once."
    )


def record(session: Session, row: AnyRow, *, now: datetime) -> None:
    """Keep an incident about a webhook that is acknowledged and not credited."""
    incidents.record(
        session,
        IncidentKind.STUCK_WEBHOOK,
        source=row.source,
        operation_id=None,
        facts={"inbox_id": row.id, "received_at": rules.rfc3339(row.received_at)},
        body=row.body,
        key_id=row.key_id,
        now=now,
    )


def _look(now: datetime) -> None:
    words = warning(now=now)
    if words is not None:
        log.warning("%s", words)
        _record_oldest(now)


@survives_deadlock
def _record_oldest(now: datetime) -> None:
    """Keep one incident for all that waits: while it is open, those behind the oldest need none of their own."""
    oldest = inbox.oldest()
    with transaction() as session:
        is_open = (Incident.kind == IncidentKind.STUCK_WEBHOOK, Incident.resolved_at.is_(None))
        if oldest is None or session.scalar(select(Incident.id).where(*is_open).limit(1)) is not None:
            return
        # None of it where a worker has it in hand at this moment.
        for row in inbox.take(session, [oldest.id]):
            record(session, row, now=now)

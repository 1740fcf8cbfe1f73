"""Use cases: incidents that were resolved long ago go, but for those that hold money or explain where it went.

Called by `flask prune`. Never touches a payment, a log row, or an incident that is open.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, delete, exists, false, func, not_, select

from database.bulk import affected
from database.session import look_up, snapshot, survives_deadlock, transaction
from enums import IncidentKind
from ledger.inbox import WEBHOOKS
from ledger.incidents import ASSIGNABLE, ASSIGNED, INCIDENTS

BATCH_ROWS = 500
"""How many incidents are deleted in one transaction."""


def count(before: datetime) -> int:
    """Count the incidents that were resolved before a moment, and neither hold nor explain money."""
    with snapshot() as session:
        return session.scalar(select(func.count()).select_from(INCIDENTS).where(_is_past(before))) or 0


def prune(before: datetime) -> Iterator[int]:
    """Delete these incidents, batch by batch, and yield how many each took; stopped anywhere, run it again."""
    last = 0
    while ids := [row.id for row in look_up(_old(before, last))]:
        yield _prune(ids, before)
        last = ids[-1]


def _old(before: datetime, last: int) -> Select[Any]:
    return (
        select(INCIDENTS.c.id).where(INCIDENTS.c.id > last, _is_past(before)).order_by(INCIDENTS.c.id).limit(BATCH_ROWS)
    )


def _is_past(before: datetime) -> ColumnElement[bool]:
    """Return the condition of an incident that was resolved before a moment, and has not come again since."""
    # What a person said of money that was never credited is all that is left of it.
    holds_money = INCIDENTS.c.kind.in_(ASSIGNABLE)
    # The audit asks for it when payer and organisation differ.
    explains_money = INCIDENTS.c.resolution.startswith(ASSIGNED)
    waits = exists().where(WEBHOOKS.c.source == INCIDENTS.c.source, WEBHOOKS.c.body == INCIDENTS.c.body)
    stuck = and_(INCIDENTS.c.kind == IncidentKind.STUCK_WEBHOOK, waits)
    past = (INCIDENTS.c.resolved_at < before, INCIDENTS.c.last_seen_at < before)
    return and_(*past, not_(holds_money), not_(func.coalesce(explains_money, false())), not_(stuck))


@survives_deadlock
def _prune(ids: Sequence[int], before: datetime) -> int:
    """Delete those of the incidents that have not come again since they were found; resolutions go with them."""
    with transaction() as session:
        chosen = select(INCIDENTS.c.id).where(INCIDENTS.c.id.in_(ids)).order_by(INCIDENTS.c.id)
        held = list(session.scalars(chosen.with_for_update(skip_locked=True)))
        # Asked anew under the locks.
        past = list(session.scalars(select(INCIDENTS.c.id).where(INCIDENTS.c.id.in_(held), _is_past(before))))
        return affected(session.execute(delete(INCIDENTS).where(INCIDENTS.c.id.in_(past))))

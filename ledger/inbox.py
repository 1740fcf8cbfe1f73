"""The inbox of queued updates: authentic webhooks that were acknowledged and are not credited yet.

Whatever writes does so inside the caller's transaction and never commits; a row goes with the credit that it becomes.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from database.bulk import insert, table_of
from database.columns import UtcDateTime
from database.session import AnyRow, current_session, look_up, request_job
from enums import Job, UnknownInn
from limits import INBOX_OVERDUE_SECONDS, INBOX_WAIT_SECONDS_MAX
from models import Inbox
from pagination import Listing, Span, whole_number, within

WEBHOOKS = table_of(Inbox)
FIRST_WAIT_SECONDS = 5

EVER = Span()

CONTENT_TYPE_CHARACTERS_MAX = 255
"""How much of a Content-Type is kept; what kind of body it is stands at the beginning."""


@dataclass(frozen=True, kw_only=True)
class QueuedWebhook:
    """A webhook that has proven to be a bank's, as it arrived."""

    source: str
    content_type: str
    body: bytes
    key_id: str
    message_id: str | None
    unknown_inn: UnknownInn
    received_at: datetime


@dataclass(frozen=True, kw_only=True)
class Backlog:
    """How many webhooks of one bank wait, and since when the oldest of them does."""

    source: str
    count: int
    oldest_at: datetime


def put(session: Session, webhooks: Sequence[QueuedWebhook]) -> list[bool]:
    """Store webhooks; True for each, which is what its sender waits for."""
    rows = [{**vars(webhook), "attempt_count": 0, "due_at": webhook.received_at} for webhook in webhooks]
    insert(session.connection(), WEBHOOKS, rows)
    request_job(session, Job.CREDIT)
    return [True for _ in rows]


def due(*, places: int, now: datetime) -> list[int]:
    """Return the numbers of webhooks that are due, the oldest first, without locking anything."""
    first = select(WEBHOOKS.c.id).where(WEBHOOKS.c.due_at <= now).order_by(WEBHOOKS.c.due_at, WEBHOOKS.c.id)
    return [row.id for row in look_up(first.limit(places))]


def backlog(span: Span = EVER) -> list[Backlog]:
    """Return what waits, by bank: all of it, or what arrived within a span."""
    oldest = func.min(WEBHOOKS.c.received_at, type_=UtcDateTime)
    query = (
        select(WEBHOOKS.c.source, func.count().label("count"), oldest.label("oldest_at"))
        .where(*within(WEBHOOKS.c.received_at, span))
        .group_by(WEBHOOKS.c.source)
        .order_by(WEBHOOKS.c.source)
    )
    return [Backlog(**row._mapping) for row in current_session().execute(query)]


def oldest(sources: Collection[str] | None = None) -> AnyRow | None:
    """Return the webhook that has waited longest, of all or of these banks, by its number.

    Of all it is the first row, however many wait. Of some banks the rows of all others that are older are walked past.
    """
    query = select(*WEBHOOKS.c["id", "source", "received_at"]).order_by(WEBHOOKS.c.id).limit(1)
    rows = look_up(query if sources is None else query.where(WEBHOOKS.c.source.in_(sources)))
    return rows[0] if rows else None


def is_overdue(received_at: datetime, *, now: datetime) -> bool:
    """Return whether a webhook waits so long that nobody may be at work."""
    return now - received_at > timedelta(seconds=INBOX_OVERDUE_SECONDS)


def webhook_list() -> Listing:
    """List what waits, the oldest first, without the bodies."""
    shown = WEBHOOKS.c["id", "source", "received_at", "unknown_inn", "attempt_count", "due_at"]
    return Listing(query=select(*shown), key=WEBHOOKS.c.id, key_name="id", parse=whole_number, newest_first=False)


def take(session: Session, ids: Collection[int]) -> Sequence[AnyRow]:
    """Lock these webhooks, passing over those that another job is crediting, or has credited."""
    query = select(*WEBHOOKS.c).where(WEBHOOKS.c.id.in_(ids)).order_by(WEBHOOKS.c.id)
    return session.execute(query.with_for_update(skip_locked=True)).all()


def remove(session: Session, ids: Collection[int]) -> None:
    """Take out webhooks that this transaction credits or keeps as incidents."""
    session.execute(delete(WEBHOOKS).where(WEBHOOKS.c.id.in_(ids)))


def postpone(session: Session, row: AnyRow, *, failed: bool, now: datetime) -> None:
    """Let a webhook wait; twice as long each time if it failed for a reason of ours, and was not only held up."""
    wait = (
        min(FIRST_WAIT_SECONDS * 2.0 ** min(row.attempt_count, 20), INBOX_WAIT_SECONDS_MAX)
        if failed
        else FIRST_WAIT_SECONDS
    )
    later = {"attempt_count": row.attempt_count + failed, "due_at": now + timedelta(seconds=wait)}
    session.execute(update(WEBHOOKS).where(WEBHOOKS.c.id == row.id).values(later))

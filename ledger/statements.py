"""Reading lists, from organisations to deliveries, each in pages by keyset, so that deep pages stay fast.

Called by the API and the CLI. Never writes; a cursor is the key of the last row seen, opaque to callers.
"""

import base64
import binascii
import csv
import io
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, func, select

import rules
from database.engine import AnyRow, UtcDateTime, db, table_of
from errors import DeliveryUnknown, EndpointUnknown, PageUnknown
from models import BalanceLog, Delivery, DeliveryAttempt, Endpoint, Event, Incident, Organization, Payment
from outbox import events

EXPORT_ROWS = 1000
"""How many rows of an export are read at a time."""

FORMULA = re.compile(r"(^|;)([\s\u00a0\u200b-\u200f\u2060\ufeff]*[=+\-@＝＋－＠])")
"""Where a spreadsheet would begin a formula: at the start of a cell, and, for those that split at `;`, behind one."""


@dataclass(frozen=True, kw_only=True)
class Span:
    """A stretch of time: from `since` on, up to but without `until`; None is open."""

    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Page:
    """Some rows of a list, and the cursor of the next page or None at the end."""

    items: Sequence[AnyRow]
    next: str | None


@dataclass(frozen=True, kw_only=True)
class Listing:
    """A list that can be read page by page: its query, its key, its order, its cursor's type."""

    query: Select[*tuple[Any, ...]]
    key: ColumnElement[Any]
    key_name: str
    parse: Callable[[str], Any]
    newest_first: bool = True

    def page(self, *, cursor: str | None = None, limit: int) -> Page:
        """Read one page; raise PageUnknown for a cursor that this list did not give out."""
        query = self.query.order_by(self.key.desc() if self.newest_first else self.key.asc()).limit(limit + 1)
        if cursor is not None:
            seen = _decode(cursor, self.parse)
            query = query.where(self.key < seen if self.newest_first else self.key > seen)
        rows = db.session.execute(query).all()
        more = len(rows) > limit
        return Page(items=rows[:limit], next=_encode(getattr(rows[limit - 1], self.key_name)) if more else None)

    def rows(self, *, at_a_time: int = EXPORT_ROWS) -> Iterator[AnyRow]:
        """Read the whole list, a bounded number of rows at a time, holding no transaction in between."""
        cursor: str | None = None
        while True:
            page = self.page(cursor=cursor, limit=at_a_time)
            db.session.rollback()
            yield from page.items
            # An export to a quick reader never waits by itself; others of this process want their turn too.
            time.sleep(0)
            if page.next is None:
                return
            cursor = page.next


def organization_list() -> Listing:
    """List organisations, the oldest first."""
    return Listing(
        query=select(*table_of(Organization).c),
        key=table_of(Organization).c.id,
        key_name="id",
        parse=_whole_number,
        newest_first=False,
    )


def log_list(organization_id: int, span: Span) -> Listing:
    """List the moves of one balance, the newest first."""
    query = (
        select(
            BalanceLog.version,
            BalanceLog.created_at,
            BalanceLog.delta,
            BalanceLog.balance_before,
            BalanceLog.balance_after,
            BalanceLog.reason,
            BalanceLog.payment_id,
            Payment.operation_id,
            Payment.document_number,
            Payment.document_date,
        )
        .join(Payment, Payment.id == BalanceLog.payment_id)
        .where(BalanceLog.organization_id == organization_id, *_within(table_of(BalanceLog).c.created_at, span))
    )
    return Listing(query=query, key=table_of(BalanceLog).c.version, key_name="version", parse=_whole_number)


def payment_list(organization_id: int, span: Span) -> Listing:
    """List the payments of one organisation, the newest first."""
    query = select(
        Payment.id.label("payment_id"),
        Payment.operation_id,
        Payment.external_id,
        Payment.source,
        Payment.amount,
        Payment.currency,
        Payment.payer_inn,
        Payment.document_number,
        Payment.document_date,
        Payment.body_sha256,
        Payment.key_id,
        Payment.received_at,
    ).where(Payment.organization_id == organization_id, *_within(table_of(Payment).c.received_at, span))
    return Listing(query=query, key=table_of(Payment).c.id, key_name="payment_id", parse=UUID)


def incident_list(state: str) -> Listing:
    """List incidents that are `open`, `resolved` or `all`, the newest first."""
    query = select(*table_of(Incident).c)
    if state == "open":
        query = query.where(Incident.resolved_at.is_(None))
    elif state == "resolved":
        query = query.where(Incident.resolved_at.is_not(None))
    return Listing(query=query, key=table_of(Incident).c.id, key_name="id", parse=_whole_number)


def event_list(organization_id: int, after_version: int) -> Listing:
    """List the events of one organisation behind a version, the oldest first; from the ledger: none is missing."""
    mine = (BalanceLog.organization_id == organization_id, BalanceLog.version > after_version)
    query, version = events.moves_query().where(*mine), table_of(BalanceLog).c.version
    return Listing(query=query, key=version, key_name="version", parse=_whole_number, newest_first=False)


def endpoint_list() -> Listing:
    """List endpoints that are not deleted, the oldest first."""
    return Listing(
        query=_endpoint_query(), key=table_of(Endpoint).c.id, key_name="id", parse=_whole_number, newest_first=False
    )


def find_endpoint(endpoint_id: int) -> AnyRow:
    """Return one endpoint; raise EndpointUnknown."""
    row = db.session.execute(_endpoint_query().where(Endpoint.id == endpoint_id)).one_or_none()
    if row is None:
        raise EndpointUnknown("No endpoint has this number; it may have been deleted.")
    return row


def delivery_list(
    *, endpoint_id: int | None = None, status: str | None = None, event_id: UUID | None = None, inn: str | None = None
) -> Listing:
    """List deliveries, the newest first; each filter that is given narrows the list."""
    wanted = {
        Delivery.endpoint_id: endpoint_id,
        Delivery.status: status,
        Delivery.event_id: event_id,
        Organization.inn: inn,
    }
    query = _delivery_query().where(*(column == value for column, value in wanted.items() if value is not None))
    return Listing(query=query, key=table_of(Delivery).c.id, key_name="id", parse=_whole_number)


def find_delivery(delivery_id: int) -> tuple[AnyRow, Sequence[AnyRow]]:
    """Return one delivery and its attempts, the first one first; raise DeliveryUnknown."""
    row = db.session.execute(_delivery_query().where(Delivery.id == delivery_id)).one_or_none()
    if row is None:
        raise DeliveryUnknown("No delivery has this number.")
    attempts = select(*table_of(DeliveryAttempt).c).where(DeliveryAttempt.delivery_id == delivery_id)
    return row, db.session.execute(attempts.order_by(DeliveryAttempt.number)).all()


def payments_by_key() -> Sequence[AnyRow]:
    """Count the payments that each secret signed, and tell when the last of them came."""
    last = func.max(Payment.received_at, type_=UtcDateTime)
    return db.session.execute(
        select(Payment.key_id, func.count().label("count"), last.label("last")).group_by(Payment.key_id)
    ).all()


def csv_lines(listing: Listing) -> Iterator[str]:
    """Write a whole list as CSV, a line at a time; text that a spreadsheet would run as a formula is disarmed."""
    yield _csv_line(listing.query.selected_columns.keys())
    for row in listing.rows():
        yield _csv_line([_cell(value) for value in row])


def _endpoint_query() -> Select[*tuple[Any, ...]]:
    """Select what may be shown of an endpoint: nothing secret."""
    hidden = ("secrets", "deleted_at", "organization_id")
    shown = [column for column in table_of(Endpoint).c if column.name not in hidden]
    return (
        select(*shown, Organization.inn.label("organization"))
        .outerjoin(Organization, Organization.id == Endpoint.organization_id)
        .where(Endpoint.deleted_at.is_(None))
    )


def _delivery_query() -> Select[*tuple[Any, ...]]:
    columns = table_of(Delivery).c
    return (
        select(
            *columns[
                "id", "event_id", "endpoint_id", "version", "status", "tries", "due_at", "created_at", "settled_at"
            ],
            Event.type.label("event_type"),
            Organization.inn.label("organization"),
        )
        .join(Event, Event.id == Delivery.event_id)
        .outerjoin(Organization, Organization.id == Delivery.organization_id)
    )


def _within(moment: ColumnElement[Any], span: Span) -> list[ColumnElement[bool]]:
    limits = []
    if span.since is not None:
        limits.append(moment >= span.since)
    if span.until is not None:
        limits.append(moment < span.until)
    return limits


def _encode(key: object) -> str:
    return base64.urlsafe_b64encode(str(key).encode()).decode().rstrip("=")


def _decode(cursor: str, parse: Callable[[str], Any]) -> Any:
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode("ascii")
        return parse(text)
    except (ValueError, binascii.Error):
        raise PageUnknown("The cursor is not one that this list gave out; begin again without one.") from None


def _whole_number(text: str) -> int:
    number = int(text)
    if not 0 <= number <= rules.MONEY_MAX:
        raise ValueError("out of range")
    return number


def _csv_line(cells: Sequence[object]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer).writerow(cells)
    return buffer.getvalue()


def _cell(value: object) -> object:
    if isinstance(value, datetime):
        return rules.rfc3339(value)
    if isinstance(value, str):
        return FORMULA.sub(r"\1'\2", value)
    return "" if value is None else value

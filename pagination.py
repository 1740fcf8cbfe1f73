"""Lists in pages by keyset, so that deep pages stay fast; whole lists, a bounded number of rows at a time.

Used by whoever lists rows. A cursor is the key of the last row seen, opaque to callers.
"""

import base64
import binascii
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select

import rules
from database.session import AnyRow, current_session
from errors import PageUnknown

EXPORT_ROWS = 1000
"""How many rows of an export are read at a time."""


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
        rows = current_session().execute(query).all()
        more = len(rows) > limit
        return Page(items=rows[:limit], next=_encode(getattr(rows[limit - 1], self.key_name)) if more else None)

    def rows(self, *, at_a_time: int = EXPORT_ROWS) -> Iterator[AnyRow]:
        """Read the whole list, a bounded number of rows at a time, holding no transaction in between."""
        cursor: str | None = None
        while True:
            page = self.page(cursor=cursor, limit=at_a_time)
            current_session().rollback()
            yield from page.items
            # An export to a quick reader never waits by itself; others of this process want their turn too.
            time.sleep(0)
            if page.next is None:
                return
            cursor = page.next


def within(moment: ColumnElement[Any], span: Span) -> list[ColumnElement[bool]]:
    """Return the conditions that keep a moment inside a span."""
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
        raise PageUnknown from None


def whole_number(text: str) -> int:
    """Read the number of a row out of a cursor; raise ValueError."""
    number = int(text)
    if not 0 <= number <= rules.MONEY_MAX:
        raise ValueError("out of range")
    return number

"""A whole statement as a file: written to its end before anybody gets its beginning, in bounded memory.

Called by the API and the CLI. What goes wrong on the way is an error, and never a shorter file.
"""

import csv
import io
import logging
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import IO
from zoneinfo import ZoneInfo

import rules
from database.session import AnyRow
from enums import ExportFormat
from errors import ExportNotWritten, ExportTooLong
from ledger import cells, inbox, organizations, statements, workbook
from pagination import Listing, Span

ZONE = ZoneInfo("Europe/Moscow")
"""In which time zone people read: Russian banks date their documents by Moscow time."""

FAIR_ROWS = 100
"""After how many rows others of this process have their turn: what is written to a file waits for nobody."""

MONEY = ("amount", "delta", "balance_before", "balance_after")
"""The columns that hold kopecks."""

MOMENTS = ("created_at", "received_at", "document_date")

LISTS: dict[str, tuple[Callable[[int, Span], Listing], str]] = {
    "log": (statements.log_list, "delta"),
    "payments": (statements.payment_list, "amount"),
}
"""What can be exported, and the column of each that its total is of."""

ENDINGS = {ExportFormat.CSV: "csv", ExportFormat.EXCEL_CSV: "csv", ExportFormat.XLSX: "xlsx"}

CONTENT_TYPES = {
    ExportFormat.CSV: "text/csv; charset=utf-8",
    ExportFormat.EXCEL_CSV: "text/csv; charset=utf-8",
    ExportFormat.XLSX: "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}

log = logging.getLogger("kopeck")


@dataclass(frozen=True, kw_only=True)
class Statement:
    """What is exported: a list of LISTS, of one organisation, within a span; and how much waited before it was read."""

    name: str
    organization_id: int
    inn: str
    span: Span
    waiting: int

    @property
    def listing(self) -> Listing:
        """Return the list of its rows."""
        return LISTS[self.name][0](self.organization_id, self.span)


def statement(name: str, inn: str, span: Span) -> Statement:
    """Return what can be exported of an organisation; raise OrganizationUnknown."""
    organization_id = organizations.find(inn).id
    # Asked before the credits are read: one that is posted in between counts twice, and is never missed.
    waiting = sum(part.count for part in inbox.backlog(span))
    return Statement(name=name, organization_id=organization_id, inn=inn, span=span, waiting=waiting)


@dataclass(frozen=True, kw_only=True)
class Export:
    """A statement that is written to its end, in a file that is gone when it is closed."""

    filename: str
    content_type: str
    file: IO[bytes]
    size: int
    rows: int


def write(asked: Statement, form: ExportFormat, *, now: datetime, seconds: float) -> Export:
    """Write a whole statement; raise ExportTooLong when it is not done in time, ExportNotWritten when the disk is full.

    Only its owner can read the file, which has no name.
    """
    rows = _CountedRows(asked, ends_at=time.monotonic() + seconds)
    file = None
    try:
        file = tempfile.TemporaryFile(prefix="kopeck-export-")  # noqa: SIM115 - whoever gets it closes it
        WRITERS[form](file, rows, lambda: _summary(asked, rows, now))
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        return Export(
            filename=f"{asked.name}-{asked.inn}.{ENDINGS[form]}",
            content_type=CONTENT_TYPES[form],
            file=file,
            size=size,
            rows=rows.count,
        )
    except (OSError, workbook.NotWritten) as error:
        _close(file)
        log.error("export: a temporary file could not be written: %s", error)
        raise ExportNotWritten from None
    except BaseException:
        _close(file)
        raise


def _close(file: IO[bytes] | None) -> None:
    """Give up a file; what it could not write before it cannot write now."""
    if file is not None:
        with suppress(OSError):
            file.close()


class _CountedRows:
    """The rows of a statement, counted and added up as they are read."""

    def __init__(self, asked: Statement, *, ends_at: float) -> None:
        self._listing = asked.listing
        self._ends_at = ends_at
        self._moved = LISTS[asked.name][1]
        self.title = asked.name
        self.names: Sequence[str] = self._listing.query.selected_columns.keys()
        self.count = 0
        self.total = 0

    def __iter__(self) -> Iterator[AnyRow]:
        for row in self._listing.rows():
            if time.monotonic() > self._ends_at:
                raise ExportTooLong
            self.count += 1
            if self.count % FAIR_ROWS == 0:
                time.sleep(0)
            self.total += getattr(row, self._moved)
            yield row


Summary = Callable[[], list[tuple[str, str]]]
"""What people are shown below a statement, once all of its rows are written."""


def _write_csv(file: IO[bytes], rows: _CountedRows, _summary: Summary) -> None:
    """For programs: every value as the API writes it, and nothing else."""
    with _text(file, "utf-8") as text:
        lines = csv.writer(text)
        lines.writerow(rows.names)
        lines.writerows([_value(value) for value in row] for row in rows)


def _value(value: object) -> object:
    if isinstance(value, datetime):
        return rules.rfc3339(value)
    if isinstance(value, str):
        return cells.neutral(value)
    return "" if value is None else value


def _write_excel_csv(file: IO[bytes], rows: _CountedRows, summary: Summary) -> None:
    """For people whose spreadsheet has Russian settings: what it opens by double click."""
    with _text(file, "utf-8-sig") as text:
        lines = csv.writer(text, delimiter=";")
        lines.writerow(_headings(rows.names))
        for row in rows:
            lines.writerow([_shown(name, value) for name, value in zip(rows.names, row, strict=True)])
        lines.writerow(["# " + ", ".join(f"{name}: {value}" for name, value in summary())])


def _shown(name: str, value: object) -> object:
    if isinstance(value, datetime):
        return _moscow(value)
    if isinstance(value, int) and abs(value) > workbook.EXACT_MAX:
        return f"'{_roubles(value) if name in MONEY else value}"
    if isinstance(value, int):
        return _roubles(value) if name in MONEY else value
    if isinstance(value, str):
        return cells.as_text(value)
    return "" if value is None else value


def _write_xlsx(file: IO[bytes], rows: _CountedRows, summary: Summary) -> None:
    """For people whatever their settings: each cell knows what it is."""
    money = [column for column, name in enumerate(rows.names) if name in MONEY]
    workbook.write(
        file, rows, title=rows.title, headings=_headings(rows.names), money=money, zone=ZONE, summary=summary
    )


WRITERS: dict[ExportFormat, Callable[[IO[bytes], _CountedRows, Summary], None]] = {
    ExportFormat.CSV: _write_csv,
    ExportFormat.EXCEL_CSV: _write_excel_csv,
    ExportFormat.XLSX: _write_xlsx,
}


@contextmanager
def _text(file: IO[bytes], encoding: str) -> Iterator[IO[str]]:
    """Write text into a file that stays open."""
    text = io.TextIOWrapper(file, encoding=encoding, newline="")
    yield text
    text.detach()


def _headings(names: Sequence[str]) -> list[str]:
    """Name the columns as the API does, with the unit of what is in them."""
    return [f"{name} (RUB)" if name in MONEY else f"{name} (Moscow)" if name in MOMENTS else name for name in names]


def _summary(asked: Statement, rows: _CountedRows, now: datetime) -> list[tuple[str, str]]:
    span = asked.span
    return [
        ("complete", f"{rows.count} rows"),
        ("total", f"{_roubles(rows.total)} RUB"),
        ("organisation", asked.inn),
        ("from", _moscow(span.since) if span.since else "the beginning"),
        ("to", _moscow(span.until) if span.until else "now"),
        ("written", f"{_moscow(now)} (Moscow)"),
        ("not in it", f"{asked.waiting} webhooks that arrived in this time and wait to be credited"),
    ]


def _moscow(moment: datetime) -> str:
    return f"{moment.astimezone(ZONE):%d.%m.%Y %H:%M:%S}"


def _roubles(kopecks: int) -> str:
    return f"{Decimal(kopecks) / 100:.2f}".replace(".", ",")

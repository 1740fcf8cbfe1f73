"""A list as an .xlsx workbook, row by row into temporary files, so that its length costs no memory.

Called by ledger.exports. Text is text, money is a number, a moment is a date; there is no formula and no link in it.
"""

import tempfile
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime, tzinfo
from decimal import Decimal
from typing import IO, Any

from xlsxwriter import Workbook
from xlsxwriter.exceptions import FileCreateError as NotWritten

__all__ = ["EXACT_MAX", "SHEET_ROWS_MAX", "NotWritten", "write"]

SHEET_ROWS_MAX = 1_048_576
"""How many rows one sheet may have, its heading included."""

EXACT_MAX = 10**15 - 1
"""Spreadsheets keep fifteen digits of a number; a longer one is written as text, which keeps them all."""

YEAR_MIN = 1901
"""Their calendar begins in 1900, and not all of them agree on how; an earlier moment is written as text."""

WIDTH = 22

OPTIONS = {
    "constant_memory": True,
    "strings_to_numbers": False,
    "strings_to_formulas": False,
    "strings_to_urls": False,
}


def write(
    file: IO[bytes],
    rows: Iterable[Sequence[Any]],
    *,
    title: str,
    headings: Sequence[str],
    money: Collection[int],
    zone: tzinfo,
    summary: Callable[[], Iterable[tuple[str, str]]],
    sheet_rows: int = SHEET_ROWS_MAX,
) -> None:
    """Write rows whose columns in `money` are kopecks, on as many sheets as they need, and a summary on the last one.

    Raises NotWritten.
    """
    with (
        tempfile.TemporaryDirectory(prefix="kopeck-export-") as folder,
        Workbook(file, {**OPTIONS, "tmpdir": folder}) as book,
    ):
        book.use_zip64()
        sheets = _Sheets(book, title, headings, money=money, zone=zone, sheet_rows=sheet_rows)
        for row in rows:
            sheets.add(row)
        _add_summary(book, summary())


def _add_summary(book: Workbook, lines: Iterable[tuple[str, str]]) -> None:
    sheet = book.add_worksheet("summary")
    sheet.set_column(0, 1, WIDTH * 2)
    for number, (name, value) in enumerate(lines):
        sheet.write_string(number, 0, name)
        sheet.write_string(number, 1, value)


class _Sheets:
    """The sheets of one list: a full one is followed by another."""

    def __init__(
        self,
        book: Workbook,
        title: str,
        headings: Sequence[str],
        *,
        money: Collection[int],
        zone: tzinfo,
        sheet_rows: int,
    ) -> None:
        self._book = book
        self._title = title
        self._headings = headings
        self._money = money
        self._zone = zone
        self._sheet_rows = sheet_rows
        self._heading = book.add_format({"bold": True})
        self._moment = book.add_format({"num_format": "dd.mm.yyyy hh:mm:ss"})
        self._roubles = book.add_format({"num_format": "#,##0.00"})
        self._begin()

    def add(self, row: Sequence[Any]) -> None:
        """Write the next row."""
        if self._next == self._sheet_rows:
            self._begin()
        for column, value in enumerate(row):
            if isinstance(value, datetime):
                self._write_moment(column, value)
            elif isinstance(value, int):
                self._write_number(column, value)
            elif value is not None:
                self._sheet.write_string(self._next, column, str(value))
        self._next += 1

    def _begin(self) -> None:
        number = len(self._book.worksheets()) + 1
        self._sheet = self._book.add_worksheet(self._title if number == 1 else f"{self._title} {number}")
        self._sheet.freeze_panes(1, 0)
        self._sheet.set_column(0, len(self._headings) - 1, WIDTH)
        for column, heading in enumerate(self._headings):
            self._sheet.write_string(0, column, heading, self._heading)
        self._next = 1

    def _write_moment(self, column: int, value: datetime) -> None:
        moment = value.astimezone(self._zone).replace(tzinfo=None, microsecond=0)
        if moment.year >= YEAR_MIN:
            self._sheet.write_datetime(self._next, column, moment, self._moment)
        else:
            self._sheet.write_string(self._next, column, f"{moment:%d.%m.%Y %H:%M:%S}")

    def _write_number(self, column: int, value: int) -> None:
        is_money = column in self._money
        number = Decimal(value) / 100 if is_money else Decimal(value)
        if abs(value) <= EXACT_MAX:
            self._sheet.write_number(self._next, column, number, self._roubles if is_money else None)
        else:
            self._sheet.write_string(self._next, column, f"{number:.2f}" if is_money else str(number))

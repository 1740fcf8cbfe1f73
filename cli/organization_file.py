"""A CSV file of organisations, looked through from its first line to its last before anybody gets a row of it.

Called by `flask orgs seed`. Holds a bounded part of the file in memory, however long it is.
"""

import csv
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

import click

import schemas

Row = tuple[str, str]
"""INN and name."""

LINE_CHARACTERS_MAX = 64 * 1024
"""The longest line; a name has 255 characters."""

BAD_ROWS_MAX = 1000
"""How many bad rows are named."""

PARTS = 64
"""Among so many files the INNs are parted to look for those that come twice, one part at a time."""


@contextmanager
def read(path: Path) -> Iterator[tuple[Iterator[Row], int]]:
    """Give the rows of a file and their number; end the command, and name what is bad, if any row is."""
    with ExitStack() as open_files:
        spool = open_files.enter_context(_temporary())
        parts = [open_files.enter_context(_temporary()) for _ in range(PARTS)]
        bad = _BadRows()
        try:
            count = _sort_out(path, spool, parts, bad)
        except UnicodeDecodeError:
            raise click.ClickException(f"{path} is not UTF-8; save it as “CSV UTF-8” and try again.") from None
        for part in parts:
            _find_repeats(part, bad)
        bad.end_if_any()
        spool.seek(0)
        yield _rows(spool), count


class _BadRows:
    """What is wrong with which line."""

    def __init__(self) -> None:
        self._found: list[tuple[int, str]] = []
        self._count = 0

    def add(self, line: int, problem: str) -> None:
        """Note a bad row."""
        self._count += 1
        if len(self._found) < BAD_ROWS_MAX:
            self._found.append((line, problem))

    def end_if_any(self) -> None:
        """End the command if a row was bad."""
        if not self._count:
            return
        lines = [f"line {line}: {problem}" for line, problem in sorted(self._found)]
        if self._count > len(lines):
            lines.append(f"… and {self._count - len(lines)} more")
        raise click.ClickException("\n".join(["Nothing was written. These rows are bad:", *lines]))


def _temporary() -> IO[str]:
    return TemporaryFile("w+", encoding="utf-8", newline="", prefix="kopeck-seed-")


def _sort_out(path: Path, spool: IO[str], parts: Sequence[IO[str]], bad: _BadRows) -> int:
    """Keep the good rows, and each INN with its line in the part to which it belongs; return how many are good."""
    schema, count = schemas.OrganizationIn(), 0
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = _reader(file)
        try:
            for row in reader:
                inn, name = (row.get("inn") or "").strip(), (row.get("name") or "").strip()
                problem = _problem(schema, row, inn, name)
                if problem:
                    bad.add(reader.line_num, problem)
                    continue
                count += 1
                csv.writer(spool).writerow([inn, name])
                parts[int(inn) % PARTS].write(f"{inn} {reader.line_num}\n")
        except csv.Error:
            raise click.ClickException(f"{path} is not CSV from line {reader.line_num} on.") from None
    return count


def _reader(file: IO[str]) -> "csv.DictReader[str]":
    lines = _lines(file)
    first = next(lines, "")
    reader = csv.DictReader(chain([first], lines), delimiter=";" if ";" in first else ",", restkey="more", restval="")
    reader.fieldnames = [name.strip().lower() for name in reader.fieldnames or ()]
    if reader.fieldnames.count("inn") != 1 or reader.fieldnames.count("name") > 1:
        raise click.ClickException("The file has no column inn, or has one twice; its first line must be: inn,name")
    return reader


def _lines(file: IO[str]) -> Iterator[str]:
    """Read a file by lines; one without an end is not read into memory to find that out."""
    number = 0
    while line := file.readline(LINE_CHARACTERS_MAX + 1):
        number += 1
        if len(line) > LINE_CHARACTERS_MAX:
            raise click.ClickException(f"Line {number} has more than {LINE_CHARACTERS_MAX} characters.")
        yield line


def _problem(schema: schemas.OrganizationIn, row: dict[str, str], inn: str, name: str) -> str | None:
    if "more" in row:
        return "has more cells than the first line; put a name that holds a comma into quotation marks"
    problems = schema.validate({"inn": inn, "name": name})
    return "; ".join(f"{field}: {' '.join(messages)}" for field, messages in problems.items()) or None


def _find_repeats(part: IO[str], bad: _BadRows) -> None:
    part.seek(0)
    first_lines: dict[str, int] = {}
    for entry in part:
        inn, _, line = entry.partition(" ")
        first = first_lines.setdefault(inn, int(line))
        if first != int(line):
            bad.add(int(line), f"the INN stands on line {first} already")


def _rows(spool: IO[str]) -> Iterator[Row]:
    return ((inn, name) for inn, name in csv.reader(spool))

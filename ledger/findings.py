"""What a check of the ledger finds, and how far it has come.

Called by the checks of ledger/ and outbox/ and by whoever prints them. Reads nothing itself.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy.exc import DataError

ROWS_AT_A_TIME = 1000

Step = TypeVar("Step")
"""What a check yields, such as findings and how many rows it has read."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One row that does not add up, and why."""

    row: str
    problem: str


@dataclass(frozen=True, kw_only=True)
class Unread(Finding):
    """Rows of a bank that is not in the registry: they may be right, and nobody could compare them."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How many more rows of balance_log, payments and incidents were checked, of how many in all."""

    rows: int
    total: int


def readable(name: str, check: Iterator[Step]) -> Iterator[Step | Finding]:
    """Go on with a check until a row cannot even be read.

    SQLite keeps whatever it is given, PostgreSQL moments such as `infinity`, MariaDB in some modes a month 0.
    """
    try:
        yield from check
    except (ValueError, TypeError, OverflowError, RecursionError, DataError):
        problem = "hold a value of another kind than their column's; the rows after it were not looked at"
        yield Finding(row=name, problem=problem)

"""Pure decisions about money, numbers and retries: no database, no clock, no network.

Called by the schemas, the ledger, the outbox, the use cases and the audit.
"""

import re
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

from stdnum.ru import inn as stdnum_inn

MONEY_MAX = 2**63 - 1
"""The largest amount or balance in kopecks: a BIGINT on all three databases."""

BALANCE_MIN = -(2**62)
"""The lowest balance in kopecks, and the highest overdraft: together with what was taken outside it stays a BIGINT."""

DOCUMENT_NUMBER_CHARACTERS_MAX = 50
"""As in the bank format that Kopeck took over."""

EXTERNAL_ID_CHARACTERS_MAX = 255

EARLIEST, LATEST = datetime(1900, 1, 1, tzinfo=UTC), datetime(3000, 1, 1, tzinfo=UTC)
"""Moments before the first and from the second on are refused: not every database holds them, no bank means them.

Compared in UTC, in which moments are stored and sent on, however they were written.
"""

INN = re.compile(r"[0-9]{10}|[0-9]{12}", re.ASCII)
"""Ten digits for a company, twelve for a person; the checksum is advisory."""


class Operation(NamedTuple):
    """What makes a payment one and no other: each source numbers its operations itself, and may use another's number.

    In the order of the unique index, in which whoever inserts several must proceed.
    """

    id: UUID
    source: str


class Facts(NamedTuple):
    """What a bank says about one operation: the part in which a repeat must agree with the first time."""

    source: str
    amount: int
    payer_inn: str
    document_number: str
    document_date: datetime


def fits(balance: int, amount: int) -> bool:
    """Return whether a balance can take an amount without passing MONEY_MAX; both in kopecks."""
    return balance + amount <= MONEY_MAX


def may_leave(balance: int, amount: int, *, overdraft_limit: int) -> bool:
    """Return whether a balance can give an amount that somebody asks for; all in kopecks."""
    return balance - amount >= -overdraft_limit


def in_bounds(moment: datetime) -> bool:
    """Return whether a moment can be stored, and be sent on to somebody with the same bounds."""
    return EARLIEST <= moment < LATEST


def checksum_holds(inn: str) -> bool:
    """Return whether the check digits of a well-formed INN are right; advice, never a reason to refuse money."""
    return bool(stdnum_inn.is_valid(inn))


def rfc3339(moment: datetime) -> str:
    """Write a moment in UTC as 2024-04-27T21:00:00Z."""
    return moment.astimezone(UTC).isoformat().removesuffix("+00:00") + "Z"


def roubles(kopecks: int) -> str:
    """Write kopecks for people: 145000 is `1 450.00`."""
    sign = "-" if kopecks < 0 else ""
    whole, rest = divmod(abs(kopecks), 100)
    return f"{sign}{whole:,}.{rest:02}".replace(",", " ")

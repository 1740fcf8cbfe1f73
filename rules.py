"""Pure decisions about money, numbers and retries: no database, no clock, no network.

Called by the schemas, the ledger, the outbox, the use cases and the audit.
"""

import re
from datetime import UTC, datetime
from typing import NamedTuple

from stdnum.ru import inn as stdnum_inn

MONEY_MAX = 2**63 - 1
"""The largest amount or balance in kopecks: a BIGINT on all three databases."""

INN = re.compile(r"[0-9]{10}|[0-9]{12}", re.ASCII)
"""Ten digits for a company, twelve for a person; the checksum is advisory."""


CREDITED = "balance.credited"
EVERYTHING = "*"
"""The events that an endpoint may ask for, by name or all at once; a ping goes to its own endpoint alone."""

MINUTE, HOUR = 60, 3600
RETRY_SECONDS = (5, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR, 10 * HOUR, 14 * HOUR, 20 * HOUR, 24 * HOUR)
"""How long after its first, second … failed attempt a delivery is tried again; after the last it is exhausted."""

RETRY_JITTER = 0.1
"""By which share a wait may be shorter or longer, so that what failed together does not come back together."""

ASKED_WAIT_SECONDS_MAX = 24 * HOUR
"""The longest Retry-After that is honoured; the shortest is the first wait of the schedule."""

GONE = 410
ASKS_TO_WAIT = (429, 503)


class Facts(NamedTuple):
    """What a bank says about one operation: the part in which a repeat must agree with the first time."""

    source: str
    amount: int
    payer_inn: str
    document_number: str
    document_date: datetime


def fits(balance: int, amount: int) -> bool:
    """Tell whether a balance can take an amount without passing MONEY_MAX; both in kopecks."""
    return balance + amount <= MONEY_MAX


def listens_to(event_types: str, kind: str) -> bool:
    """Tell whether an endpoint's filter, names with spaces between them, lets a type of event through."""
    return not {EVERYTHING, kind}.isdisjoint(event_types.split())


def is_delivered(status: int | None) -> bool:
    """Tell whether an endpoint's answer means that it has taken the event."""
    return status is not None and 200 <= status < 300


def retry_in(failures: int, *, jitter: float, status: int | None = None, asked: int | None = None) -> float | None:
    """Return in how many seconds a delivery is due again after so many failures, or None when it is exhausted.

    `jitter` is drawn evenly from 0 to 1; `asked` is the Retry-After that came with `status`, in seconds.
    """
    if failures > len(RETRY_SECONDS):
        return None
    if status in ASKS_TO_WAIT and asked is not None:
        return float(min(max(asked, RETRY_SECONDS[0]), ASKED_WAIT_SECONDS_MAX))
    return RETRY_SECONDS[failures - 1] * (1 + RETRY_JITTER * (2 * jitter - 1))


def checksum_holds(inn: str) -> bool:
    """Tell whether the check digits of a well-formed INN are right; advice, never a reason to refuse money."""
    return bool(stdnum_inn.is_valid(inn))


def rfc3339(moment: datetime) -> str:
    """Write a moment in UTC as 2024-04-27T21:00:00Z."""
    return moment.astimezone(UTC).isoformat().removesuffix("+00:00") + "Z"


def roubles(kopecks: int) -> str:
    """Write kopecks for people: 145000 is `1 450.00`."""
    sign = "-" if kopecks < 0 else ""
    whole, rest = divmod(abs(kopecks), 100)
    return f"{sign}{whole:,}.{rest:02}".replace(",", " ")

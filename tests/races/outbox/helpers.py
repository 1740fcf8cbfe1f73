"""What these tests share: three organisations, a moment later on, and a look at the one delivery that there is."""

from datetime import timedelta

import limits
from tests.factories import START
from tests.outboxes import read_attempts, read_deliveries

LEASE = timedelta(seconds=limits.LEASE_SECONDS)
LATER = START + timedelta(hours=1)
INNS = ("7707083893", "7736050003", "1234567894")


def the_delivery():
    (row,) = read_deliveries()
    return row


def the_attempts() -> list[tuple[int, int | None, str | None]]:
    (attempts,) = read_attempts().values()
    return [(attempt.number, attempt.status_code, attempt.error) for attempt in attempts]

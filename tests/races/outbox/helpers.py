"""What these tests share: organisations, a later moment, a look at the one delivery, and rows that are locked."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from sqlalchemy import text

import limits
from database.extension import db
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


@contextmanager
def held(table: str, where: str) -> Iterator[None]:
    """Lock rows from another connection, as a person with a database shell does."""
    with db.engine.connect() as connection:
        connection.execute(text(f"SELECT id FROM {table} WHERE {where} FOR UPDATE"))
        yield
        connection.rollback()

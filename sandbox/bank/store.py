"""The table of the mock bank's exchanges: the request and the answer of each webhook.

The table is created with the first exchange.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sandbox.store import Connection, Row, Store, moment, written

EXCHANGES_MAX = 200
"""How many exchanges are stored; older ones are deleted."""

TABLE = """
CREATE TABLE IF NOT EXISTS bank_exchanges (
    id INTEGER PRIMARY KEY,
    url TEXT NOT NULL,
    headers TEXT NOT NULL,
    body TEXT NOT NULL,
    answer_status INTEGER,
    answer_headers TEXT NOT NULL,
    answer_body TEXT NOT NULL,
    duration_ms INTEGER NOT NULL,
    sent_at TEXT NOT NULL
) STRICT
"""


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """One webhook of the mock bank. Without an answer `answer_status` is None and `answer_body` is the reason."""

    id: int = 0
    url: str
    headers: Mapping[str, str]
    body: str
    answer_status: int | None
    answer_headers: Mapping[str, str]
    answer_body: str
    duration_ms: int
    sent_at: datetime


def save(store: Store, exchange: Exchange) -> int:
    """Insert an exchange and return its id."""
    with store.writing() as connection:
        connection.execute(TABLE)
        cursor = connection.execute(
            "INSERT INTO bank_exchanges (url, headers, body, answer_status, answer_headers, answer_body, duration_ms, "
            "sent_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                exchange.url,
                json.dumps(dict(exchange.headers)),
                exchange.body,
                exchange.answer_status,
                json.dumps(dict(exchange.answer_headers)),
                exchange.answer_body,
                exchange.duration_ms,
                written(exchange.sent_at),
            ),
        )
        number = int(cursor.lastrowid or 0)
        connection.execute("DELETE FROM bank_exchanges WHERE id <= ?", (number - EXCHANGES_MAX,))
    return number


def latest(store: Store, count: int) -> list[Exchange]:
    """Return the latest exchanges, newest first."""
    with store.reading() as connection:
        if not _table_exists(connection):
            return []
        rows = connection.execute("SELECT * FROM bank_exchanges ORDER BY id DESC LIMIT ?", (count,)).fetchall()
    return list(map(_exchange, rows))


def _table_exists(connection: Connection) -> bool:
    query = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'bank_exchanges'"
    return connection.execute(query).fetchone() is not None


def _exchange(row: Row) -> Exchange:
    return Exchange(
        id=row["id"],
        url=row["url"],
        headers=json.loads(row["headers"]),
        body=row["body"],
        answer_status=row["answer_status"],
        answer_headers=json.loads(row["answer_headers"]),
        answer_body=row["answer_body"],
        duration_ms=row["duration_ms"],
        sent_at=moment(row["sent_at"]),
    )

"""The sandbox's own database: one SQLite file, its tables, and its transactions."""

import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

VERSION = 4
"""The version of the tables. A file of another version is renamed, because its data need not be kept."""

BUSY_SECONDS = 30
MOMENT = "%Y-%m-%dT%H:%M:%S.%f"
SECRET_BYTES = 32

Row = sqlite3.Row
Connection = sqlite3.Connection

TABLES = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;

CREATE TABLE invoices (
    id TEXT PRIMARY KEY,
    amount INTEGER NOT NULL,
    currency TEXT NOT NULL,
    reference TEXT NOT NULL,
    webhook_url TEXT NOT NULL,
    redirect_url TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('pending', 'waiting_for_otp', 'processing', 'authorized', 'paid',
        'partially_refunded', 'refunded', 'failed', 'expired', 'canceled')),
    error_code TEXT,
    error_message TEXT,
    card_mask TEXT,
    card_fingerprint TEXT,
    email TEXT,
    captured INTEGER NOT NULL DEFAULT 0,
    refunded INTEGER NOT NULL DEFAULT 0,
    manual_capture INTEGER NOT NULL DEFAULT 0,
    script TEXT NOT NULL DEFAULT '',
    script_position INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    idempotency_key TEXT,
    browser TEXT,
    language TEXT,
    pending_decline TEXT,
    decide_at TEXT,
    otp_code TEXT,
    otp_expires_at TEXT,
    otp_sent_at TEXT,
    otp_failures INTEGER NOT NULL DEFAULT 0,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    expires_at TEXT NOT NULL,
    paid_at TEXT,
    CHECK (amount > 0),
    CHECK (refunded >= 0 AND refunded <= captured AND captured <= amount),
    CHECK ((status IN ('paid', 'partially_refunded', 'refunded')) = (captured > 0)),
    CHECK ((status IN ('partially_refunded', 'refunded')) = (refunded > 0)),
    CHECK (status <> 'refunded' OR refunded = captured),
    CHECK (status <> 'partially_refunded' OR refunded < captured),
    CHECK ((status = 'processing') = (decide_at IS NOT NULL)),
    CHECK ((status = 'waiting_for_otp') = (otp_code IS NOT NULL))
) STRICT;
CREATE INDEX invoices_by_age ON invoices (created_at);
CREATE INDEX invoices_by_key ON invoices (idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX invoices_open ON invoices (expires_at) WHERE status IN ('pending', 'waiting_for_otp');
CREATE INDEX invoices_undecided ON invoices (decide_at) WHERE decide_at IS NOT NULL;
CREATE INDEX invoices_by_email ON invoices (email, paid_at) WHERE paid_at IS NOT NULL;

CREATE TABLE moves (
    id INTEGER PRIMARY KEY,
    invoice_id TEXT NOT NULL REFERENCES invoices ON DELETE CASCADE,
    before TEXT,
    after TEXT NOT NULL,
    cause TEXT NOT NULL,
    moved_at TEXT NOT NULL
) STRICT;
CREATE INDEX moves_by_invoice ON moves (invoice_id, id);
CREATE UNIQUE INDEX moves_succeed_once ON moves (invoice_id) WHERE after = 'paid';

CREATE TABLE refunds (
    id TEXT PRIMARY KEY,
    invoice_id TEXT NOT NULL REFERENCES invoices ON DELETE CASCADE,
    amount INTEGER NOT NULL CHECK (amount > 0),
    idempotency_key TEXT,
    created_at TEXT NOT NULL,
    UNIQUE (invoice_id, idempotency_key)
) STRICT;

CREATE TABLE webhooks (
    id INTEGER PRIMARY KEY,
    invoice_id TEXT NOT NULL REFERENCES invoices ON DELETE CASCADE,
    url TEXT NOT NULL,
    status TEXT NOT NULL,
    members TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'delivered', 'failed')),
    attempts INTEGER NOT NULL DEFAULT 0,
    attempts_left INTEGER NOT NULL,
    due_at TEXT,
    lease TEXT,
    created_at TEXT NOT NULL,
    CHECK ((state = 'pending') = (due_at IS NOT NULL))
) STRICT;
CREATE INDEX webhooks_due ON webhooks (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX webhooks_by_invoice ON webhooks (invoice_id, id);

CREATE TABLE webhook_attempts (
    id INTEGER PRIMARY KEY,
    webhook_id INTEGER NOT NULL REFERENCES webhooks ON DELETE CASCADE,
    number INTEGER NOT NULL,
    body TEXT NOT NULL,
    headers TEXT NOT NULL,
    signature TEXT NOT NULL,
    answer_status INTEGER,
    answer_body TEXT NOT NULL,
    error TEXT,
    duration_ms INTEGER NOT NULL,
    succeeded INTEGER NOT NULL,
    attempted_at TEXT NOT NULL
) STRICT;
CREATE INDEX attempts_by_webhook ON webhook_attempts (webhook_id, id);

CREATE TABLE saved_cards (
    id INTEGER PRIMARY KEY,
    email TEXT NOT NULL,
    mask TEXT NOT NULL,
    number TEXT NOT NULL,
    expiry TEXT NOT NULL,
    created_at TEXT NOT NULL,
    UNIQUE (email, number)
) STRICT;

CREATE TABLE wanted_cards (
    invoice_id TEXT PRIMARY KEY REFERENCES invoices ON DELETE CASCADE,
    number TEXT NOT NULL,
    expiry TEXT NOT NULL
) STRICT;

CREATE TABLE email_codes (
    email TEXT PRIMARY KEY,
    code TEXT NOT NULL,
    expires_at TEXT NOT NULL,
    sent_at TEXT NOT NULL,
    failures INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE sessions (
    token_hash TEXT NOT NULL,
    email TEXT NOT NULL,
    expires_at TEXT NOT NULL,
    PRIMARY KEY (token_hash, email)
) STRICT;

CREATE TABLE mails (
    id INTEGER PRIMARY KEY,
    recipient TEXT NOT NULL,
    subject TEXT NOT NULL,
    body TEXT NOT NULL,
    html TEXT NOT NULL,
    kind TEXT NOT NULL,
    code TEXT,
    invoice_id TEXT,
    created_at TEXT NOT NULL,
    due_at TEXT,
    attempts INTEGER NOT NULL DEFAULT 0,
    sent_at TEXT,
    error TEXT
) STRICT;
CREATE INDEX mails_due ON mails (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX mails_sent ON mails (sent_at) WHERE sent_at IS NOT NULL;
CREATE INDEX mails_by_invoice ON mails (invoice_id, id);
"""
KEPT_AT_RESET = ("facts",)


class Store:
    """The database file of one sandbox; every transaction opens its own connection."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def prepare(self) -> None:
        """Create the file and its tables if they do not exist; rename a file of another version."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self.path.exists():
            self.path.touch(mode=0o600)
        for suffix in ("", "-wal", "-shm"):
            # It holds the secret, codes and mails. One that is gone or belongs to somebody else stays as it is.
            with suppress(OSError):
                self.path.with_name(self.path.name + suffix).chmod(0o600)
        if self._version() not in (0, VERSION):
            self._rename_file()
        with self.writing() as connection:
            if connection.execute("PRAGMA user_version").fetchone()[0] == 0:
                for statement in TABLES.split(";\n"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {VERSION}")
                connection.execute("INSERT INTO facts VALUES ('secret', ?)", (secrets.token_hex(SECRET_BYTES),))

    def connect(self) -> Connection:
        """Open a connection that waits for locks, checks foreign keys, and commits durably."""
        connection = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        return connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Read one consistent snapshot."""
        connection = self.connect()
        try:
            connection.execute("BEGIN")
            yield connection
        finally:
            connection.close()

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Write with an exclusive lock: no other transaction writes before the commit. Any error rolls back."""
        connection = self.connect()
        try:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")
        finally:
            connection.close()  # rolls back what was not committed

    def secret(self) -> str:
        """Return the secret that the gateway signs with; it was generated at the first start."""
        with self.reading() as connection:
            return str(connection.execute("SELECT value FROM facts WHERE name = 'secret'").fetchone()[0])

    def reset(self) -> None:
        """Delete every row except the secret, also from tables that other modules have added."""
        with self.writing() as connection:
            connection.execute("PRAGMA defer_foreign_keys = ON")
            names = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
            for (name,) in names:
                if name not in KEPT_AT_RESET and not name.startswith("sqlite_"):
                    connection.execute(f'DELETE FROM "{name}"')  # noqa: S608 - the name comes from the schema

    def _version(self) -> int:
        connection = self.connect()
        try:
            return int(connection.execute("PRAGMA user_version").fetchone()[0])
        finally:
            connection.close()

    def _rename_file(self) -> None:
        stamp = datetime.now(UTC).strftime("%Y%m%d%H%M%S")
        self.path.rename(self.path.with_name(f"{self.path.name}.{stamp}"))
        for suffix in ("-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)


def written(moment: datetime) -> str:
    """Return a moment as stored: UTC without a zone, so that text order is time order."""
    return moment.astimezone(UTC).strftime(MOMENT)


def moment(text: str) -> datetime:
    """Parse a stored moment."""
    return datetime.strptime(text, MOMENT).replace(tzinfo=UTC)


def moment_or_none(text: str | None) -> datetime | None:
    """Parse a stored moment that may be NULL."""
    return None if text is None else moment(text)


def values(**columns: Any) -> dict[str, Any]:
    """Return column values as stored."""
    return {name: written(value) if isinstance(value, datetime) else value for name, value in columns.items()}

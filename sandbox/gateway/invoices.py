"""The tables of invoices and their moves; every function runs in the caller's transaction.

Only set_status() changes a status, and it records each move.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sandbox import store
from sandbox.gateway import model
from sandbox.gateway.model import Invoice, Status
from sandbox.store import Connection, Row


@dataclass(frozen=True, kw_only=True)
class InvoiceFilter:
    """Which invoices a list shows; None means all."""

    status: str | None = None
    text: str | None = None
    limit: int = 100


@dataclass(frozen=True, kw_only=True)
class Move:
    """One change of a status, with its cause."""

    before: str | None
    after: str
    cause: str
    moved_at: datetime


def insert(connection: Connection, **columns: Any) -> None:
    """Insert a pending invoice."""
    row = store.values(**columns, status=Status.PENDING.value)
    names, marks = ", ".join(row), ", ".join(f":{name}" for name in row)
    connection.execute(f"INSERT INTO invoices ({names}) VALUES ({marks})", row)  # noqa: S608 - names are ours
    _record_move(connection, row["id"], None, Status.PENDING, cause="created", now=columns["created_at"])


def find(connection: Connection, invoice_id: str) -> Invoice | None:
    """Return an invoice."""
    row = find_row(connection, invoice_id)
    return None if row is None else read(row)


def find_row(connection: Connection, invoice_id: str) -> Row | None:
    """Return an invoice's row, including the columns of the code."""
    found: Row | None = connection.execute("SELECT * FROM invoices WHERE id = ?", (invoice_id,)).fetchone()
    return found


def with_key(connection: Connection, idempotency_key: str, own_id: str, *, email: str, browser: str) -> Invoice | None:
    """Return the payment with an Idempotency-Key: this one, else an active one of the same payer, else any of his."""
    row = connection.execute(
        "SELECT * FROM invoices WHERE idempotency_key = :key"
        " AND (id = :own OR (email = :email AND browser = :browser))"
        " ORDER BY id = :own DESC, status IN ('failed', 'expired', 'canceled'), updated_at LIMIT 1",
        {"key": idempotency_key, "own": own_id, "email": email, "browser": browser},
    ).fetchone()
    return None if row is None else read(row)


def set_status(
    connection: Connection, invoice: Invoice, after: Status, *, cause: str, now: datetime, **columns: Any
) -> Invoice:
    """Change the status of an invoice that was read in this transaction, and other columns with it."""
    if not model.may_move(invoice.status, after):
        raise ValueError(f"no move leads from {invoice.status} to {after}")
    moved = update(connection, invoice.id, status=after.value, updated_at=now, **columns)
    _record_move(connection, invoice.id, invoice.status, after, cause=cause, now=now)
    return moved


def update(connection: Connection, invoice_id: str, **columns: Any) -> Invoice:
    """Change columns other than the status."""
    row = store.values(**columns)
    names = ", ".join(f"{name} = :{name}" for name in row)
    changed = connection.execute(
        f"UPDATE invoices SET {names} WHERE id = :invoice_id RETURNING *",  # noqa: S608 - names are ours
        {**row, "invoice_id": invoice_id},
    ).fetchone()
    return read(changed)


def listed(connection: Connection, shown: InvoiceFilter) -> list[Invoice]:
    """Return invoices, newest first."""
    rows = connection.execute(
        "SELECT * FROM invoices WHERE (:status IS NULL OR status = :status)"
        " AND (:text IS NULL OR instr(lower(id || ' ' || reference || ' ' || coalesce(email, '')), lower(:text)))"
        " ORDER BY created_at DESC, rowid DESC LIMIT :limit",
        {"status": shown.status or None, "text": shown.text or None, "limit": shown.limit},
    )
    return [read(row) for row in rows]


def moves(connection: Connection, invoice_id: str) -> list[Move]:
    """Return all moves of an invoice, in order."""
    rows = connection.execute("SELECT * FROM moves WHERE invoice_id = ? ORDER BY id", (invoice_id,))
    return [
        Move(before=row["before"], after=row["after"], cause=row["cause"], moved_at=store.moment(row["moved_at"]))
        for row in rows
    ]


def overdue(connection: Connection, now: datetime, limit: int) -> list[Invoice]:
    """Return invoices whose time to pay is over."""
    rows = connection.execute(
        "SELECT * FROM invoices WHERE status IN ('pending', 'waiting_for_otp') AND expires_at <= ?"
        " ORDER BY expires_at LIMIT ?",
        (store.written(now), limit),
    )
    return [read(row) for row in rows]


def undecided(connection: Connection, now: datetime, limit: int) -> list[Invoice]:
    """Return invoices whose issuer has answered by now."""
    rows = connection.execute(
        "SELECT * FROM invoices WHERE decide_at <= ? ORDER BY decide_at LIMIT ?", (store.written(now), limit)
    )
    return [read(row) for row in rows]


def wrong_codes(connection: Connection, email: str, since: datetime) -> int:
    """Return how many wrong codes were entered for an e-mail address, in all its payments."""
    row = connection.execute(
        "SELECT coalesce(sum(otp_failures), 0) FROM invoices WHERE email = ? AND updated_at > ?",
        (email, store.written(since)),
    ).fetchone()
    return int(row[0])


def has_paid_before(connection: Connection, *, fingerprint: str, email: str) -> bool:
    """Return whether a card has succeeded for an e-mail address."""
    return (
        connection.execute(
            "SELECT 1 FROM invoices WHERE email = ? AND card_fingerprint = ? AND paid_at IS NOT NULL",
            (email, fingerprint),
        ).fetchone()
        is not None
    )


def paid_by(connection: Connection, email: str, limit: int) -> Sequence[Invoice]:
    """Return the newest successful payments of an e-mail address."""
    rows = connection.execute(
        "SELECT * FROM invoices WHERE email = ? AND paid_at IS NOT NULL ORDER BY paid_at DESC, rowid DESC LIMIT ?",
        (email, limit),
    )
    return [read(row) for row in rows]


def expiry(created_at: datetime, lifetime: timedelta = model.LIFETIME) -> datetime:
    """Return when an invoice expires."""
    return created_at + lifetime


def read(row: Row) -> Invoice:
    """Return the invoice in a row."""
    return Invoice(
        id=row["id"],
        amount=row["amount"],
        currency=row["currency"],
        reference=row["reference"],
        webhook_url=row["webhook_url"],
        redirect_url=row["redirect_url"],
        status=Status(row["status"]),
        error_code=row["error_code"],
        error_message=row["error_message"],
        card_mask=row["card_mask"],
        card_fingerprint=row["card_fingerprint"],
        email=row["email"],
        captured=row["captured"],
        refunded=row["refunded"],
        manual_capture=bool(row["manual_capture"]),
        script=tuple(row["script"].split(",")) if row["script"] else (),
        script_position=row["script_position"],
        attempts=row["attempts"],
        idempotency_key=row["idempotency_key"],
        language=row["language"],
        created_at=store.moment(row["created_at"]),
        updated_at=store.moment(row["updated_at"]),
        expires_at=store.moment(row["expires_at"]),
        paid_at=store.moment_or_none(row["paid_at"]),
        decide_at=store.moment_or_none(row["decide_at"]),
    )


def _record_move(
    connection: Connection, invoice_id: str, before: Status | None, after: Status, *, cause: str, now: datetime
) -> None:
    connection.execute(
        "INSERT INTO moves (invoice_id, before, after, cause, moved_at) VALUES (?, ?, ?, ?, ?)",
        (invoice_id, before and before.value, after.value, cause, store.written(now)),
    )

"""Webhooks of the gateway: written with the change that they tell of, signed anew and sent until a shop says yes.

Called by the use cases inside their transaction, by the worker and by the dashboard. Never decides what a payment is.
"""

import html
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import signing
from http_client.client import Client
from http_client.connection import Unreachable
from sandbox import store
from sandbox.gateway.model import Invoice, Status
from sandbox.settings import AmountForm, Announce
from sandbox.store import Connection, Row, Store

TRIES_MAX = 5
RETRY_SECONDS = (5, 15, 60, 300)
"""How long after each failed attempt the next one follows; upstream looks every five minutes."""

SECONDS_MAX = 10.0
"""How long a shop may take to answer."""

LEASE = timedelta(seconds=60)
"""How long a worker may keep a webhook; of one that vanished another takes over then."""

ACCEPTED = frozenset({200, 201, 202, 204})
ANSWER_CHARACTERS_MAX = 1000
ANNOUNCED = frozenset({Status.PAID, Status.FAILED, Status.EXPIRED})


@dataclass(frozen=True, kw_only=True)
class WebhookAttempt:
    """One time that a webhook was sent: exactly what went out, and what came back."""

    number: int
    body: str
    headers: Mapping[str, str]
    signature: str
    answer_status: int | None
    answer_body: str
    error: str | None
    duration_ms: int
    succeeded: bool
    attempted_at: datetime


@dataclass(frozen=True, kw_only=True)
class Webhook:
    """What a shop is told once, with every attempt to tell it; `state` is pending, delivered or failed."""

    id: int
    invoice_id: str
    url: str
    status: str
    state: str
    tries_left: int
    due_at: datetime | None
    created_at: datetime
    attempts: tuple[WebhookAttempt, ...]


@dataclass(frozen=True, kw_only=True)
class WebhookFilter:
    """Which webhooks a list shows; None does not restrict."""

    invoice_id: str | None = None
    state: str | None = None
    limit: int = 100


@dataclass(frozen=True, kw_only=True)
class Parcel:
    """A webhook that a worker has to itself until its lease runs out."""

    id: int
    lease: str
    url: str
    members: Mapping[str, Any]


def announce(connection: Connection, invoice: Invoice, *, wanted: Announce, now: datetime) -> None:
    """Write a webhook in the transaction that changed the payment, if its new state is told at all."""
    if invoice.status not in ANNOUNCED or (wanted == "paid" and invoice.status is not Status.PAID):
        return
    members = {
        "payment_id": invoice.id,
        "reference": wire_reference(invoice.reference),
        "amount": invoice.amount,
        "status": invoice.status.value,
        "card_mask": invoice.card_mask,
    }
    connection.execute(
        "INSERT INTO webhooks (invoice_id, url, status, members, tries_left, due_at, created_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            invoice.id,
            invoice.webhook_url,
            invoice.status.value,
            json.dumps(members),
            TRIES_MAX,
            store.written(now),
            store.written(now),
        ),
    )


def wire_reference(reference: str) -> str:
    """Return a reference as upstream's webhooks carry it: escaped for HTML, though they are JSON."""
    return html.escape(reference).replace("javascript:", "").strip()


def wire(members: Mapping[str, Any], *, secret: str, form: AmountForm, now: datetime) -> tuple[bytes, dict[str, str]]:
    """Return body and headers of one attempt; the bytes that are sent are the bytes that are signed.

    The text is what clients compute that read the body and dump it again with sorted keys, as upstream asks them to.
    """
    amount = members["amount"]
    payload = {
        **members,
        "amount": float(amount) if form == "float" else int(amount),
        "timestamp": now.astimezone(UTC).replace(tzinfo=None).isoformat(),
    }
    body = json.dumps(payload, sort_keys=True).encode()
    return body, {
        "Content-Type": "application/json",
        "X-Signature": signing.sign(body, secret),
        "X-Payment-ID": str(members["payment_id"]),
    }


def mac(document: Mapping[str, Any], secret: str) -> str:
    """Return the signature of a JSON object as upstream computes it: over its dump with sorted keys."""
    return signing.sign(json.dumps(document, sort_keys=True).encode(), secret)


def is_due(of: Store, now: datetime) -> bool:
    """Tell whether there is anything to claim, without writing."""
    with of.reading() as connection:
        found = connection.execute("SELECT 1 FROM webhooks WHERE due_at <= ? LIMIT 1", (store.written(now),))
        return found.fetchone() is not None


def claim(of: Store, *, now: datetime, limit: int) -> list[Parcel]:
    """Take webhooks that are due; nobody else gets them until the lease is over."""
    lease = str(uuid4())
    with of.writing() as connection:
        rows = connection.execute(
            "UPDATE webhooks SET lease = :lease, due_at = :until WHERE id IN"
            " (SELECT id FROM webhooks WHERE due_at <= :now ORDER BY due_at, id LIMIT :limit) RETURNING *",
            {"lease": lease, "until": store.written(now + LEASE), "now": store.written(now), "limit": limit},
        ).fetchall()
    return [Parcel(id=row["id"], lease=lease, url=row["url"], members=json.loads(row["members"])) for row in rows]


def new_client() -> Client:
    """Return what sends: to the public internet and to this machine, never to link-local or private addresses."""
    return Client(loopback_allowed=True, seconds=SECONDS_MAX)


def send(
    of: Store, client: Client, parcel: Parcel, *, secret: str, form: AmountForm, clock: Callable[[], datetime]
) -> None:
    """Send a webhook once and keep what came of it."""
    started_at = clock()
    body, headers = wire(parcel.members, secret=secret, form=form, now=started_at)
    status, text, error = None, "", None
    try:
        answer = client.post(parcel.url, body, headers)
        status, text = answer.status, answer.body.decode(errors="replace")[:ANSWER_CHARACTERS_MAX]
    except Unreachable as reason:
        error = str(reason)
    ended_at = clock()
    attempt = WebhookAttempt(
        number=0,  # the database counts
        body=body.decode(),
        headers=headers,
        signature=headers["X-Signature"],
        answer_status=status,
        answer_body=text.replace("\x00", "\N{REPLACEMENT CHARACTER}"),
        error=error,
        duration_ms=max(0, round((ended_at - started_at).total_seconds() * 1000)),
        succeeded=status in ACCEPTED,
        attempted_at=started_at,
    )
    _settle(of, parcel, attempt, now=ended_at)


def resend(connection: Connection, webhook_id: int, *, now: datetime) -> bool:
    """Have a webhook sent once more, whatever became of it; False when there is none of this number."""
    changed = connection.execute(
        "UPDATE webhooks SET state = 'pending', tries_left = max(tries_left, 1), due_at = :now, lease = NULL"
        " WHERE id = :id",
        {"now": store.written(now), "id": webhook_id},
    )
    return changed.rowcount == 1


def listed(connection: Connection, wanted: WebhookFilter) -> list[Webhook]:
    """Return webhooks with their attempts, newest first."""
    rows = connection.execute(
        "SELECT * FROM webhooks WHERE (:invoice_id IS NULL OR invoice_id = :invoice_id)"
        " AND (:state IS NULL OR state = :state) ORDER BY id DESC LIMIT :limit",
        {"invoice_id": wanted.invoice_id or None, "state": wanted.state or None, "limit": wanted.limit},
    ).fetchall()
    return [_read(connection, row) for row in rows]


def _settle(of: Store, parcel: Parcel, attempt: WebhookAttempt, *, now: datetime) -> None:
    with of.writing() as connection:
        row = connection.execute("SELECT * FROM webhooks WHERE id = ?", (parcel.id,)).fetchone()
        if row is None:  # the sandbox was reset meanwhile
            return
        _keep(connection, row, attempt)
        if attempt.succeeded:
            # Also when the lease ran out meanwhile: the shop has it.
            _finish(connection, parcel.id, "delivered")
        elif row["lease"] == parcel.lease:
            _put_off(connection, row, now)


def _keep(connection: Connection, row: Row, attempt: WebhookAttempt) -> None:
    connection.execute("UPDATE webhooks SET attempts = attempts + 1 WHERE id = ?", (row["id"],))
    connection.execute(
        "INSERT INTO webhook_attempts (webhook_id, number, body, headers, signature, answer_status, answer_body,"
        " error, duration_ms, succeeded, attempted_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            row["id"],
            row["attempts"] + 1,
            attempt.body,
            json.dumps(dict(attempt.headers)),
            attempt.signature,
            attempt.answer_status,
            attempt.answer_body,
            attempt.error,
            attempt.duration_ms,
            attempt.succeeded,
            store.written(attempt.attempted_at),
        ),
    )


def _put_off(connection: Connection, row: Row, now: datetime) -> None:
    left = row["tries_left"] - 1
    if left <= 0:
        _finish(connection, row["id"], "failed")
        return
    wait = RETRY_SECONDS[min(TRIES_MAX - left, len(RETRY_SECONDS)) - 1]
    connection.execute(
        "UPDATE webhooks SET tries_left = ?, due_at = ?, lease = NULL WHERE id = ?",
        (left, store.written(now + timedelta(seconds=wait)), row["id"]),
    )


def _finish(connection: Connection, webhook_id: int, state: str) -> None:
    connection.execute(
        "UPDATE webhooks SET state = ?, due_at = NULL, lease = NULL, tries_left = 0 WHERE id = ?", (state, webhook_id)
    )


def _read(connection: Connection, row: Row) -> Webhook:
    attempts = connection.execute("SELECT * FROM webhook_attempts WHERE webhook_id = ? ORDER BY id", (row["id"],))
    return Webhook(
        id=row["id"],
        invoice_id=row["invoice_id"],
        url=row["url"],
        status=row["status"],
        state=row["state"],
        tries_left=row["tries_left"],
        due_at=store.moment_or_none(row["due_at"]),
        created_at=store.moment(row["created_at"]),
        attempts=tuple(_read_attempt(attempt) for attempt in attempts),
    )


def _read_attempt(row: Row) -> WebhookAttempt:
    return WebhookAttempt(
        number=row["number"],
        body=row["body"],
        headers=json.loads(row["headers"]),
        signature=row["signature"],
        answer_status=row["answer_status"],
        answer_body=row["answer_body"],
        error=row["error"],
        duration_ms=row["duration_ms"],
        succeeded=bool(row["succeeded"]),
        attempted_at=store.moment(row["attempted_at"]),
    )

"""The gateway's webhooks: an outbox that is written in the transaction of the payment, and its delivery.

Each attempt has a new timestamp and signature.
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
from sandbox.settings import AmountForm, Announce, Settings
from sandbox.store import Connection, Row, Store

ATTEMPTS_MAX = 5
RETRY_SECONDS = (5, 15, 60, 300)
"""The wait after each failed attempt; upstream always waits five minutes."""

SECONDS_MAX = 10.0
"""How long a shop may take to answer."""

LEASE = timedelta(seconds=60)
"""How long a worker may hold a webhook. If the worker died, another one claims it then."""

ACCEPTED = frozenset({200, 201, 202, 204})
ANSWER_CHARACTERS_MAX = 1000
NOTIFIED_STATUSES = frozenset({Status.PAID, Status.FAILED, Status.EXPIRED})


@dataclass(frozen=True, kw_only=True)
class WebhookAttempt:
    """One attempt: the exact request and the answer."""

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
    """A webhook with all attempts; `state` is pending, delivered or failed."""

    id: int
    invoice_id: str
    url: str
    status: str
    state: str
    attempts_left: int
    due_at: datetime | None
    created_at: datetime
    attempts: tuple[WebhookAttempt, ...]


@dataclass(frozen=True, kw_only=True)
class WebhookFilter:
    """Which webhooks a list shows; None means all."""

    invoice_id: str | None = None
    state: str | None = None
    limit: int = 100


@dataclass(frozen=True, kw_only=True)
class ClaimedWebhook:
    """A webhook that belongs to one worker until its lease ends."""

    id: int
    lease: str
    url: str
    members: Mapping[str, Any]


def enqueue(connection: Connection, invoice: Invoice, *, events: Announce, now: datetime) -> None:
    """Insert a webhook in the transaction that changed the payment, if its new status causes one."""
    if not invoice.webhook_url:
        return
    if invoice.status not in NOTIFIED_STATUSES or (events == "paid" and invoice.status is not Status.PAID):
        return
    members = {
        "payment_id": invoice.id,
        "reference": escaped_reference(invoice.reference),
        "amount": invoice.amount,
        "status": invoice.status.value,
        "card_mask": invoice.card_mask,
    }
    connection.execute(
        "INSERT INTO webhooks (invoice_id, url, status, members, attempts_left, due_at, created_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            invoice.id,
            invoice.webhook_url,
            invoice.status.value,
            json.dumps(members),
            ATTEMPTS_MAX,
            store.written(now),
            store.written(now),
        ),
    )


def escaped_reference(reference: str) -> str:
    """Return a reference as in upstream's webhooks: escaped for HTML, although they are JSON."""
    return html.escape(reference).replace("javascript:", "").strip()


def build_request(
    members: Mapping[str, Any], *, secret: str, form: AmountForm, now: datetime
) -> tuple[bytes, dict[str, str]]:
    """Return body and headers of one attempt; the signature covers the exact bytes of the body.

    Keys are sorted, because upstream's clients sign their own dump of the parsed body with sorted keys.
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


def signature_of(document: Mapping[str, Any], secret: str) -> str:
    """Return the signature of a JSON object as upstream's clients compute it: over its dump with sorted keys."""
    return signing.sign(json.dumps(document, sort_keys=True).encode(), secret)


def is_due(database: Store, now: datetime) -> bool:
    """Return whether a webhook is due, without writing."""
    with database.reading() as connection:
        found = connection.execute("SELECT 1 FROM webhooks WHERE due_at <= ? LIMIT 1", (store.written(now),))
        return found.fetchone() is not None


def claim(database: Store, *, now: datetime, limit: int) -> list[ClaimedWebhook]:
    """Claim due webhooks; no other worker gets them until the lease ends."""
    lease = str(uuid4())
    with database.writing() as connection:
        rows = connection.execute(
            "UPDATE webhooks SET lease = :lease, due_at = :until WHERE id IN"
            " (SELECT id FROM webhooks WHERE due_at <= :now ORDER BY due_at, id LIMIT :limit) RETURNING *",
            {"lease": lease, "until": store.written(now + LEASE), "now": store.written(now), "limit": limit},
        ).fetchall()
    return [
        ClaimedWebhook(id=row["id"], lease=lease, url=row["url"], members=json.loads(row["members"])) for row in rows
    ]


def new_client(settings: Settings) -> Client:
    """Return an HTTP client for public addresses, listed networks, and this machine unless strangers choose targets."""
    return Client(loopback_allowed=not settings.public, networks=settings.networks, seconds=SECONDS_MAX)


def send(
    database: Store,
    client: Client,
    webhook: ClaimedWebhook,
    *,
    secret: str,
    form: AmountForm,
    clock: Callable[[], datetime],
) -> None:
    """Send a webhook once and store the attempt."""
    started_at = clock()
    body, headers = build_request(webhook.members, secret=secret, form=form, now=started_at)
    status, text, error = None, "", None
    try:
        answer = client.post(webhook.url, body, headers)
        status, text = answer.status, answer.body.decode(errors="replace")[:ANSWER_CHARACTERS_MAX]
    except Unreachable as reason:
        error = str(reason)
    ended_at = clock()
    attempt = WebhookAttempt(
        number=0,  # set by _insert_attempt()
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
    _save_result(database, webhook, attempt, now=ended_at)


def resend(connection: Connection, webhook_id: int, *, now: datetime) -> bool:
    """Make a webhook due again, in any state; return False if it does not exist."""
    changed = connection.execute(
        "UPDATE webhooks SET state = 'pending', attempts_left = max(attempts_left, 1), due_at = :now, lease = NULL"
        " WHERE id = :id",
        {"now": store.written(now), "id": webhook_id},
    )
    return changed.rowcount == 1


def listed(connection: Connection, shown: WebhookFilter) -> list[Webhook]:
    """Return webhooks with their attempts, newest first."""
    rows = connection.execute(
        "SELECT * FROM webhooks WHERE (:invoice_id IS NULL OR invoice_id = :invoice_id)"
        " AND (:state IS NULL OR state = :state) ORDER BY id DESC LIMIT :limit",
        {"invoice_id": shown.invoice_id or None, "state": shown.state or None, "limit": shown.limit},
    ).fetchall()
    return [_read(connection, row) for row in rows]


def _save_result(database: Store, webhook: ClaimedWebhook, attempt: WebhookAttempt, *, now: datetime) -> None:
    with database.writing() as connection:
        row = connection.execute("SELECT * FROM webhooks WHERE id = ?", (webhook.id,)).fetchone()
        if row is None:  # the sandbox was reset during the attempt
            return
        _insert_attempt(connection, row, attempt)
        if attempt.succeeded:
            # Also if the lease has ended: the shop has received it.
            _finish(connection, webhook.id, "delivered")
        elif row["lease"] == webhook.lease:
            _schedule_retry(connection, row, now)


def _insert_attempt(connection: Connection, row: Row, attempt: WebhookAttempt) -> None:
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


def _schedule_retry(connection: Connection, row: Row, now: datetime) -> None:
    left = row["attempts_left"] - 1
    if left <= 0:
        _finish(connection, row["id"], "failed")
        return
    wait = RETRY_SECONDS[min(ATTEMPTS_MAX - left, len(RETRY_SECONDS)) - 1]
    connection.execute(
        "UPDATE webhooks SET attempts_left = ?, due_at = ?, lease = NULL WHERE id = ?",
        (left, store.written(now + timedelta(seconds=wait)), row["id"]),
    )


def _finish(connection: Connection, webhook_id: int, state: str) -> None:
    connection.execute(
        "UPDATE webhooks SET state = ?, due_at = NULL, lease = NULL, attempts_left = 0 WHERE id = ?",
        (state, webhook_id),
    )


def _read(connection: Connection, row: Row) -> Webhook:
    attempts = connection.execute("SELECT * FROM webhook_attempts WHERE webhook_id = ? ORDER BY id", (row["id"],))
    return Webhook(
        id=row["id"],
        invoice_id=row["invoice_id"],
        url=row["url"],
        status=row["status"],
        state=row["state"],
        attempts_left=row["attempts_left"],
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

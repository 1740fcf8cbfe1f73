"""The events of a payment: a code is sent, the payment succeeds, is declined, or expires.

Each function runs in the caller's transaction and also writes what follows: webhook, mail, saved card.
"""

import hashlib
import secrets
from datetime import datetime
from typing import Any

from sandbox import context
from sandbox.gateway import cards, invoices, mail_texts, mailbox, model, saved_cards, webhooks
from sandbox.gateway.model import Invoice, Status
from sandbox.store import Connection

NO_CODE: dict[str, Any] = {"otp_code": None, "otp_expires_at": None, "pending_decline": None}


def ask_for_code(connection: Connection, invoice: Invoice, *, decline: str | None, now: datetime) -> Invoice:
    """Send a new code and invalidate the old one."""
    code = f"{secrets.randbelow(10_000):04d}"
    moved = invoices.set_status(
        connection,
        invoice,
        Status.WAITING_FOR_OTP,
        cause="code sent",
        now=now,
        otp_code=code,
        otp_sent_at=now,
        otp_expires_at=now + model.OTP_LIFETIME,
        pending_decline=decline,
    )
    mailbox.write(
        connection,
        recipient=moved.email or "",
        text=mail_texts.otp(moved, code),
        kind="otp",
        code=code,
        invoice_id=moved.id,
        now=now,
    )
    return moved


def defer(connection: Connection, invoice: Invoice, *, decide_at: datetime, now: datetime) -> Invoice:
    """Leave the decision to the issuer, which answers later."""
    return invoices.set_status(
        connection, invoice, Status.PROCESSING, cause="issuer asked", now=now, decide_at=decide_at, **NO_CODE
    )


def succeed(connection: Connection, invoice: Invoice, *, cause: str, now: datetime) -> Invoice:
    """Take the money, or hold it if the shop captures manually."""
    columns: dict[str, Any] = {**NO_CODE, "decide_at": None, "error_code": None, "error_message": None}
    if invoice.manual_capture:
        moved = invoices.set_status(connection, invoice, Status.AUTHORIZED, cause=cause, now=now, **columns)
    else:
        moved = collect(connection, invoice, invoice.amount, cause=cause, now=now, **columns)
    saved_cards.save_card_of(connection, moved, now=now)
    return moved


def collect(
    connection: Connection, invoice: Invoice, amount: int, *, cause: str, now: datetime, **columns: Any
) -> Invoice:
    """Set a payment to paid; send the webhook and the receipt."""
    moved = invoices.set_status(
        connection, invoice, Status.PAID, cause=cause, now=now, captured=amount, paid_at=now, **columns
    )
    _enqueue_webhook(connection, moved, now)
    mailbox.write(
        connection,
        recipient=moved.email or "",
        text=mail_texts.receipt(moved),
        kind="receipt",
        invoice_id=moved.id,
        now=now,
    )
    return moved


def decline(connection: Connection, invoice: Invoice, code: str, *, now: datetime) -> Invoice:
    """Decline an attempt; this is final unless the script has steps left."""
    after = model.after_decline(invoice)
    columns = {**NO_CODE, "error_code": code, "error_message": cards.DECLINES[code]}
    moved = invoices.set_status(connection, invoice, after, cause=code, now=now, **columns)
    _enqueue_webhook(connection, moved, now)
    return moved


def expire(connection: Connection, invoice: Invoice, *, now: datetime) -> Invoice:
    """Expire a payment."""
    moved = invoices.set_status(connection, invoice, Status.EXPIRED, cause="time is over", now=now, **NO_CODE)
    _enqueue_webhook(connection, moved, now)
    return moved


def decide(connection: Connection, invoice: Invoice, *, now: datetime) -> Invoice:
    """Apply the issuer's answer if it is due."""
    if invoice.status is not Status.PROCESSING or invoice.decide_at is None or now < invoice.decide_at:
        return invoice
    return succeed(connection, invoice, cause="issuer answered", now=now)


def fingerprint(card_number: str) -> str | None:
    """Return a hash of a test card's number; None for any other number, of which only the mask is stored."""
    if not cards.is_test_card(card_number):
        return None
    return hashlib.sha256(card_number.encode()).hexdigest()


def _enqueue_webhook(connection: Connection, invoice: Invoice, now: datetime) -> None:
    webhooks.enqueue(connection, invoice, events=context.settings().announce, now=now)

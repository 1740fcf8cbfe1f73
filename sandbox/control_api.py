"""The sandbox's own JSON API under /sandbox/api/: scripts, captures, refunds, mails, webhooks, reset.

It is made for the tests of a shop.
"""

from datetime import datetime
from typing import Any

from flask import Blueprint, Response, jsonify, request

from sandbox import context, validation
from sandbox.errors import GatewayError
from sandbox.gateway import cards, checkout, mailbox, settlement
from sandbox.gateway.invoices import InvoiceFilter
from sandbox.gateway.mailbox import Mail
from sandbox.gateway.model import Invoice
from sandbox.gateway.webhooks import Webhook, WebhookAttempt, WebhookFilter

LIMIT_MAX = 1000

blueprint = Blueprint("control_api", __name__, url_prefix="/sandbox/api")


@blueprint.errorhandler(validation.Unprocessable)
def _unprocessable(error: validation.Unprocessable) -> tuple[Response, int]:
    return jsonify({"detail": error.problems}), 422


@blueprint.errorhandler(GatewayError)
def _refused(error: GatewayError) -> tuple[Response, int]:
    return jsonify(error.body()), error.status


@blueprint.get("/invoices")
def list_invoices() -> Response:
    """List payments, newest first; filters are `status`, `text` and `limit`."""
    shown = InvoiceFilter(status=request.args.get("status"), text=request.args.get("text"), limit=_limit())
    return jsonify({"items": [invoice_json(invoice) for invoice in checkout.list_invoices(shown)]})


@blueprint.get("/invoices/<payment_id>")
def show_invoice(payment_id: str) -> Response:
    """Show a payment with all its changes of state."""
    shown = invoice_json(checkout.invoice(payment_id))
    moves = [
        {"before": move.before, "after": move.after, "cause": move.cause, "at": _moment(move.moved_at)}
        for move in checkout.moves(payment_id)
    ]
    return jsonify({**shown, "moves": moves})


@blueprint.post("/invoices/<payment_id>/script")
def set_script(payment_id: str) -> Response:
    """Set the results of the next attempts: {"chain": "fail,fail,ok", "capture": "manual"}."""
    body = _object()
    capture = body.get("capture")
    if capture not in (None, "manual", "automatic"):
        raise GatewayError("UNUSABLE", 400, "capture is manual or automatic.", payment_id)
    manual = None if capture is None else capture == "manual"
    chain = validation.text_member(body, "chain") if "chain" in body or capture is None else ""
    return jsonify(invoice_json(settlement.set_script(payment_id, chain, manual_capture=manual)))


@blueprint.post("/invoices/<payment_id>/capture")
def capture(payment_id: str) -> Response:
    """Capture held money: {"amount": 100} or {}."""
    return jsonify(invoice_json(settlement.capture(payment_id, _amount(payment_id))))


@blueprint.post("/invoices/<payment_id>/cancel")
def cancel(payment_id: str) -> Response:
    """Cancel a payment: {}."""
    _object()
    return jsonify(invoice_json(settlement.cancel(payment_id)))


@blueprint.post("/invoices/<payment_id>/refund")
def refund(payment_id: str) -> Response:
    """Refund: {"amount": 100}, or {} for the rest; with an Idempotency-Key it is done once."""
    key = request.headers.get("Idempotency-Key") or None
    return jsonify(invoice_json(settlement.refund(payment_id, _amount(payment_id), idempotency_key=key)))


@blueprint.get("/invoices/<payment_id>/otp")
def show_code(payment_id: str) -> Response:
    """Show the code that a payment waits for, and when it expires."""
    otp = checkout.otp_status(payment_id)
    code = mailbox.newest_code(checkout.inbox(invoice_id=payment_id))
    return jsonify(
        {
            "otp_code": code,
            "expires_at": _moment(otp.expires_at),
            "attempts_left": otp.attempts_left,
            "resend_at": _moment(otp.resend_at),
        }
    )


@blueprint.post("/invoices/<payment_id>/otp/resend")
def resend_code(payment_id: str) -> Response:
    """Send another code: {}."""
    _object()
    otp = checkout.resend_otp(payment_id)
    return jsonify({"status": "sent", "resend_at": _moment(otp.resend_at), "attempts_left": otp.attempts_left})


@blueprint.get("/inbox")
def inbox() -> Response:
    """List mails, newest first; filters are `email`, `invoice` and `limit`."""
    mails = checkout.inbox(recipient=request.args.get("email"), invoice_id=request.args.get("invoice"), limit=_limit())
    return jsonify({"items": [mail_json(mail) for mail in mails]})


@blueprint.get("/webhooks")
def list_webhooks() -> Response:
    """List webhooks with every attempt, newest first; filters are `invoice`, `state` and `limit`."""
    shown = WebhookFilter(invoice_id=request.args.get("invoice"), state=request.args.get("state"), limit=_limit())
    return jsonify({"items": [webhook_json(webhook) for webhook in checkout.list_webhooks(shown)]})


@blueprint.post("/webhooks/<int:webhook_id>/resend")
def resend_webhook(webhook_id: int) -> tuple[Response, int]:
    """Send a webhook once more: {}."""
    _object()
    checkout.resend_webhook(webhook_id)
    return jsonify({"status": "queued"}), 202


@blueprint.get("/cards")
def list_cards() -> Response:
    """List the test cards and the steps of scripts."""
    table = [
        {
            "number": card.number,
            "network": card.network,
            "title": card.title,
            "otp": card.behaviour.otp,
            "error_code": card.behaviour.code,
        }
        for card in cards.TABLE
    ]
    return jsonify({"items": table, "steps": list(cards.STEPS)})


@blueprint.post("/reset")
def reset() -> Response:
    """Delete everything except the secret: {}."""
    _object()
    checkout.reset()
    return jsonify({"status": "reset"})


def invoice_json(invoice: Invoice) -> dict[str, Any]:
    """Return a payment as JSON; money in minor units."""
    return {
        "id": invoice.id,
        "status": invoice.status.value,
        "amount": invoice.amount,
        "captured": invoice.captured,
        "refunded": invoice.refunded,
        "currency": invoice.currency,
        "reference": invoice.reference,
        "webhook_url": invoice.webhook_url,
        "redirect_url": invoice.redirect_url,
        "error_code": invoice.error_code,
        "error_message": invoice.error_message,
        "card_mask": invoice.card_mask,
        "email": invoice.email,
        "attempts": invoice.attempts,
        "capture": "manual" if invoice.manual_capture else "automatic",
        "script": list(invoice.script),
        "script_position": invoice.script_position,
        "page_url": f"{context.settings().base_url}/checkout/{invoice.id}",
        "created_at": _moment(invoice.created_at),
        "expires_at": _moment(invoice.expires_at),
        "paid_at": invoice.paid_at and _moment(invoice.paid_at),
    }


def mail_json(mail: Mail) -> dict[str, Any]:
    """Return a mail as JSON."""
    return {
        "id": mail.id,
        "to": mail.recipient,
        "subject": mail.subject,
        "body": mail.body,
        "html": mail.html,
        "kind": mail.kind,
        "code": mail.code,
        "invoice_id": mail.invoice_id,
        "created_at": _moment(mail.created_at),
        "error": mail.error and mailbox.error_text(mail.error),
    }


def webhook_json(webhook: Webhook) -> dict[str, Any]:
    """Return a webhook with its attempts as JSON."""
    return {
        "id": webhook.id,
        "invoice_id": webhook.invoice_id,
        "url": webhook.url,
        "status": webhook.status,
        "state": webhook.state,
        "due_at": webhook.due_at and _moment(webhook.due_at),
        "created_at": _moment(webhook.created_at),
        "attempts": [_attempt_json(attempt) for attempt in webhook.attempts],
    }


def _attempt_json(attempt: WebhookAttempt) -> dict[str, Any]:
    return {
        "number": attempt.number,
        "body": attempt.body,
        "headers": dict(attempt.headers),
        "signature": attempt.signature,
        "answer_status": attempt.answer_status,
        "answer_body": attempt.answer_body,
        "error": attempt.error,
        "duration_ms": attempt.duration_ms,
        "succeeded": attempt.succeeded,
        "attempted_at": _moment(attempt.attempted_at),
    }


def _object() -> dict[str, Any]:
    """Parse a JSON object; required even if empty, because a page of another site cannot send this type."""
    if not request.is_json:
        raise GatewayError("UNUSABLE", 415, "Send a JSON object with Content-Type: application/json.")
    return validation.json_object(request.get_data())


def _amount(payment_id: str) -> int | None:
    amount = _object().get("amount")
    if amount is not None and (not isinstance(amount, int) or isinstance(amount, bool)):
        raise GatewayError("UNUSABLE", 400, "amount is a whole number of minor units.", payment_id)
    return amount


def _limit() -> int:
    text = request.args.get("limit", "100")
    if not (text.isascii() and text.isdigit() and len(text) < 7 and 1 <= int(text) <= LIMIT_MAX):
        raise GatewayError("UNUSABLE", 400, f"limit is a number from 1 to {LIMIT_MAX}.")
    return int(text)


def _moment(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")

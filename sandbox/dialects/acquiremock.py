"""The HTTP API of AcquireMock v2, with the paths of both of its versions.

A program gets the same answers as from upstream. A browser gets pages.
"""

import hmac
import json
import re
from datetime import timedelta
from typing import Any

from flask import Blueprint, Response, current_app, redirect, request, url_for
from werkzeug.wrappers import Response as BaseResponse

from sandbox import context, validation
from sandbox.errors import GatewayError
from sandbox.gateway import checkout, saved_cards, webhooks
from sandbox.gateway.model import CardForm, Invoice, Next
from sandbox.gateway.rates import Limiter
from sandbox.hooks import wants_page
from sandbox.pages import layout, payer

VERSION = "2.0.0"
EMAIL = re.compile(r"[^@\s\x00-\x1f\x7f]{1,64}@[^@\s\x00-\x1f\x7f]{1,190}")
EMAIL_COOKIE, SESSION_COOKIE = "user_email", "sandbox_session"
REMEMBERED = timedelta(days=30)
KEY_CHARACTERS_MAX = 255
LIMITER, CODES_LIMITER = "sandbox-limiter", "sandbox-codes-limiter"

blueprint = Blueprint("acquiremock", __name__)

Answer = BaseResponse


@blueprint.record
def _make_limiters(state: Any) -> None:
    for name in (LIMITER, CODES_LIMITER):
        state.app.extensions[name] = Limiter(state.app.extensions["sandbox"].settings.pay_per_minute)


@blueprint.errorhandler(validation.Unprocessable)
def _unprocessable(error: validation.Unprocessable) -> Answer:
    if wants_page():
        return Response(payer.render_status(422), 422)
    return _json({"detail": error.problems}, 422)


@blueprint.post("/api/create-invoice")
def create_invoice() -> Answer:
    """Create a payment."""
    created = validation.read_invoice(request.get_data())
    invoice = checkout.create_invoice(
        amount=created.amount,
        reference=created.reference,
        webhook_url=created.webhook_url,
        redirect_url=created.redirect_url,
    )
    return _json({"pageUrl": f"{context.settings().base_url}/checkout/{invoice.id}"})


@blueprint.get("/checkout/<payment_id>")
def show_checkout(payment_id: str) -> Answer:
    """Show the card form with a CSRF token."""
    invoice = checkout.open_checkout(payment_id)
    email = request.cookies.get(EMAIL_COOKIE, "")
    email = email if EMAIL.fullmatch(email) else ""
    saved = checkout.list_saved_cards(email, request.cookies.get(SESSION_COOKIE))
    return Response(payer.render_checkout(invoice, layout.form_token(), email=email, saved=saved))


@blueprint.post("/pay/<payment_id>")
@blueprint.post("/api/pay/<payment_id>")
def pay(payment_id: str) -> Answer:
    """Try a card."""
    if refused := _too_many(LIMITER):
        return refused
    _check_token(payment_id)
    form = _card_form()
    result = checkout.pay(
        payment_id,
        form,
        browser=layout.form_token(),
        idempotency_key=_idempotency_key(),
        session=request.cookies.get(SESSION_COOKIE),
    )
    if result.next is Next.OTP:
        return redirect(url_for("acquiremock.show_otp", payment_id=result.invoice.id), 303)
    # Only what this browser has sent itself: a repeat may get the result of another attempt.
    email = saved_cards.normalize_email(form.email)
    return _to_success(result.invoice, email if email == result.invoice.email else None)


@blueprint.get("/otp/<payment_id>")
def show_otp(payment_id: str) -> Answer:
    """Show the form for the code."""
    otp, invoice = checkout.otp_status(payment_id), checkout.invoice(payment_id)
    sent_again = request.args.get("sent") == "again"
    return Response(payer.render_otp(invoice, otp, layout.form_token(), sent_again=sent_again))


@blueprint.post("/otp/verify/<payment_id>")
def verify_otp(payment_id: str) -> Answer:
    """Check the code."""
    invoice, session = checkout.verify_otp(payment_id, _field("otp_code"), request.cookies.get(SESSION_COOKIE))
    response = _to_success(invoice, invoice.email)
    if session:
        _set_cookie(response, SESSION_COOKIE, session, REMEMBERED)
    return response


@blueprint.get("/success/<payment_id>")
def show_success(payment_id: str) -> Answer:
    """Show the result of a payment; in any state, as upstream does."""
    return Response(payer.render_success(checkout.settle_undecided(payment_id)))


@blueprint.post("/webhooks/verify")
def verify_webhook() -> Answer:
    """Answer whether a signature is valid for a JSON object, as upstream computes it."""
    given = request.headers.get("X-Signature")
    if not given:
        return _json({"detail": "Missing signature"}, 400)
    expected = webhooks.signature_of(validation.json_object(request.get_data()), context.webhook_secret())
    return _json({"valid": hmac.compare_digest(expected.encode(), given.encode())})


@blueprint.post("/api/auth/send-code")
def send_code() -> Answer:
    """Mail a code that verifies an e-mail address."""
    email = _email_in(validation.json_object(request.get_data()))
    if refused := _too_many(CODES_LIMITER):
        return refused
    saved_cards.send_code(email, layout.current_language().code)
    return _json({"status": "sent", "message": "Code sent"})


@blueprint.post("/api/auth/verify-code")
def verify_code() -> Answer:
    """Start a session in which an e-mail address is verified."""
    body = validation.json_object(request.get_data())
    email, code = _email_in(body), validation.text_member(body, "code")
    try:
        session = saved_cards.verify_code(email, code, request.cookies.get(SESSION_COOKIE))
    except LookupError:
        return _json({"detail": "Code expired or not found"}, 400)
    if session is None:
        return _json({"detail": "Invalid code"}, 400)
    response = _json({"status": "ok", "message": "Verified"})
    _set_cookie(response, SESSION_COOKIE, session, REMEMBERED)
    _set_cookie(response, EMAIL_COOKIE, saved_cards.normalize_email(email), REMEMBERED)
    return response


@blueprint.get("/api/user-info")
def user_info() -> Answer:
    """List cards and payments of an e-mail address; nothing unless this browser has verified it."""
    if "email" not in request.args:
        raise validation.missing_field("query", "email")
    email, session = request.args["email"], request.cookies.get(SESSION_COOKIE)
    return _json(
        {
            "operations": [_operation(invoice) for invoice in checkout.operations(email, session)],
            "cards": [
                {"id": card.id, "mask": card.mask, "expiry": card.expiry}
                for card in checkout.list_saved_cards(email, session)
            ],
        }
    )


@blueprint.get("/health")
def health() -> Answer:
    """Answer that the sandbox is running."""
    return _json(
        {
            "status": "ok",
            "timestamp": context.now().replace(tzinfo=None).isoformat(),
            "version": VERSION,
            "currency": context.settings().currency.code,
        }
    )


def _operation(invoice: Invoice) -> dict[str, Any]:
    assert invoice.paid_at is not None  # only paid payments are listed
    return {
        "reference": webhooks.escaped_reference(invoice.reference),
        "amount": float(invoice.amount) if context.settings().amount_form == "float" else invoice.amount,
        "card_mask": invoice.card_mask,
        "date": invoice.paid_at.strftime("%Y-%m-%d %H:%M"),
    }


def _too_many(name: str) -> Answer | None:
    """Count a call of this client; return the answer if it was one too many."""
    limiter: Limiter = current_app.extensions[name]
    if limiter.allows(request.remote_addr or "", context.now()):
        return None
    return Response(payer.render_status(429), 429) if wants_page() else _json({"error": limiter.message()}, 429)


def _check_token(payment_id: str) -> None:
    """Refuse a form without this browser's CSRF token; checked before everything else, as upstream does."""
    try:
        layout.check_token()
    except GatewayError as error:
        raise GatewayError(error.code, error.status, payment_id=payment_id) from None


def _card_form() -> CardForm:
    email = _field("email")
    if not EMAIL.fullmatch(email.strip()):
        raise validation.invalid_field("body", "email", "This is not an e-mail address", email)
    return CardForm(
        number=request.form.get("card_number", "")[:40],
        expiry=request.form.get("expiry", ""),
        cvv=request.form.get("cvv", ""),
        email=email,
        saved_card_id=_saved_card_id(),
        save_card=request.form.get("save_card", "").lower() == "true",
        language=layout.current_language().code,
    )


def _saved_card_id() -> int | None:
    given = request.form.get("saved_card_id", "")
    if not given:
        return None
    if not (given.isascii() and given.isdigit() and len(given) < 18):
        message = "Input should be a valid integer, unable to parse string as an integer"
        raise validation.invalid_field("body", "saved_card_id", message, given)
    return int(given)


def _field(name: str) -> str:
    if name not in request.form:
        raise validation.missing_field("body", name)
    return request.form[name]


def _email_in(body: dict[str, Any]) -> str:
    email = validation.text_member(body, "email").strip()
    if not EMAIL.fullmatch(email):
        raise validation.invalid_field("body", "email", "This is not an e-mail address", email)
    return email


def _idempotency_key() -> str | None:
    key = request.headers.get("Idempotency-Key", "").strip()
    return key[:KEY_CHARACTERS_MAX] or None


def _to_success(invoice: Invoice, email: str | None) -> Answer:
    """Redirect a payer; set the cookie that prefills the e-mail field next time and grants no access."""
    response = redirect(url_for("acquiremock.show_success", payment_id=invoice.id), 303)
    if email:
        _set_cookie(response, EMAIL_COOKIE, email, REMEMBERED)
    return response


def _json(members: dict[str, Any], status: int = 200) -> Answer:
    return current_app.response_class(json.dumps(members), status, content_type="application/json")


def _set_cookie(response: BaseResponse, name: str, value: str, lifetime: timedelta | None = None) -> None:
    # Lax, not Strict: a payer comes from the shop's page and must keep the token of other tabs.
    is_https = context.settings().is_https
    response.set_cookie(name, value, max_age=lifetime, httponly=True, secure=is_https, samesite="Lax")

"""What a payer sees: checkout, code, outcome, and every error as a page with a way on; render_…() for the wire's doors.

Called by wire.py and by create_app()'s error handling. Decides nothing about a payment and writes no table.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flask import redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from sandbox import context
from sandbox.errors import GatewayError
from sandbox.gateway import cards, checkout
from sandbox.gateway.model import Invoice, OtpStatus, SavedCard, Status
from sandbox.pages import dashboard, layout
from sandbox.pages.layout import blueprint, speech

__all__ = ["blueprint", "dashboard"]

OTP_DIGITS = 4
TRIED_FIRST = (
    "4444444444444444",
    "5555555555554444",
    "4562265587712390",
    "5555555555554592",
    "4000000000000051",
    "4000000000000077",
)
"""The cards that the checkout page itself offers; all of them are on a page of their own."""


@dataclass(frozen=True, kw_only=True)
class Way:
    """A link out of a page that ends something."""

    text: str
    url: str
    outside: bool = False


ENDS: Mapping[Status, tuple[str, str]] = {
    Status.PENDING: ("calm", "pending"),
    Status.WAITING_FOR_OTP: ("calm", "pending"),
    Status.PROCESSING: ("late", "processing"),
    Status.AUTHORIZED: ("good", "held"),
    Status.PAID: ("good", "success"),
    Status.PARTIALLY_REFUNDED: ("calm", "partly"),
    Status.REFUNDED: ("calm", "refunded"),
    Status.FAILED: ("bad", "failure"),
    Status.EXPIRED: ("late", "expired"),
    Status.CANCELED: ("calm", "canceled"),
}
"""How a page about a payment in each state looks, and which words it says."""

WRONGS: Mapping[str, str] = {
    "PAYMENT_NOT_FOUND": "missing",
    "CSRF_TOKEN_MISMATCH": "stale",
    "SAVED_CARD_NOT_FOUND": "card_gone",
    "ISSUER_TIMEOUT": "late",
    "CROSS_SITE": "stranger",
    "LOOPBACK_ONLY": "stranger",
    "NOT_FOUND": "nowhere",
}
STATUSES: Mapping[int, str] = {403: "stranger", 404: "nowhere", 405: "nowhere", 429: "busy"}
OTP_PROBLEMS: Mapping[str | None, str] = {"wrong": "otp.wrong", "expired": "otp.stale"}


def render_checkout(
    invoice: Invoice, csrf_token: str, *, email: str = "", saved: Sequence[SavedCard] = (), problem: str | None = None
) -> str:
    """Render the card form of a payment that can be paid now."""
    return render_template(
        "checkout.html",
        invoice=invoice,
        csrf_token=csrf_token,
        shop=layout.shop_of(invoice),
        seconds_left=_seconds_until(invoice.expires_at),
        here=_checkout_url(invoice.id),
        pay_url=f"/api/pay/{invoice.id}",
        email=email,
        cards=saved,
        problem_text=problem,
        odd_numbers=[card.number for card in cards.TABLE if not passes_luhn(card.number)],
        test_cards=[layout.card_words(card) for card in cards.TABLE if card.number in TRIED_FIRST],
    )


def render_otp(
    invoice: Invoice, status: OtpStatus, csrf_token: str, *, problem: str | None = None, sent_again: bool = False
) -> str:
    """Render the form for the code."""
    return render_template(
        "otp.html",
        invoice=invoice,
        status=status,
        csrf_token=csrf_token,
        shop=layout.shop_of(invoice),
        seconds_left=_seconds_until(status.expires_at),
        wait_seconds=_seconds_until(status.resend_at),
        sent_to=status.email,
        here=_otp_url(invoice.id),
        verify_url=f"/otp/verify/{invoice.id}",
        resend_url=url_for("pages.resend_otp", payment_id=invoice.id),
        inbox_url=url_for("pages.inbox", invoice=invoice.id),
        digits=OTP_DIGITS,
        problem_text=problem,
        sent_again=sent_again,
    )


def render_outcome(invoice: Invoice) -> str:
    """Render the page that says how a payment stands, whatever its state."""
    tone, words = ENDS[invoice.status]
    if invoice.status is Status.PENDING and invoice.error_code:
        tone, words = "bad", "failure"
    title, text = speech()(f"{words}.title"), _outcome_text(invoice, words)
    return _end(tone, title, text, invoice=invoice, ways=_ways(invoice), look=_look(invoice))


render_success = render_failure = render_expired = render_outcome
"""Upstream shows its success page in any state, and so what it says is taken from the state."""


def render_error(error: GatewayError) -> str:
    """Render a refusal as the page that helps most: the form again and what is wrong in it, or what has happened."""
    invoice = _invoice_of(error)
    if invoice is not None:
        if error.code in ("INVALID_OTP", "TOO_SOON") and invoice.status is Status.WAITING_FOR_OTP:
            return _otp_again(invoice, error)
        if error.reason == "declined" or error.code in ("PAYMENT_EXPIRED", "INVALID_OTP"):
            return render_outcome(invoice)
        if error.code in ("PAYMENT_ALREADY_PROCESSED", "PAYMENT_NOT_FOUND"):
            return _already(invoice, error.code)
    words = WRONGS.get(error.code) or STATUSES.get(error.status) or ("broken" if error.status >= 500 else "unusable")
    return _wrong(words, code=error.code, invoice=invoice)


def render_status(status: int) -> str:
    """Render an HTTP error that is none of the gateway's own."""
    words = STATUSES.get(status) or ("broken" if status >= 500 else "unusable")
    # After a fault of ours the database is not asked again: it may be what failed.
    invoice = _find((request.view_args or {}).get("payment_id")) if status < 500 else None
    return _wrong(words, code=str(status), invoice=invoice)


@blueprint.get("/failure/<payment_id>", endpoint="failure")
@blueprint.get("/expired/<payment_id>", endpoint="expired")
def outcome(payment_id: str) -> str:
    """Show how a payment stands; upstream has no such addresses, only its success page."""
    return render_outcome(checkout.settle_undecided(payment_id))


@blueprint.post("/otp/resend/<payment_id>")
def resend_otp(payment_id: str) -> Response:
    """Send a new code and go back to the form."""
    layout.check_token()
    checkout.resend_otp(payment_id)
    return redirect(f"{_otp_url(payment_id)}?sent=again", 303)


def passes_luhn(number: str) -> bool:
    """Tell whether a card number has the right check digit; a browser complains of those that have not."""
    digits = [int(digit) for digit in reversed(number)]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[1::2]]
    return (sum(digits[::2]) + sum(doubled)) % 10 == 0


def _otp_again(invoice: Invoice, error: GatewayError) -> str:
    key = "otp.too_soon" if error.code == "TOO_SOON" else OTP_PROBLEMS.get(error.reason, "otp.wrong")
    status = checkout.otp_status(invoice.id)
    return render_otp(invoice, status, layout.form_token(), problem=speech()(key))


def _already(invoice: Invoice, code: str) -> str:
    """Say to whom comes late, by the back button or in a second tab, what has become of the payment."""
    if invoice.is_payable or invoice.status is Status.PROCESSING:
        return render_outcome(invoice)
    words, tone = ("done", "good") if invoice.has_succeeded else ("ended", "calm")
    ways = [Way(text=speech()("way.result"), url=_success_url(invoice.id)), *_to_shop(invoice)]
    # Upstream says "not found" for a code page that comes too late, which would only puzzle a person.
    said = None if code == "PAYMENT_NOT_FOUND" else code
    return _end(tone, speech()(f"{words}.title"), speech()(f"{words}.text"), invoice=invoice, ways=ways, code=said)


def _wrong(words: str, *, code: str, invoice: Invoice | None = None) -> str:
    ways = _ways(invoice) if invoice else [Way(text=speech()("way.invoices"), url=url_for("pages.invoices"))]
    tone = {"late": "late", "busy": "late"}.get(words, "calm")
    title, text = speech()(f"{words}.title"), speech()(f"{words}.text")
    return _end(tone, title, text, ways=ways, code=code, invoice=invoice, look=_look(invoice))


def _end(tone: str, title: str, text: str, **values: Any) -> str:
    invoice: Invoice | None = values.get("invoice")
    # A page that answers a POST is found again, in another language, where its payment is.
    here = _success_url(invoice.id) if invoice and request.method == "POST" else ""
    return render_template("outcome.html", tone=tone, title=title, text=text, here=here, **values)


def _outcome_text(invoice: Invoice, words: str) -> str:
    if words != "failure":
        return speech()(f"{words}.text")
    reason = speech().perhaps(f"reason.{(invoice.error_code or '').lower()}", speech()("reason.other"))
    return speech()("failure.more" if invoice.is_payable else "failure.text", reason=reason)


def _ways(invoice: Invoice) -> list[Way]:
    """Return the ways out of a page about a payment, the best first."""
    say = speech()
    ways = []
    if invoice.status is Status.PENDING:
        key = "way.again" if invoice.error_code else "way.checkout"
        ways.append(Way(text=say(key), url=_checkout_url(invoice.id)))
    elif invoice.status is Status.WAITING_FOR_OTP:
        ways.append(Way(text=say("way.confirm"), url=_otp_url(invoice.id)))
    elif invoice.status is Status.PROCESSING:
        ways.append(Way(text=say("way.look"), url=_success_url(invoice.id)))
    return [*ways, *_to_shop(invoice)]


def _to_shop(invoice: Invoice) -> list[Way]:
    shop = layout.shop_of(invoice)
    return [Way(text=speech()("way.shop"), url=shop.url, outside=True)] if shop.url else []


def _look(invoice: Invoice | None) -> str | None:
    """Return where a browser looks again by itself, while a payment is being decided."""
    return _success_url(invoice.id) if invoice and invoice.status is Status.PROCESSING else None


def _invoice_of(error: GatewayError) -> Invoice | None:
    return _find(error.payment_id or (request.view_args or {}).get("payment_id"))


def _find(payment_id: object) -> Invoice | None:
    if not isinstance(payment_id, str):
        return None
    try:
        return checkout.invoice(payment_id)
    except GatewayError:
        return None


def _seconds_until(moment: Any) -> int:
    return 0 if moment is None else max(0, round((moment - context.now()).total_seconds()))


def _checkout_url(payment_id: str) -> str:
    return f"/checkout/{payment_id}"


def _otp_url(payment_id: str) -> str:
    return f"/otp/{payment_id}"


def _success_url(payment_id: str) -> str:
    return f"/success/{payment_id}"

"""The payer's pages: checkout, code, result, and errors with links to go on.

The dialects and the error handlers call the render functions.
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
from sandbox.pages.layout import blueprint, current_language, translate

__all__ = ["blueprint", "dashboard"]

OTP_DIGITS = 4
SUGGESTED_CARDS = (
    "4444444444444444",
    "5555555555554444",
    "4562265587712390",
    "5555555555554592",
    "4000000000000051",
    "4000000000000077",
)
"""The cards that the checkout page offers; the page of test cards lists all."""


@dataclass(frozen=True, kw_only=True)
class Link:
    """A link at the end of a page."""

    text: str
    url: str
    outside: bool = False


OUTCOMES: Mapping[Status, tuple[str, str]] = {
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
"""The tone and the translation key of the page for each state."""

ERROR_WORDS: Mapping[str, str] = {
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
        pay_url=url_for("acquiremock.pay", payment_id=invoice.id),
        email=email,
        cards=saved,
        problem_text=problem,
        odd_numbers=[card.number for card in cards.TABLE if not passes_luhn(card.number)],
        test_cards=[layout.card_words(card) for card in cards.TABLE if card.number in SUGGESTED_CARDS],
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
        verify_url=url_for("acquiremock.verify_otp", payment_id=invoice.id),
        resend_url=url_for("pages.resend_otp", payment_id=invoice.id),
        inbox_url=url_for("pages.inbox", invoice=invoice.id),
        digits=OTP_DIGITS,
        problem_text=problem,
        sent_again=sent_again,
    )


def render_outcome(invoice: Invoice) -> str:
    """Render the page with the state of a payment."""
    tone, words = OUTCOMES[invoice.status]
    if invoice.status is Status.PENDING and invoice.error_code:
        tone, words = "bad", "failure"
    title, text = translate(f"{words}.title"), _outcome_text(invoice, words)
    return _render_outcome_page(
        tone, title, text, invoice=invoice, links=_links(invoice), refresh_url=_refresh_url(invoice)
    )


render_success = render_failure = render_expired = render_outcome
"""Upstream shows its success page in any state, so the text depends on the state."""


def render_error(error: GatewayError) -> str:
    """Render an error as a page: the form again with the problem, or the state of the payment."""
    invoice = _invoice_of(error)
    if invoice is not None:
        if error.code in ("INVALID_OTP", "TOO_SOON") and invoice.status is Status.WAITING_FOR_OTP:
            return _render_otp_again(invoice, error)
        if error.reason == "declined" or error.code in ("PAYMENT_EXPIRED", "INVALID_OTP"):
            return render_outcome(invoice)
        if error.code in ("PAYMENT_ALREADY_PROCESSED", "PAYMENT_NOT_FOUND"):
            return _render_already_processed(invoice, error.code)
    words = (
        ERROR_WORDS.get(error.code) or STATUSES.get(error.status) or ("broken" if error.status >= 500 else "unusable")
    )
    return _render_problem(words, code=error.code, invoice=invoice)


def render_status(status: int) -> str:
    """Render an HTTP error other than a GatewayError."""
    words = STATUSES.get(status) or ("broken" if status >= 500 else "unusable")
    # After an internal error the database is not used: it may be the cause.
    invoice = _find((request.view_args or {}).get("payment_id")) if status < 500 else None
    return _render_problem(words, code=str(status), invoice=invoice)


@blueprint.get("/failure/<payment_id>", endpoint="failure")
@blueprint.get("/expired/<payment_id>", endpoint="expired")
def outcome(payment_id: str) -> str:
    """Show the state of a payment; upstream has only its success page."""
    return render_outcome(checkout.settle_undecided(payment_id))


@blueprint.post("/otp/resend/<payment_id>")
def resend_otp(payment_id: str) -> Response:
    """Send a new code and redirect to the form."""
    layout.check_token()
    checkout.resend_otp(payment_id)
    return redirect(f"{_otp_url(payment_id)}?sent=again", 303)


def passes_luhn(number: str) -> bool:
    """Return whether a card number has a valid check digit; the script refuses other numbers."""
    digits = [int(digit) for digit in reversed(number)]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[1::2]]
    return (sum(digits[::2]) + sum(doubled)) % 10 == 0


def _render_otp_again(invoice: Invoice, error: GatewayError) -> str:
    key = "otp.too_soon" if error.code == "TOO_SOON" else OTP_PROBLEMS.get(error.reason, "otp.wrong")
    status = checkout.otp_status(invoice.id)
    return render_otp(invoice, status, layout.form_token(), problem=translate(key))


def _render_already_processed(invoice: Invoice, code: str) -> str:
    """Render the result for a payer who comes too late, by the back button or in a second tab."""
    if invoice.is_payable or invoice.status is Status.PROCESSING:
        return render_outcome(invoice)
    words, tone = ("done", "good") if invoice.has_succeeded else ("ended", "calm")
    links = [Link(text=translate("link.result"), url=_success_url(invoice.id)), *_shop_links(invoice)]
    # Upstream answers "not found" for a late code page. That would confuse a person.
    shown_code = None if code == "PAYMENT_NOT_FOUND" else code
    return _render_outcome_page(
        tone,
        translate(f"{words}.title"),
        translate(f"{words}.text"),
        invoice=invoice,
        links=links,
        code=shown_code,
    )


def _render_problem(words: str, *, code: str, invoice: Invoice | None = None) -> str:
    links = _links(invoice) if invoice else [Link(text=translate("link.invoices"), url=url_for("pages.invoices"))]
    tone = {"late": "late", "busy": "late"}.get(words, "calm")
    title, text = translate(f"{words}.title"), translate(f"{words}.text")
    return _render_outcome_page(
        tone, title, text, links=links, code=code, invoice=invoice, refresh_url=_refresh_url(invoice)
    )


def _render_outcome_page(tone: str, title: str, text: str, **values: Any) -> str:
    invoice: Invoice | None = values.get("invoice")
    # The language links of an answer to a POST lead to the page of the payment.
    here = _success_url(invoice.id) if invoice and request.method == "POST" else ""
    return render_template("outcome.html", tone=tone, title=title, text=text, here=here, **values)


def _outcome_text(invoice: Invoice, words: str) -> str:
    if words != "failure":
        return translate(f"{words}.text")
    reason = current_language().get(f"reason.{(invoice.error_code or '').lower()}", translate("reason.other"))
    return translate("failure.more" if invoice.is_payable else "failure.text", reason=reason)


def _links(invoice: Invoice) -> list[Link]:
    """Return the links of a page about a payment, the most useful first."""
    links = []
    if invoice.status is Status.PENDING:
        key = "link.again" if invoice.error_code else "link.checkout"
        links.append(Link(text=translate(key), url=_checkout_url(invoice.id)))
    elif invoice.status is Status.WAITING_FOR_OTP:
        links.append(Link(text=translate("link.confirm"), url=_otp_url(invoice.id)))
    elif invoice.status is Status.PROCESSING:
        links.append(Link(text=translate("link.refresh"), url=_success_url(invoice.id)))
    return [*links, *_shop_links(invoice)]


def _shop_links(invoice: Invoice) -> list[Link]:
    shop = layout.shop_of(invoice)
    return [Link(text=translate("link.shop"), url=shop.url, outside=True)] if shop.url else []


def _refresh_url(invoice: Invoice | None) -> str | None:
    """Return the address that the browser reloads while a payment is being decided."""
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
    return url_for("acquiremock.show_checkout", payment_id=payment_id)


def _otp_url(payment_id: str) -> str:
    return url_for("acquiremock.show_otp", payment_id=payment_id)


def _success_url(payment_id: str) -> str:
    return url_for("acquiremock.show_success", payment_id=payment_id)

"""The dashboard: payments, webhooks, mails, test cards, code for signatures, reset.

Its views belong to the same blueprint as the payer's pages.
"""

from pathlib import Path

from flask import Response as WebResponse
from flask import redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from sandbox import context
from sandbox.gateway import cards as test_cards
from sandbox.gateway import checkout, mailbox
from sandbox.gateway.invoices import InvoiceFilter
from sandbox.gateway.model import AMOUNT_MAX, Status
from sandbox.gateway.webhooks import WebhookFilter
from sandbox.pages import layout
from sandbox.pages.layout import blueprint, translate

SNIPPETS = Path(__file__).resolve().parents[1] / "snippets"
SNIPPET_FILES = (
    ("Python", "verify.py.txt"),
    ("Shell", "verify.sh.txt"),
    ("Node.js", "verify.js.txt"),
    ("PHP", "verify.php.txt"),
)
"""Code to copy, one file per language; the tests run it as the page shows it."""

MAIL_POLICY = "default-src 'none'; style-src 'unsafe-inline'; sandbox; frame-ancestors 'self'"
"""Mails have their style within them, as mail programs demand."""

DELIVERY_STATES = ("pending", "delivered", "failed")
SHOWN_MAX = 50
"""The maximum number of rows in a list; the filter finds older ones."""

REFERENCE_CHARACTERS_MAX = 200


@blueprint.get("/")
def invoices() -> str:
    """List payments."""
    status, text = request.args.get("status", ""), request.args.get("text", "").strip()
    shown = InvoiceFilter(status=status or None, text=text or None, limit=SHOWN_MAX)
    return render_template(
        "invoices.html",
        rows=checkout.list_invoices(shown),
        statuses=[status.value for status in Status],
        status=status,
        text=text,
        was_reset="reset" in request.args,
    )


@blueprint.get("/merchant/dashboard")
@blueprint.get("/merchant/login")
def old_dashboard() -> Response:
    """Redirect from upstream's addresses to the dashboard."""
    return redirect(url_for("pages.invoices"), 302)


@blueprint.get("/sandbox/invoices/<uuid:payment_id>")
def invoice(payment_id: object) -> str:
    """Show a payment, its moves, and its webhooks with every attempt."""
    found = checkout.invoice(str(payment_id))
    return render_template(
        "invoice.html",
        invoice=found,
        shop=layout.shop_of(found),
        moves=checkout.moves(found.id),
        webhooks=checkout.list_webhooks(WebhookFilter(invoice_id=found.id)),
        resent=request.args.get("resent", ""),
    )


@blueprint.get("/sandbox/webhooks")
def webhooks() -> str:
    """List webhooks."""
    state = request.args.get("state", "")
    rows = checkout.list_webhooks(WebhookFilter(state=state or None, limit=SHOWN_MAX))
    return render_template("webhooks.html", rows=rows, states=DELIVERY_STATES, selected_state=state)


@blueprint.post("/sandbox/invoices/<uuid:payment_id>/webhooks/<int:webhook_id>/resend")
def resend_webhook(payment_id: object, webhook_id: int) -> Response:
    """Send a webhook once more."""
    layout.check_token()
    checkout.resend_webhook(webhook_id)
    place = url_for("pages.invoice", payment_id=payment_id, resent=webhook_id, _anchor=f"webhook-{webhook_id}")
    return redirect(place, 303)


@blueprint.get("/sandbox/inbox")
def inbox() -> str:
    """Show the mails, of one payment or all."""
    payment_id = request.args.get("invoice", "")
    mails = checkout.inbox(invoice_id=payment_id or None, limit=SHOWN_MAX)
    limits = {"to_one": mailbox.SENT_TO_ONE_PER_HOUR_MAX, "in_all": mailbox.SENT_PER_HOUR_MAX}
    return render_template("inbox.html", mails=mails, payment_id=payment_id, too_many=mailbox.TOO_MANY, limits=limits)


@blueprint.get("/sandbox/inbox/<int:mail_id>")
def mail_html(mail_id: int) -> Response:
    """Show the HTML of a mail within the inbox; it can run nothing, load nothing and reach nothing around it."""
    response = WebResponse(checkout.mail(mail_id).html, mimetype="text/html")
    response.headers["Content-Security-Policy"] = MAIL_POLICY
    response.headers["X-Frame-Options"] = "SAMEORIGIN"
    return response


@blueprint.get("/sandbox/cards")
def cards() -> str:
    """Show every test card."""
    return render_template("cards.html", rows=[layout.card_words(card) for card in test_cards.TABLE])


@blueprint.get("/sandbox/verify")
def verify() -> str:
    """Show code that verifies a signature, and the secret for it."""
    snippets = [(language, (SNIPPETS / name).read_text(encoding="utf-8")) for language, name in SNIPPET_FILES]
    # Whoever knows the secret can sign. A public sandbox does not show it.
    secret = None if context.settings().public else context.webhook_secret()
    return render_template("verify.html", snippets=snippets, secret=secret)


@blueprint.get("/test")
def new_invoice() -> str:
    """Show the form for a payment without a shop."""
    # Without a shop nobody listens for webhooks, and the payer comes back to the dashboard.
    own = f"{context.settings().base_url}/"
    return _form({"amount": "25000", "reference": "ORDER-123", "webhook_url": "", "redirect_url": own})


@blueprint.post("/test")
def make_invoice() -> Response | tuple[str, int]:
    """Create a payment as a shop would, and redirect to its checkout."""
    layout.check_token()
    given = {
        name: request.form.get(name, "").strip() for name in ("amount", "reference", "webhook_url", "redirect_url")
    }
    amount = _amount(given["amount"])
    reference = given["reference"]
    usable = 0 < len(reference) <= REFERENCE_CHARACTERS_MAX and reference.isprintable()
    addresses = [given["redirect_url"], *filter(None, [given["webhook_url"]])]
    if amount is None or not usable or not all(map(layout.host_of, addresses)):
        return _form(given, problem=translate("try.bad")), 400
    created = checkout.create_invoice(
        amount=amount,
        reference=reference,
        webhook_url=given["webhook_url"],
        redirect_url=given["redirect_url"],
    )
    return redirect(url_for("acquiremock.show_checkout", payment_id=created.id), 303)


@blueprint.get("/sandbox/reset")
def ask_reset() -> str:
    """Ask before everything is deleted."""
    return render_template("reset.html")


@blueprint.post("/sandbox/reset")
def reset() -> Response:
    """Delete every payment, webhook and mail."""
    layout.check_token()
    checkout.reset()
    return redirect(url_for("pages.invoices", reset="done"), 303)


def _form(given: dict[str, str], problem: str | None = None) -> str:
    return render_template(
        "try.html",
        given=given,
        problem_text=problem,
        here=url_for("pages.new_invoice"),
        currency=context.settings().currency.code,
    )


def _amount(text: str) -> int | None:
    is_whole = text.isascii() and text.isdigit() and len(text) <= len(str(AMOUNT_MAX))
    return int(text) if is_whole and 0 < int(text) <= AMOUNT_MAX else None

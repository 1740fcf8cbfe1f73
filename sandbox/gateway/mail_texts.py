"""The subject of each mail, its text and its HTML, in the payer's language."""

from dataclasses import dataclass
from datetime import timedelta

from flask import current_app

from sandbox.gateway.model import OTP_LIFETIME, Invoice
from sandbox.pages.languages import DEFAULT, Language, get_language

SUBJECT_CHARACTERS_MAX = 200


@dataclass(frozen=True, kw_only=True)
class MailText:
    """A mail without its addresses."""

    subject: str
    body: str
    html: str


def otp(invoice: Invoice, code: str) -> MailText:
    """Return the mail with the code of a payment."""
    t = get_language(invoice.language or DEFAULT)
    amount = _amount(t, invoice.amount, invoice.currency)
    body = t("mail.otp_body", amount=amount, code=code, minutes=_minutes(OTP_LIFETIME))
    return _mail(t, t("mail.code_subject", code=code), body, code)


def email_code(language: str, code: str, lifetime: timedelta) -> MailText:
    """Return the mail with the code that verifies an e-mail address."""
    t = get_language(language)
    body = t("mail.email_code_body", code=code, minutes=_minutes(lifetime))
    return _mail(t, t("mail.code_subject", code=code), body, code)


def receipt(invoice: Invoice) -> MailText:
    """Return the receipt of a paid invoice."""
    t = get_language(invoice.language or DEFAULT)
    subject = t("mail.receipt_subject", reference=invoice.reference)[:SUBJECT_CHARACTERS_MAX]
    body = t(
        "mail.receipt_body",
        amount=_amount(t, invoice.captured, invoice.currency),
        card=invoice.card_mask or "-",
        reference=invoice.reference,
        payment=invoice.id,
    )
    return _mail(t, subject.replace("\n", " ").replace("\r", " "), body)


def _mail(t: Language, subject: str, body: str, code: str | None = None) -> MailText:
    # Rendered without what pages get from their request: the worker writes mails, too.
    template = current_app.jinja_env.get_template("mail.html")
    lines = [line for line in body.splitlines() if line.strip()]
    html = template.render(language=t.code, subject=subject, lines=lines, code=code)
    return MailText(subject=subject, body=body, html=html)


def _amount(t: Language, minor: int, currency: str) -> str:
    # The code of the currency, because plain text may be read without a font for every symbol.
    return t.money(minor, currency, currency).replace("\N{NO-BREAK SPACE}", " ")


def _minutes(span: timedelta) -> int:
    return span.seconds // 60

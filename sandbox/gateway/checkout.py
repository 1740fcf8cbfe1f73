"""Use cases of the payer: open the checkout, pay, enter a code, resend it. Also the lists of the dashboard.

Each function is one transaction.
"""

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from sandbox import context, store
from sandbox.errors import GatewayError, not_found
from sandbox.gateway import cards, invoices, mailbox, model, outcomes, saved_cards, webhooks
from sandbox.gateway.cards import Outcome
from sandbox.gateway.invoices import InvoiceFilter, Move
from sandbox.gateway.mailbox import Mail
from sandbox.gateway.model import CardForm, Invoice, OtpStatus, PayResult, SavedCard, Status
from sandbox.gateway.webhooks import Webhook, WebhookFilter
from sandbox.store import Connection, Row

POLL_SECONDS = 0.25
"""How often a request that waits for a slow issuer checks the payment."""

GUESSES_WITHIN = timedelta(days=1)
"""Wrong codes of so long ago no longer matter to what a right one verifies."""

Change = Callable[[Connection, datetime], Invoice | GatewayError]


@dataclass(frozen=True, kw_only=True)
class PayingBrowser:
    """Who pays: the Idempotency-Key, a hash that only one browser has, and its session of verified addresses."""

    key: str | None
    browser: str
    session: str | None


def create_invoice(*, amount: int, reference: str, webhook_url: str, redirect_url: str) -> Invoice:
    """Create a payment; the views have validated its values."""
    now, invoice_id = context.now(), str(uuid4())
    with context.store().writing() as connection:
        invoices.insert(
            connection,
            id=invoice_id,
            amount=amount,
            currency=context.settings().currency.code,
            reference=reference,
            webhook_url=webhook_url,
            redirect_url=redirect_url,
            created_at=now,
            updated_at=now,
            expires_at=invoices.expiry(now),
        )
        return _found(connection, invoice_id)


def invoice(invoice_id: str) -> Invoice:
    """Return a payment in any state; raise PAYMENT_NOT_FOUND."""
    with context.store().reading() as connection:
        return _found(connection, invoice_id)


def open_checkout(invoice_id: str) -> Invoice:
    """Return a payment that can be paid now; raise 404, 409, or 410 if its time is over."""
    return _change(lambda connection, now: _payable(connection, _found(connection, invoice_id), now))


def pay(
    invoice_id: str,
    form: CardForm,
    *,
    browser: str,
    idempotency_key: str | None = None,
    session: str | None = None,
) -> PayResult:
    """Try a card; raise GatewayError 402 with the reason for a decline.

    Of two concurrent attempts only one is made. A repeat with the same Idempotency-Key gets the first result, if that
    is of this payment, or of the same payer in the same browser.
    """
    payer = PayingBrowser(key=idempotency_key, browser=_hash(browser), session=session)

    def attempt(connection: Connection, now: datetime) -> Invoice | GatewayError:
        found = _found(connection, invoice_id)
        earlier = _earlier_payment(connection, found, payer, email=_normalized(form).email)
        if earlier is not None:
            return earlier
        if found.status is Status.PROCESSING:
            return found
        payable = _payable(connection, found, now)
        if isinstance(payable, GatewayError):
            return payable
        return _try_card(connection, payable, _normalized(form), payer, now=now)

    return _result(_await_issuer(_change(attempt)))


def otp_status(invoice_id: str) -> OtpStatus:
    """Return the state of the code; raise PAYMENT_NOT_FOUND if the payment waits for none, as upstream does."""
    with context.store().reading() as connection:
        row = invoices.find_row(connection, invoice_id)
    if row is None or row["status"] != Status.WAITING_FOR_OTP:
        raise not_found(invoice_id)
    return OtpStatus(
        email=row["email"],
        expires_at=store.moment(row["otp_expires_at"]),
        attempts_left=model.OTP_ATTEMPTS_MAX - row["otp_failures"],
        resend_at=_resend_at(row),
    )


def verify_otp(invoice_id: str, code: str, session: str | None = None) -> tuple[Invoice, str | None]:
    """Check a code; return the successful payment, or raise 401 INVALID_OTP, 402 or 410.

    The code was mailed, so it also verifies the address: the second value is the session for that, if there is one.
    """
    sessions: list[str] = []

    def compare(connection: Connection, now: datetime) -> Invoice | GatewayError:
        found = _found(connection, invoice_id)
        if model.is_over(found, now):
            outcomes.expire(connection, found, now=now)
            return GatewayError("PAYMENT_EXPIRED", 410, payment_id=invoice_id)
        row = invoices.find_row(connection, invoice_id)
        if row is None or row["otp_code"] is None:
            return GatewayError("INVALID_OTP", 401, payment_id=invoice_id, reason="used")
        if now >= store.moment(row["otp_expires_at"]):
            message = "The code is too old. Ask for another."
            return GatewayError("INVALID_OTP", 401, message, invoice_id, reason="expired")
        if not hmac.compare_digest(row["otp_code"].encode(), code.strip().encode()):
            return _count_wrong_code(connection, found, row, now)
        if row["pending_decline"]:
            return _declined(outcomes.decline(connection, found, row["pending_decline"], now=now))
        if found.email and invoices.wrong_codes(connection, found.email, now - GUESSES_WITHIN) < model.OTP_ATTEMPTS_MAX:
            sessions.append(saved_cards.verify_in_session(connection, found.email, session, now))
        return outcomes.succeed(connection, found, cause="right code", now=now)

    return _change(compare), next(iter(sessions), None)


def resend_otp(invoice_id: str) -> OtpStatus:
    """Send a new code and invalidate the old one; raise 429 TOO_SOON, or 404 if the payment waits for none."""

    def send(connection: Connection, now: datetime) -> Invoice | GatewayError:
        found, row = _found(connection, invoice_id), invoices.find_row(connection, invoice_id)
        if model.is_over(found, now):
            outcomes.expire(connection, found, now=now)
            return GatewayError("PAYMENT_EXPIRED", 410, payment_id=invoice_id)
        if row is None or found.status is not Status.WAITING_FOR_OTP:
            return not_found(invoice_id)
        if now < _resend_at(row):
            return GatewayError("TOO_SOON", 429, payment_id=invoice_id)
        return outcomes.ask_for_code(connection, found, decline=row["pending_decline"], now=now)

    _change(send)
    return otp_status(invoice_id)


def settle_undecided(invoice_id: str) -> Invoice:
    """Apply a slow issuer's answer if it is due; return the payment."""
    return _change(lambda connection, now: outcomes.decide(connection, _found(connection, invoice_id), now=now))


def list_saved_cards(email: str, session: str | None) -> list[SavedCard]:
    """Return the saved cards of an e-mail address; none unless this session has verified the address."""
    with context.store().reading() as connection:
        verified = saved_cards.is_verified(connection, email, session, context.now())
        return saved_cards.cards_of(connection, email) if verified else []


def operations(email: str, session: str | None, limit: int = 5) -> list[Invoice]:
    """Return the newest successful payments of an e-mail address; none unless this session has verified it."""
    with context.store().reading() as connection:
        verified = saved_cards.is_verified(connection, email, session, context.now())
        return list(invoices.paid_by(connection, saved_cards.normalize_email(email), limit)) if verified else []


def is_verified(email: str, session: str | None) -> bool:
    """Return whether this session has verified an e-mail address."""
    with context.store().reading() as connection:
        return saved_cards.is_verified(connection, email, session, context.now())


def inbox(*, recipient: str | None = None, invoice_id: str | None = None, limit: int = 100) -> list[Mail]:
    """Return mails, newest first."""
    with context.store().reading() as connection:
        address = recipient and saved_cards.normalize_email(recipient)
        return mailbox.listed(connection, recipient=address, invoice_id=invoice_id, limit=limit)


def mail(mail_id: int) -> Mail:
    """Return a mail; raise 404 if it does not exist."""
    with context.store().reading() as connection:
        found = mailbox.find(connection, mail_id)
    if found is None:
        raise GatewayError("NOT_FOUND", 404, "There is no such mail.")
    return found


def list_invoices(shown: InvoiceFilter | None = None) -> list[Invoice]:
    """Return payments, newest first."""
    with context.store().reading() as connection:
        return invoices.listed(connection, shown or InvoiceFilter())


def moves(invoice_id: str) -> list[Move]:
    """Return all moves of a payment, in order."""
    with context.store().reading() as connection:
        return invoices.moves(connection, invoice_id)


def list_webhooks(shown: WebhookFilter | None = None) -> list[Webhook]:
    """Return webhooks with every attempt, newest first."""
    with context.store().reading() as connection:
        return webhooks.listed(connection, shown or WebhookFilter())


def resend_webhook(webhook_id: int) -> None:
    """Send a webhook once more, in any state; raise 404 if it does not exist."""
    with context.store().writing() as connection:
        exists = webhooks.resend(connection, webhook_id, now=context.now())
    if not exists:
        raise GatewayError("NOT_FOUND", 404, "There is no such webhook.")
    context.sandbox().wake_event.set()


def reset() -> None:
    """Delete everything except the secret."""
    context.store().reset()


def _change(change: Change) -> Invoice:
    """Run one transaction. An error that `change` returns is raised after the commit, so its changes are kept."""
    with context.store().writing() as connection:
        result = change(connection, context.now())
    context.sandbox().wake_event.set()
    if isinstance(result, GatewayError):
        raise result
    return result


def _found(connection: Connection, invoice_id: str) -> Invoice:
    found = invoices.find(connection, invoice_id)
    if found is None:
        raise not_found(invoice_id)
    return found


def _payable(connection: Connection, found: Invoice, now: datetime) -> Invoice | GatewayError:
    if model.is_over(found, now):
        outcomes.expire(connection, found, now=now)
        return GatewayError("PAYMENT_EXPIRED", 410, payment_id=found.id)
    if not found.is_payable:
        return GatewayError("PAYMENT_ALREADY_PROCESSED", 409, payment_id=found.id)
    return found


def _earlier_payment(connection: Connection, found: Invoice, payer: PayingBrowser, *, email: str) -> Invoice | None:
    """Return the payment that this payer made with this key before. As upstream, it may be another payment."""
    if payer.key is None:
        return None
    earlier = invoices.with_key(connection, payer.key, found.id, email=email, browser=payer.browser)
    if earlier is None:
        return None
    is_active = earlier.has_succeeded or earlier.status in (Status.WAITING_FOR_OTP, Status.PROCESSING)
    is_answered = earlier.id == found.id and (earlier.status is not Status.PENDING or earlier.error_code is not None)
    return earlier if is_active or is_answered else None


def _normalized(form: CardForm) -> CardForm:
    return replace(form, number="".join(form.number.split()), email=saved_cards.normalize_email(form.email))


def _try_card(
    connection: Connection, found: Invoice, form: CardForm, payer: PayingBrowser, *, now: datetime
) -> Invoice | GatewayError:
    number = _number(connection, form, payer.session, now)
    if number is None:
        return GatewayError("SAVED_CARD_NOT_FOUND", 404)
    if _is_repeat(connection, found, form, number, now):
        return found
    behaviour = model.behaviour(found, number)
    if behaviour.once and invoices.has_paid_before(
        connection, fingerprint=outcomes.fingerprint(number) or "", email=form.email
    ):
        behaviour = cards.UNKNOWN
    _remember_card(connection, found, form, number)
    tried = invoices.update(connection, found.id, **_card_columns(found, form, number, payer))
    if behaviour.otp:
        return outcomes.ask_for_code(connection, tried, decline=behaviour.code, now=now)
    if behaviour.is_deferred:
        wait = cards.SLOW_SECONDS if behaviour.slow else cards.SILENT_SECONDS
        return outcomes.defer(connection, tried, decide_at=now + timedelta(seconds=wait), now=now)
    if behaviour.outcome is Outcome.SUCCESS:
        return outcomes.succeed(connection, tried, cause="card accepted", now=now)
    return _declined(outcomes.decline(connection, tried, behaviour.code or "GENERAL_DECLINE", now=now))


def _number(connection: Connection, form: CardForm, session: str | None, now: datetime) -> str | None:
    """Return the card number, empty if none was given; None for a saved card that this session may not use."""
    if form.saved_card_id is None:
        return form.number
    if not saved_cards.is_verified(connection, form.email, session, now):
        return None
    return saved_cards.number_of(connection, form.saved_card_id, form.email)


def _is_repeat(connection: Connection, found: Invoice, form: CardForm, number: str, now: datetime) -> bool:
    """Return whether the same card was just sent by a double click or a second tab; then its code stays valid."""
    row = invoices.find_row(connection, found.id)
    is_same = found.email == form.email and found.card_fingerprint == outcomes.fingerprint(number)
    return row is not None and row["otp_code"] is not None and is_same and now < _resend_at(row)


def _remember_card(connection: Connection, found: Invoice, form: CardForm, number: str) -> None:
    saved_cards.remove_card_to_save(connection, found.id)
    if form.save_card and form.saved_card_id is None and cards.is_test_card(number):
        saved_cards.add_card_to_save(connection, found.id, number=number, expiry=form.expiry)


def _card_columns(found: Invoice, form: CardForm, number: str, payer: PayingBrowser) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "card_mask": model.mask(number) if number else None,
        "card_fingerprint": outcomes.fingerprint(number),
        "email": form.email,
        "language": form.language,
        "attempts": found.attempts + 1,
        "script_position": found.script_position + (1 if found.has_steps_left else 0),
    }
    # An attempt without a key keeps the key of an earlier attempt.
    return facts if payer.key is None else {**facts, "idempotency_key": payer.key, "browser": payer.browser}


def _count_wrong_code(connection: Connection, found: Invoice, row: Row, now: datetime) -> GatewayError:
    failures = row["otp_failures"] + 1
    invoices.update(connection, found.id, otp_failures=failures)
    if failures < model.OTP_ATTEMPTS_MAX:
        return GatewayError("INVALID_OTP", 401, payment_id=found.id, reason="wrong")
    outcomes.decline(connection, found, "OTP_ATTEMPTS_EXCEEDED", now=now)
    message = cards.DECLINES["OTP_ATTEMPTS_EXCEEDED"]
    return GatewayError("INVALID_OTP", 401, message, found.id, reason="locked")


def _resend_at(row: Row) -> datetime:
    return store.moment(row["otp_sent_at"]) + model.OTP_RESEND_AFTER


def _await_issuer(tried: Invoice) -> Invoice:
    """Wait for a slow issuer; raise ISSUER_TIMEOUT if there is no answer in time. A worker then decides the payment."""
    clock, until = context.sandbox().clock, context.now() + timedelta(seconds=cards.TIMEOUT_SECONDS)
    while tried.status is Status.PROCESSING and clock() < until:
        context.sandbox().pause(POLL_SECONDS)
        tried = settle_undecided(tried.id)
    if tried.status is Status.PROCESSING:
        raise GatewayError("ISSUER_TIMEOUT", 504, payment_id=tried.id)
    return tried


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _declined(declined: Invoice) -> GatewayError:
    return GatewayError(
        declined.error_code or "GENERAL_DECLINE", 402, declined.error_message, declined.id, reason="declined"
    )


def _result(tried: Invoice) -> PayResult:
    if tried.status in (Status.FAILED, Status.PENDING):
        raise _declined(tried)
    if tried.status in (Status.EXPIRED, Status.CANCELED):
        raise GatewayError("PAYMENT_ALREADY_PROCESSED", 409, payment_id=tried.id)
    return PayResult(next=model.next_for(tried.status), invoice=tried)

"""The state machine of a payment: its states, the allowed moves, and the result of an attempt to pay.

It is pure: no database, no clock, no network.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from sandbox.gateway import cards
from sandbox.gateway.cards import Behaviour

LIFETIME = timedelta(minutes=15)
"""How long an invoice can be paid."""

OTP_LIFETIME = timedelta(minutes=5)
OTP_ATTEMPTS_MAX = 5
"""After this many wrong codes the payment fails, no matter how many codes were sent."""

OTP_RESEND_AFTER = timedelta(seconds=30)
"""How long the payer must wait before another code can be sent."""

AMOUNT_MAX = 99_999_999_999
"""In minor units. Far below 2^53, so an amount as a float is exact and has no exponent."""

SCRIPT_STEPS_MAX = 20


class Status(StrEnum):
    """The state of a payment. Upstream has only pending, waiting_for_otp, paid, failed and expired."""

    PENDING = "pending"
    WAITING_FOR_OTP = "waiting_for_otp"
    PROCESSING = "processing"
    AUTHORIZED = "authorized"
    PAID = "paid"
    PARTIALLY_REFUNDED = "partially_refunded"
    REFUNDED = "refunded"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELED = "canceled"


PAYABLE = frozenset({Status.PENDING, Status.WAITING_FOR_OTP})
SUCCEEDED = frozenset({Status.AUTHORIZED, Status.PAID, Status.PARTIALLY_REFUNDED, Status.REFUNDED})

MOVES: dict[Status, frozenset[Status]] = {
    Status.PENDING: frozenset(
        {
            Status.PENDING,  # a declined attempt while the script has steps left
            Status.WAITING_FOR_OTP,
            Status.PROCESSING,
            Status.AUTHORIZED,
            Status.PAID,
            Status.FAILED,
            Status.EXPIRED,
            Status.CANCELED,
        }
    ),
    Status.WAITING_FOR_OTP: frozenset(
        {
            Status.PENDING,
            Status.WAITING_FOR_OTP,  # another code or another card
            Status.PROCESSING,
            Status.AUTHORIZED,
            Status.PAID,
            Status.FAILED,
            Status.EXPIRED,
            Status.CANCELED,
        }
    ),
    Status.PROCESSING: frozenset({Status.AUTHORIZED, Status.PAID, Status.FAILED}),
    Status.AUTHORIZED: frozenset({Status.PAID, Status.CANCELED}),
    Status.PAID: frozenset({Status.PARTIALLY_REFUNDED, Status.REFUNDED}),
    Status.PARTIALLY_REFUNDED: frozenset({Status.PARTIALLY_REFUNDED, Status.REFUNDED}),
    Status.REFUNDED: frozenset(),
    Status.FAILED: frozenset(),
    Status.EXPIRED: frozenset(),
    Status.CANCELED: frozenset(),
}
"""All allowed moves; no other is ever made."""


class Next(StrEnum):
    """The page that the payer sees after an attempt."""

    OTP = "otp"
    SUCCESS = "success"
    FAILURE = "failure"


@dataclass(frozen=True, kw_only=True)
class Invoice:
    """A payment; money in minor units, `reference` exactly as the shop sent it."""

    id: str
    amount: int
    currency: str
    reference: str
    webhook_url: str
    redirect_url: str
    status: Status
    error_code: str | None
    error_message: str | None
    card_mask: str | None
    email: str | None
    captured: int
    refunded: int
    manual_capture: bool
    script: tuple[str, ...]
    script_position: int
    attempts: int
    created_at: datetime
    updated_at: datetime
    expires_at: datetime
    paid_at: datetime | None
    decide_at: datetime | None
    card_fingerprint: str | None
    idempotency_key: str | None
    language: str | None

    @property
    def is_payable(self) -> bool:
        """Whether a card may be tried, apart from the time limit."""
        return self.status in PAYABLE

    @property
    def has_succeeded(self) -> bool:
        """Whether the payer has paid; the money may have been refunded since."""
        return self.status in SUCCEEDED

    @property
    def step(self) -> str | None:
        """The script's step for the next attempt; None without a script or after its last step."""
        return self.script[self.script_position] if self.script_position < len(self.script) else None

    @property
    def has_steps_left(self) -> bool:
        """Whether the script has steps left, so that a decline is not final."""
        return self.script_position < len(self.script)


@dataclass(frozen=True, kw_only=True)
class CardForm:
    """The payer's form; `number` has no spaces and is empty if a saved card is chosen."""

    number: str = ""
    expiry: str = ""
    cvv: str = ""
    email: str
    saved_card_id: int | None = None
    save_card: bool = False
    language: str | None = None


@dataclass(frozen=True, kw_only=True)
class PayResult:
    """The result of an attempt."""

    next: Next
    invoice: Invoice


@dataclass(frozen=True, kw_only=True)
class OtpStatus:
    """The code that a payment waits for: when it expires, how many attempts are left, when another can be sent."""

    email: str
    expires_at: datetime
    attempts_left: int
    resend_at: datetime


@dataclass(frozen=True, kw_only=True)
class SavedCard:
    """A saved card, without its number."""

    id: int
    mask: str
    expiry: str


class UnusableScript(ValueError):
    """An invalid script; the message says why."""


def may_move(before: Status, after: Status) -> bool:
    """Return whether a payment may go from one state to another."""
    return after in MOVES[before]


def is_over(invoice: Invoice, now: datetime) -> bool:
    """Return whether the time to pay is over although the state does not show it yet."""
    return invoice.is_payable and now >= invoice.expires_at


def behaviour(invoice: Invoice, card_number: str) -> Behaviour:
    """Return the behaviour of this attempt: the script's next step if there is one, otherwise the card's."""
    return cards.STEPS[invoice.step] if invoice.step else cards.behaviour(card_number)


def after_success(invoice: Invoice) -> Status:
    """Return the state after a success: paid, or authorized if the shop captures manually."""
    return Status.AUTHORIZED if invoice.manual_capture else Status.PAID


def after_decline(invoice: Invoice) -> Status:
    """Return the state after a decline: failed as upstream, or pending if the script has steps left."""
    return Status.PENDING if invoice.has_steps_left else Status.FAILED


def next_for(status: Status) -> Next:
    """Return the page for a payer whose payment is in this state."""
    if status is Status.WAITING_FOR_OTP:
        return Next.OTP
    return Next.SUCCESS if status in SUCCEEDED else Next.FAILURE


def read_script(text: str) -> tuple[str, ...]:
    """Parse a script such as `fail,fail,ok`; raise UnusableScript."""
    steps = tuple(step.strip().lower() for step in text.split(",") if step.strip())
    unknown = [step for step in steps if step not in cards.STEPS]
    if unknown:
        raise UnusableScript(f"A step is one of: {', '.join(cards.STEPS)}.")
    if len(steps) > SCRIPT_STEPS_MAX:
        raise UnusableScript(f"A script has at most {SCRIPT_STEPS_MAX} steps.")
    return steps


def mask(card_number: str) -> str:
    """Return the masked number of a card."""
    return f"**** {card_number[-4:]}"

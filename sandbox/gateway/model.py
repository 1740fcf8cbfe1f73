"""The pure state machine of a payment: its states, the moves between them, what a card or a script makes of one try.

Called by the use cases. Never touches a table, the clock or the network.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from sandbox.gateway import cards
from sandbox.gateway.cards import Behaviour

LIFETIME = timedelta(minutes=15)
"""How long an invoice can be paid."""

OTP_LIFETIME = timedelta(minutes=5)
OTP_TRIES_MAX = 5
"""How many wrong codes fail a payment, however many codes were sent."""

OTP_RESEND_AFTER = timedelta(seconds=30)
"""How long after a code another may be asked for."""

AMOUNT_MAX = 99_999_999_999
"""In minor units; far below 2^53, so that the float form of an amount is exact and has no exponent."""

SCRIPT_STEPS_MAX = 20


class Status(StrEnum):
    """Where a payment is; `processing`, `authorized` and `canceled` and the refunds are ours, the others upstream's."""

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
            Status.PENDING,  # a declined try of a script that goes on
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
"""Every move there is; the database refuses none that stands here and the store makes no other."""


class Next(StrEnum):
    """Where the payer goes after a try."""

    OTP = "otp"
    SUCCESS = "success"
    FAILURE = "failure"


@dataclass(frozen=True, kw_only=True)
class Invoice:
    """A payment as it stands; money in minor units, `reference` raw as the shop gave it."""

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

    @property
    def is_payable(self) -> bool:
        """Whether a card may be tried, if the time is not over."""
        return self.status in PAYABLE

    @property
    def has_succeeded(self) -> bool:
        """Whether the payer's part ended well, whatever became of the money since."""
        return self.status in SUCCEEDED

    @property
    def step(self) -> str | None:
        """The step of the script that the next try plays; None without a script or after its last step."""
        return self.script[self.script_position] if self.script_position < len(self.script) else None

    @property
    def has_steps_left(self) -> bool:
        """Whether a script goes on, so that a decline is not final."""
        return self.script_position < len(self.script)


@dataclass(frozen=True, kw_only=True)
class CardForm:
    """What a payer fills in; `number` without spaces, empty when a saved card is chosen."""

    number: str = ""
    expiry: str = ""
    cvv: str = ""
    email: str
    saved_card_id: int | None = None
    save_card: bool = False


@dataclass(frozen=True, kw_only=True)
class PayResult:
    """What a try came to."""

    next: Next
    invoice: Invoice


@dataclass(frozen=True, kw_only=True)
class OtpStatus:
    """The code that a payment waits for: until when it is good, how many tries are left, when to ask for another."""

    email: str
    expires_at: datetime
    attempts_left: int
    resend_at: datetime


@dataclass(frozen=True, kw_only=True)
class SavedCard:
    """A card that somebody chose to keep, without its number."""

    id: int
    mask: str
    expiry: str


class UnusableScript(ValueError):
    """A chain of outcomes that cannot be played; the message says why."""


def may_move(before: Status, after: Status) -> bool:
    """Tell whether a payment may go from one state to another."""
    return after in MOVES[before]


def is_over(invoice: Invoice, now: datetime) -> bool:
    """Tell whether the time to pay has run out and nobody has noted it yet."""
    return invoice.is_payable and now >= invoice.expires_at


def behaviour(invoice: Invoice, card_number: str) -> Behaviour:
    """Return what this try does: the next step of the script if there is one, otherwise what the card does."""
    return cards.STEPS[invoice.step] if invoice.step else cards.behaviour(card_number)


def after_success(invoice: Invoice) -> Status:
    """Return where a success leads: to the money, or to a hold that the shop captures."""
    return Status.AUTHORIZED if invoice.manual_capture else Status.PAID


def after_decline(invoice: Invoice) -> Status:
    """Return where a decline leads: it is final, as upstream's, unless a script goes on."""
    return Status.PENDING if invoice.has_steps_left else Status.FAILED


def next_for(status: Status) -> Next:
    """Return where a payer belongs whose payment is in this state."""
    if status is Status.WAITING_FOR_OTP:
        return Next.OTP
    return Next.SUCCESS if status in SUCCEEDED else Next.FAILURE


def read_script(text: str) -> tuple[str, ...]:
    """Read a chain such as `fail,fail,ok`; raise UnusableScript."""
    steps = tuple(step.strip().lower() for step in text.split(",") if step.strip())
    unknown = [step for step in steps if step not in cards.STEPS]
    if unknown:
        raise UnusableScript(f"A step is one of: {', '.join(cards.STEPS)}.")
    if len(steps) > SCRIPT_STEPS_MAX:
        raise UnusableScript(f"A script has at most {SCRIPT_STEPS_MAX} steps.")
    return steps


def mask(card_number: str) -> str:
    """Return what is shown of a card."""
    return f"**** {card_number[-4:]}"

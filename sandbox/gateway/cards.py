"""The test cards and their behaviour, and the steps of scripts.

None of the numbers can belong to a real card.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """The final result of an attempt."""

    SUCCESS = "success"
    DECLINE = "decline"


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """What happens when a card is used: the result, with or without a code, delayed or not, once or always."""

    outcome: Outcome = Outcome.SUCCESS
    code: str | None = None
    otp: bool = False
    slow: bool = False
    silent: bool = False
    once: bool = False

    @property
    def is_deferred(self) -> bool:
        """Whether the decision is made after the attempt."""
        return self.slow or self.silent


@dataclass(frozen=True, kw_only=True)
class TestCard:
    """A row of the table; `title` is English and also the key of its translation."""

    __test__ = False  # pytest takes the name for a test

    number: str
    network: str
    title: str
    behaviour: Behaviour


SLOW_SECONDS = 5.0
"""How long a slow issuer takes. The payer's request waits for it."""

TIMEOUT_SECONDS = 10.0
"""How long the payer's request waits before it ends with ISSUER_TIMEOUT."""

SILENT_SECONDS = 20.0
"""How long a silent issuer takes. The payer's request has timed out before that."""

DECLINES: Mapping[str, str] = {
    "3D_SECURE_FAILED": "The payer was not confirmed by the card's bank.",
    "CALL_ISSUER": "The card's bank refused. Ask it for the reason.",
    "CARD_EXPIRED": "The card has expired.",
    "COUNTRY_FORBIDDEN": "Cards of this country are not accepted.",
    "FRAUD_SUSPECTED": "The payment was stopped on suspicion of fraud.",
    "GENERAL_DECLINE": "The card's bank refused without a reason.",
    "INSUFFICIENT_FUNDS": "There is not enough money on the card.",
    "INVALID_CARD_NUMBER": "The card number is wrong.",
    "INVALID_CSC": "The security code is wrong.",
    "ISSUER_UNAVAILABLE": "The card's bank cannot be reached.",
    "PAYMENT_METHOD_LIMIT_EXCEEDED": "The limit of the card is used up.",
    "PAYMENT_METHOD_RESTRICTED": "This kind of payment is not allowed for the card.",
    "OTP_ATTEMPTS_EXCEEDED": "A wrong code was entered too often.",
}
"""The reasons for a decline, with the sentence for each code."""

PAID = Behaviour()
PAID_WITH_OTP = Behaviour(otp=True)
SLOW = Behaviour(slow=True)
SILENT = Behaviour(silent=True)
ONCE = Behaviour(once=True)


def declined(code: str, *, otp: bool = False) -> Behaviour:
    """Return the behaviour of a card that is declined."""
    return Behaviour(outcome=Outcome.DECLINE, code=code, otp=otp)


UNKNOWN = declined("INSUFFICIENT_FUNDS")
"""The behaviour of every other number, and of an empty one, as upstream has it."""

_BY_NETWORK = ("Mastercard", "Visa", "Mir")
_ROWS: tuple[tuple[str, Behaviour, tuple[str, str, str]], ...] = (
    ("Success with 3-D Secure", PAID_WITH_OTP, ("5555555555554477", "4793128161644804", "2200000000000004")),
    ("Success without 3-D Secure", PAID, ("5555555555554444", "4111111111111111", "2202474301322987")),
    (
        "3-D Secure fails",
        declined("3D_SECURE_FAILED", otp=True),
        ("5555555555554592", "4839665499603842", "2200000000000012"),
    ),
    ("Call the issuer", declined("CALL_ISSUER"), ("5555555555554535", "4926946416239025", "2200000000000020")),
    ("Card expired", declined("CARD_EXPIRED"), ("5555555555554543", "4141435412630840", "2200000000000038")),
    (
        "Fraud suspected by the network",
        declined("FRAUD_SUSPECTED"),
        ("5555555555554568", "4483274282299972", "2200000000000046"),
    ),
    ("Declined", declined("GENERAL_DECLINE"), ("5555555555554527", "4889971706588753", "2202202212312379")),
    ("Not enough money", declined("INSUFFICIENT_FUNDS"), ("5555555555554600", "4562265587712390", "2200000000000053")),
    (
        "Wrong card number",
        declined("INVALID_CARD_NUMBER"),
        ("5555555555554618", "4951017853630544", "2201382000000013"),
    ),
    ("Wrong security code", declined("INVALID_CSC"), ("5555555555554626", "4194180666146368", "2200770212727079")),
    (
        "Issuer unavailable",
        declined("ISSUER_UNAVAILABLE"),
        ("5555555555554501", "4654130848359150", "2201382000000021"),
    ),
    (
        "Limit exceeded",
        declined("PAYMENT_METHOD_LIMIT_EXCEEDED"),
        ("5555555555554576", "4565231022577548", "2201382000000039"),
    ),
    (
        "Card restricted",
        declined("PAYMENT_METHOD_RESTRICTED"),
        ("5555555555554550", "4233961169071671", "2201382000000047"),
    ),
    (
        "Country forbidden",
        declined("COUNTRY_FORBIDDEN"),
        ("5555555555554584", "4969751510013864", "2201382000000054"),
    ),
    (
        "Fraud suspected by the gateway",
        declined("FRAUD_SUSPECTED"),
        ("5555555555554634", "4119098878796485", "2201696981989955"),
    ),
)
_OTHERS = (
    ("6759649826438453", "Maestro"),
    ("4175001000000017", "Visa Electron"),
    ("370000000000002", "American Express"),
    ("3528000700000000", "JCB"),
    ("36700102000000", "Diners Club"),
)


def _card(number: str, network: str, title: str, behaviour: Behaviour) -> TestCard:
    return TestCard(number=number, network=network, title=title, behaviour=behaviour)


TABLE: tuple[TestCard, ...] = (
    _card("4444444444444444", "AcquireMock", "Success with 3-D Secure", PAID_WITH_OTP),
    *(
        _card(number, network, title, behaviour)
        for title, behaviour, numbers in _ROWS
        for number, network in zip(numbers, _BY_NETWORK, strict=True)
    ),
    *(_card(number, network, "Success without 3-D Secure", PAID) for number, network in _OTHERS),
    _card("4000000000000051", "Visa", "Slow issuer, then success", SLOW),
    _card("4000000000000069", "Visa", "Succeeds once for an e-mail, then declines", ONCE),
    _card("4000000000000077", "Visa", "Timeout, then success", SILENT),
)
"""All test cards; any other number is declined."""

_BY_NUMBER = {card.number: card.behaviour for card in TABLE}

STEPS: Mapping[str, Behaviour] = {
    "ok": PAID,
    "otp": PAID_WITH_OTP,
    "slow": SLOW,
    "timeout": SILENT,
    "fail": UNKNOWN,
    **{code.lower(): declined(code) for code in DECLINES if code != "OTP_ATTEMPTS_EXCEEDED"},
}
"""The steps of scripts: `ok`, `otp`, `slow`, `timeout`, `fail`, and each reason for a decline."""


def behaviour(number: str) -> Behaviour:
    """Return the behaviour of a card."""
    return _BY_NUMBER.get(number, UNKNOWN)


def is_test_card(number: str) -> bool:
    """Return whether a number is a test card; other numbers are not stored."""
    return number in _BY_NUMBER

"""The small contract by which another bank's format is added as one file; see docs/adding-a-bank.md.

Implemented by each bank, called by the webhook door and the use cases. Touches no table.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar
from uuid import NAMESPACE_URL, UUID, uuid5

from werkzeug.datastructures import Headers

import rules
import signing
from banks import identity
from banks.identity import Identity
from config import secrets_variable
from errors import SecretUnusable, UnusableBody
from fields import NOT_TEXT

log = logging.getLogger("kopeck")


@dataclass(frozen=True, kw_only=True)
class Message:
    """A webhook as it arrived; the body is what was signed, byte for byte."""

    headers: Headers
    content_type: str
    body: bytes


@dataclass(frozen=True, kw_only=True)
class Announcement:
    """What a bank says: this payer's money, in kopecks, has arrived under this operation."""

    operation_id: UUID
    amount: int
    payer_inn: str
    document_number: str
    document_date: datetime
    external_id: str | None = None

    def problems(self) -> list[str]:
        """Return what of this the ledger could not keep, or not send on to another Kopeck, whatever the bank allows."""
        return [problem for problem, holds in BOUNDS.items() if not holds(self)]


def _fits(text: str, characters_max: int) -> bool:
    return len(text) <= characters_max and not NOT_TEXT.search(text)


BOUNDS: dict[str, Callable[[Announcement], object]] = {
    f"amount must be from 1 to {rules.MONEY_MAX} whole kopecks": lambda announced: (
        type(announced.amount) is int and 1 <= announced.amount <= rules.MONEY_MAX
    ),
    "payer_inn must be 10 or 12 digits": lambda announced: rules.INN.fullmatch(announced.payer_inn),
    f"document_number must have 1 to {rules.DOCUMENT_NUMBER_CHARACTERS_MAX} characters, none that controls": (
        lambda announced: (
            announced.document_number and _fits(announced.document_number, rules.DOCUMENT_NUMBER_CHARACTERS_MAX)
        )
    ),
    "document_date must have a zone, and be in a year from 1900 to 2999, in UTC": lambda announced: (
        announced.document_date.tzinfo and rules.in_bounds(announced.document_date)
    ),
    f"external_id must have at most {rules.EXTERNAL_ID_CHARACTERS_MAX} characters, none that controls": (
        lambda announced: (
            announced.external_id is None or _fits(announced.external_id, rules.EXTERNAL_ID_CHARACTERS_MAX)
        )
    ),
}
"""What must hold of any announcement, by the sentence that says so when it does not."""


class Bank(ABC):
    """How one bank speaks: how it proves who it is, and how its body is read."""

    name: ClassVar[str]
    content_type: ClassVar[str] = "application/json"
    """How its bodies are read again later, when only they are left of a webhook."""

    operation_member: ClassVar[str] = ""
    """The member of a body that names the operation, for bodies that cannot be used otherwise."""

    fact_members: ClassVar[tuple[str, ...]] = ()
    """The members that say what arrived: a body with others is never taken for a repeat."""

    def authenticate(self, message: Message, *, secrets: Sequence[str], now: datetime) -> signing.Signature:
        """Prove that the bank sent this, before anything of it is parsed; raise SignatureRejected or SecretUnusable."""
        try:
            return signing.verify(message.headers, message.body, secrets=secrets, now=now)
        except SecretUnusable:
            log.error("%s holds no secret in base64, which Standard Webhooks needs", secrets_variable(self.name))
            raise

    def announcement(self, message: Message) -> Announcement:
        """Return what an authentic webhook says, within the bounds of the ledger; raise UnusableBody.

        Only what stays of a queued webhook is looked at: whether it waited must not decide what it says.
        """
        announcement = self.read(message.body, content_type=message.content_type)
        if problems := announcement.problems():
            raise UnusableBody(errors=[{"pointer": "#", "detail": f"{problem}."} for problem in problems])
        return announcement

    @abstractmethod
    def read(self, body: bytes, *, content_type: str) -> Announcement:
        """Read an authentic body; raise UnusableBody (or NotJson) with a pointer to each field that is wrong."""

    def read_stored(self, body: bytes) -> Announcement:
        """Read a body again that was received before; raise UnusableBody."""
        return self.read(body, content_type=self.content_type)

    def identify(self, body: bytes, *, message_id: str | None) -> Identity:
        """Return by what a repeat of an unusable body is known; `message_id` is the sender's, if that was signed."""
        return identity.identify(
            body,
            operation=self.operation_member,
            facts=self.fact_members,
            operation_of=self.operation_of,
            message_id=message_id,
        )

    def operation_of(self, external_id: str) -> UUID | None:
        """Return the operation that an id names; None when the id is not one of this bank's."""
        return self.operation_uuid(external_id)

    def operation_uuid(self, external_id: str) -> UUID:
        """Return the one UUID for an operation of a bank whose own ids are not UUIDs (UUIDv5)."""
        return uuid5(NAMESPACE_URL, f"kopeck:bank:{self.name}:{external_id}")

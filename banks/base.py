"""The small contract by which another bank's format is added as one file; see docs/adding-a-bank.md.

Implemented by each bank, called by the webhook door and the use cases. Touches no table.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar
from uuid import NAMESPACE_URL, UUID, uuid5

from werkzeug.datastructures import Headers

import signing


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


class Bank(ABC):
    """How one bank speaks: how it proves who it is, and how its body is read."""

    name: ClassVar[str]
    content_type: ClassVar[str] = "application/json"
    """How its bodies are read again later, when only they are left of a webhook."""

    def authenticate(self, message: Message, *, secrets: Sequence[str], now: datetime) -> signing.Signature:
        """Prove that the bank sent this, before anything of it is parsed; raise SignatureRejected."""
        return signing.verify(message.headers, message.body, secrets=secrets, now=now)

    @abstractmethod
    def read(self, message: Message) -> Announcement:
        """Read an authentic body; raise UnusableBody (or NotJson) with a pointer to each field that is wrong."""

    def read_stored(self, body: bytes) -> Announcement:
        """Read a body again that was received before; raise UnusableBody."""
        headers = Headers({"Content-Type": self.content_type})
        return self.read(Message(headers=headers, content_type=self.content_type, body=body))

    def operation_uuid(self, external_id: str) -> UUID:
        """Return the one UUID for an operation of a bank whose own ids are not UUIDs (UUIDv5)."""
        return uuid5(NAMESPACE_URL, f"kopeck:bank:{self.name}:{external_id}")

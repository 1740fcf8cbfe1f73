"""What a worker knows of one delivery: what is sent, to whom, and what came of it."""

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from enums import Scheme
from outbox.endpoint_keys import Key


@dataclass(frozen=True, kw_only=True)
class EndpointSnapshot:
    """An endpoint as a worker knows it: where it is, how it is signed for (keys newest first), whether it is well.

    `secrets` are the keys as its row keeps them, by which a worker sees that they are still the same.
    """

    id: int
    url: str
    scheme: Scheme
    keys: tuple[Key, ...]
    secrets: str = field(default="", repr=False)
    ordered: bool = False
    failing: bool = False
    disabled: bool = False


@dataclass(frozen=True, kw_only=True)
class ClaimedDelivery:
    """One event for one endpoint, with all that is needed to send it; `data` is the JSON object as stored."""

    delivery_id: int
    lease: UUID
    cause: str
    endpoint: EndpointSnapshot
    event_id: UUID
    event_type: str
    occurred_at: datetime
    data: str


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """What came of sending once; without an answer `status` is None and `error` says why."""

    started_at: datetime
    duration_ms: int
    status: int | None
    excerpt: str
    error: str | None
    retry_after_seconds: int | None

"""Whether an endpoint is still as it was when its deliveries were claimed: asked before each of them is sent.

Used by whoever sends. Between the claim and the first byte a person may have deleted or disabled the endpoint, or
taken its secret back; one look serves all that is sent there within LOOK_SECONDS.
"""

import threading
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from database.bulk import table_of
from database.session import call_after_commit, current_engine, look_up
from limits import LOOK_SECONDS
from models import Endpoint
from outbox.delivery import EndpointSnapshot

ENDPOINTS = table_of(Endpoint)
QUERY = select(*ENDPOINTS.c["url", "scheme", "secrets", "disabled_at"]).where(
    ENDPOINTS.c.id == bindparam("endpoint_id")
)


class Facts(NamedTuple):
    """What must not have changed: where is sent, how, with which keys, and whether at all."""

    url: str
    scheme: str
    secrets: str
    disabled: bool


class Looks:
    """The newest look at each endpoint, made in the app; safe for several threads, which may stand outside of it."""

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._engine = current_engine()
        self._monotonic = monotonic
        self._looks: dict[int, tuple[float, Facts | None]] = {}
        self._locks: dict[int, threading.Lock] = {}

    def note(self, endpoints: Iterable[EndpointSnapshot], looked_at: float) -> None:
        """Take over what a claim has seen that began at this moment."""
        for endpoint in endpoints:
            newest = self._looks.get(endpoint.id)
            if newest is None or newest[0] <= looked_at:
                self._looks[endpoint.id] = (looked_at, _facts(endpoint))

    def is_current(self, endpoint: EndpointSnapshot) -> bool:
        """Return whether an endpoint is as it was claimed; raises what the database raises."""
        return self._newest(endpoint.id) == _facts(endpoint)

    def _newest(self, endpoint_id: int) -> Facts | None:
        if (look := self._recent(endpoint_id)) is None:
            # One of those that would send looks, and the others wait for what it sees.
            with self._locks.setdefault(endpoint_id, threading.Lock()):
                look = self._recent(endpoint_id) or self._look(endpoint_id)
        return look[1]

    def _recent(self, endpoint_id: int) -> tuple[float, Facts | None] | None:
        look = self._looks.get(endpoint_id)
        return look if look and self._monotonic() - look[0] <= LOOK_SECONDS else None

    def _look(self, endpoint_id: int) -> tuple[float, Facts | None]:
        looked_at = self._monotonic()
        rows = look_up(QUERY, {"endpoint_id": endpoint_id}, engine=self._engine)
        found = [Facts(row.url, row.scheme, row.secrets, row.disabled_at is not None) for row in rows]
        look = (looked_at, found[0] if found else None)
        self._looks[endpoint_id] = look
        return look


def outlast(session: Session) -> None:
    """Wait, after the commit of what revokes a secret, until no worker relies on a look from before it.

    Twice as long, as a thread may be held up between its look and the first byte.
    """
    call_after_commit(session, lambda: time.sleep(2 * LOOK_SECONDS))


def _facts(endpoint: EndpointSnapshot) -> Facts:
    return Facts(endpoint.url, endpoint.scheme, endpoint.secrets, endpoint.disabled)

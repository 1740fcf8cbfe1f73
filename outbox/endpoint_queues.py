"""What one worker has in hand for each endpoint, and how many senders each of them may have.

Used by the dispatcher, under its lock. Endpoints that are sick, or have not proven yet that they are quick, share a
part of the senders, so that those that are quick always find one. Never sends, and knows no table.
"""

from collections import deque
from collections.abc import Iterable, MutableMapping
from dataclasses import dataclass
from enum import Enum, auto
from weakref import WeakKeyDictionary

from sqlalchemy import Engine

from database.session import current_engine
from limits import (
    CLAIM_ROUNDS,
    ENDPOINT_SENDERS_MAX,
    PROVEN_SECONDS,
    QUICK_SECONDS,
    RECOVERY_ATTEMPTS,
    SENDERS_MAX,
    SICK_SENDERS_MAX,
    SLOW_ENDPOINT_SENDERS_MAX,
    UNPROVEN_SENDERS_MAX,
)
from outbox import retry
from outbox.delivery import Attempt, ClaimedDelivery

SLOW_SCORE = 1 - RECOVERY_ATTEMPTS
"""What an endpoint has after a slow or failed answer; each quick one adds 1, and above 0 it is quick."""

Scores = MutableMapping[tuple[int, str], int]
"""How well endpoints took what was sent, by number and address; outlives a dispatcher."""


_known: WeakKeyDictionary[Engine, Scores] = WeakKeyDictionary()


def known_scores() -> Scores:
    """Return what this process has learnt, from one task of Celery to the next."""
    return _known.setdefault(current_engine(), {})


class Standing(Enum):
    """How an endpoint takes what is sent."""

    QUICK = auto()
    UNPROVEN = auto()  # nothing was answered yet since this process began
    SICK = auto()  # fails, is slow, or has let something wait for QUICK_SECONDS just now


class EndpointQueue:
    """What one worker has in hand for one endpoint, and how well that endpoint takes it."""

    def __init__(self, endpoint_id: int, url: str, *, failing: bool, scores: Scores) -> None:
        self.endpoint_id = endpoint_id
        self.waiting: deque[tuple[ClaimedDelivery, float]] = deque()
        self.running = 0
        self.failing = failing
        self._scores = scores
        self._name = (endpoint_id, url)
        # The oldest first.
        self._begun: dict[int, float] = {}
        self._answered_at = -float("inf")

    @property
    def in_hand(self) -> int:
        """How many deliveries are claimed and not tried to the end."""
        return len(self.waiting) + self.running

    @property
    def free_senders(self) -> int:
        """How many of its senders are about to take the next delivery."""
        return self.running - len(self._begun)

    def standing(self, now: float) -> Standing:
        """Return how the endpoint stands at this moment, also before what is under way was answered."""
        score = self._scores.get(self._name, 0)
        late = now - next(iter(self._begun.values()), now) > QUICK_SECONDS
        if self.failing or score < 0 or late:
            return Standing.SICK
        return Standing.QUICK if score else Standing.UNPROVEN

    def senders_max(self, now: float) -> int:
        """Return how many may be sent at the same time; one is enough to find out how an endpoint is."""
        if self.standing(now) is Standing.SICK:
            answers = self._scores.get(self._name, 0) and not self.failing
            return SLOW_ENDPOINT_SENDERS_MAX if answers else 1
        return ENDPOINT_SENDERS_MAX if now - self._answered_at <= PROVEN_SECONDS else 1

    def begin(self, delivery: ClaimedDelivery, now: float) -> None:
        """Note that a delivery is being sent."""
        self._begun[delivery.delivery_id] = now

    def end(self, delivery: ClaimedDelivery, attempt: Attempt | None, now: float) -> None:
        """Learn from an attempt; None when it was not made."""
        self._begun.pop(delivery.delivery_id, None)
        if attempt is None:
            return
        self.failing = not retry.is_delivered(attempt.status)
        if self.failing or attempt.duration_ms > QUICK_SECONDS * 1000:
            self._scores[self._name] = SLOW_SCORE
        else:
            self._scores[self._name] = min(self._scores.get(self._name, 0) + 1, 1)
            self._answered_at = now


@dataclass
class Senders:
    """The senders in use at one moment; counts on while more are given out."""

    quick: int
    unproven: int
    sick: int

    @classmethod
    def of(cls, queues: Iterable[EndpointQueue], now: float) -> "Senders":
        """Count the senders that queues have."""
        counts = dict.fromkeys(Standing, 0)
        for queue in queues:
            if queue.running:
                counts[queue.standing(now)] += queue.running
        return cls(counts[Standing.QUICK], counts[Standing.UNPROVEN], counts[Standing.SICK])

    def free(self, standing: Standing) -> int:
        """Return how many more an endpoint of this standing may have."""
        shared = self.unproven + self.sick
        total = SENDERS_MAX - self.quick - shared
        if standing is Standing.QUICK:
            return min(total, SENDERS_MAX - UNPROVEN_SENDERS_MAX - self.quick)
        unproven = min(total, UNPROVEN_SENDERS_MAX - shared)
        return unproven if standing is Standing.UNPROVEN else min(unproven, SICK_SENDERS_MAX - self.sick)

    def take(self, standing: Standing, count: int) -> None:
        """Count senders that were given to an endpoint of this standing."""
        match standing:
            case Standing.QUICK:
                self.quick += count
            case Standing.UNPROVEN:
                self.unproven += count
            case Standing.SICK:
                self.sick += count


def places(queue: EndpointQueue, senders: Senders, now: float) -> int:
    """Return how many deliveries may be claimed for an endpoint, and count the senders that this takes.

    For a quick one also some that wait their turn; for others no more than are sent at once.
    """
    standing, most = queue.standing(now), queue.senders_max(now)
    free = senders.free(standing)
    if free <= 0:
        return 0
    if standing is Standing.QUICK:
        return max(0, CLAIM_ROUNDS * most - queue.in_hand)
    granted = max(0, min(most - queue.in_hand, free))
    senders.take(standing, granted)
    return granted

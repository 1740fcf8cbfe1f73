"""A worker's hands: takes deliveries that are due, has them sent side by side, and settles what came of them.

Used by the worker and by the Celery task, in whose thread it speaks to the database; its own threads only send.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, SimpleQueue

from context import Clock
from database.failures import is_unavailable, log_crash
from encryption import SecretCipher
from http_client.client import Client
from limits import (
    CLAIM_ROUNDS,
    DELIVERY_SECONDS,
    ENDPOINT_SENDERS_MAX,
    LEASE_SECONDS,
    QUICK_SECONDS,
    SENDERS_MAX,
    SLOW_ENDPOINT_SENDERS_MAX,
    TICK_SECONDS,
)
from outbox import claims, results, retry
from outbox.channels import webhook
from outbox.delivery import Attempt, ClaimedDelivery

UNTRIED_AFTER_SECONDS = LEASE_SECONDS - 2 * DELIVERY_SECONDS
"""How long after it was claimed a delivery may still be begun, with time to spare for clocks that differ."""


class Dispatcher:
    """Sends deliveries until it is closed; one endpoint that is slow, or fails, keeps few of its threads busy."""

    def __init__(
        self,
        cipher: SecretCipher,
        client: Client,
        *,
        clock: Clock,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cipher = cipher
        self._client = client
        self._clock = clock
        # Leases are measured by this one: it is never set back.
        self._monotonic = monotonic
        self._pool = ThreadPoolExecutor(SENDERS_MAX, thread_name_prefix="dispatcher")
        self._lock = threading.Lock()
        self._queues: dict[int, _EndpointQueue] = {}
        self._results: SimpleQueue[tuple[ClaimedDelivery, Attempt | None]] = SimpleQueue()
        self._unsettled: list[tuple[ClaimedDelivery, Attempt | None]] = []
        self._draining = False

    def step(self) -> int:
        """Settle what has been tried, claim what there is capacity for; return how many deliveries that moved on.

        Raises what the database raises; what could not be settled is settled in a later step.
        """
        settled = self._settle()
        # Leases begin when the claim is asked for, however long the database takes over it.
        until = self._monotonic() + UNTRIED_AFTER_SECONDS
        claimed = claims.claim(self._cipher, capacity=self._capacity, now=self._clock())
        self._load(claimed, until)
        return settled + len(claimed)

    def wait(self, seconds: float) -> None:
        """Wait until a delivery has been tried, but no longer than this."""
        try:
            self._unsettled.append(self._results.get(timeout=seconds))
        except Empty:
            return

    def is_idle(self) -> bool:
        """Return whether nothing is under way and nothing waits to be settled."""
        with self._lock:
            under_way = any(queue.in_hand for queue in self._queues.values())
        return not under_way and self._results.empty() and not self._unsettled

    def drain(self) -> None:
        """Take no more from endpoints that are slow, and serve the others until nothing slow is under way."""
        ends_at = self._monotonic() + DELIVERY_SECONDS
        self._draining = True
        while self._let_slow_end() and self._monotonic() < ends_at:
            if not self.step():
                self.wait(TICK_SECONDS)

    def close(self) -> None:
        """Give back what was not begun, wait for what was, and settle it."""
        with self._lock:
            for queue in self._queues.values():
                self._hand_back(queue)
        self._pool.shutdown()
        self._client.close()
        self._settle()

    def _hand_back(self, queue: "_EndpointQueue") -> None:
        for delivery, _ in queue.waiting:
            self._results.put((delivery, None))
        queue.waiting.clear()

    def _let_slow_end(self) -> bool:
        """Give back what waits for slow endpoints, and return whether anything is still being sent to one."""
        with self._lock:
            slow = [queue for queue in self._queues.values() if not queue.quick]
            for queue in slow:
                self._hand_back(queue)
            return any(queue.running for queue in slow)

    def _settle(self) -> int:
        while not self._results.empty():
            self._unsettled.append(self._results.get())
        tried = [(delivery, attempt) for delivery, attempt in self._unsettled if attempt is not None]
        untried = [delivery for delivery, attempt in self._unsettled if attempt is None]
        try:
            if tried:
                results.settle(tried, now=self._clock())
            self._unsettled = [(delivery, None) for delivery in untried]
            if untried:
                claims.release(untried, now=self._clock())
        except Exception as error:
            # Kept for the next step if the database was away. Otherwise it would fail again, and hold up all others;
            # what is forgotten costs no more than its lease, and is tried again.
            if is_unavailable(error):
                raise
            self._unsettled = []
            log_crash("attempts that were to be settled together", error)
            self._settle_apart(tried)
            return len(tried)
        self._unsettled = []
        return len(tried)

    def _settle_apart(self, tried: Sequence[tuple[ClaimedDelivery, Attempt]]) -> None:
        for delivery, attempt in tried:
            try:
                results.settle([(delivery, attempt)], now=self._clock())
            except Exception as error:
                if is_unavailable(error):
                    raise
                log_crash(f"the attempt at delivery {delivery.delivery_id}", error)

    def _capacity(self, endpoint_id: int) -> int:
        with self._lock:
            if sum(queue.running for queue in self._queues.values()) >= SENDERS_MAX:
                return 0
            queue = self._queues.get(endpoint_id)
            if self._draining and queue is not None and not queue.quick:
                return 0
            queue = queue or _EndpointQueue()
            return CLAIM_ROUNDS * queue.senders_max - queue.in_hand

    def _load(self, deliveries: Sequence[ClaimedDelivery], until: float) -> None:
        with self._lock:
            for delivery in deliveries:
                queue = self._queues.setdefault(delivery.endpoint.id, _EndpointQueue())
                queue.failing = delivery.endpoint.failing
                queue.waiting.append((delivery, until))
                if queue.running < queue.senders_max:
                    queue.running += 1
                    self._pool.submit(self._work, queue)

    def _work(self, queue: "_EndpointQueue") -> None:
        """Send what waits in a queue, one after the other, until nothing does."""
        while (delivery := self._next(queue)) is not None:
            attempt = self._try(delivery)
            queue.note(attempt)
            self._results.put((delivery, attempt))
            if attempt.status == retry.GONE:
                # It wants nothing more, and what has been claimed for it already is paused with the rest.
                with self._lock:
                    self._hand_back(queue)

    def _next(self, queue: "_EndpointQueue") -> ClaimedDelivery | None:
        with self._lock:
            while queue.waiting and queue.running <= queue.senders_max:
                delivery, until = queue.waiting.popleft()
                if self._monotonic() < until:
                    return delivery
                # Its lease could run out while it is tried, and another worker would try it too.
                self._results.put((delivery, None))
            queue.running -= 1
            return None

    def _try(self, delivery: ClaimedDelivery) -> Attempt:
        try:
            return webhook.send(self._client, delivery, clock=self._clock)
        except Exception as error:
            log_crash(f"delivery {delivery.delivery_id}", error)
            return Attempt(
                started_at=self._clock(),
                duration_ms=0,
                status=None,
                excerpt="",
                error="This event could not be written; the log of the worker says why.",
                retry_after_seconds=None,
            )


class _EndpointQueue:
    """What one worker has in hand for one endpoint, and how well that endpoint takes it."""

    def __init__(self) -> None:
        self.waiting: deque[tuple[ClaimedDelivery, float]] = deque()
        self.running = 0
        self.quick = False
        self.failing = False

    @property
    def in_hand(self) -> int:
        """How many deliveries are claimed and not tried to the end."""
        return len(self.waiting) + self.running

    @property
    def senders_max(self) -> int:
        """How many may be sent at the same time; one is enough to find out that an endpoint is well again."""
        if self.failing:
            return 1
        return ENDPOINT_SENDERS_MAX if self.quick else SLOW_ENDPOINT_SENDERS_MAX

    def note(self, attempt: Attempt) -> None:
        """Learn from an attempt."""
        self.failing = not retry.is_delivered(attempt.status)
        self.quick = not self.failing and attempt.duration_ms <= QUICK_SECONDS * 1000

"""A worker's hands: takes deliveries that are due, has them sent side by side, and settles what came of them.

Used by the worker and by the Celery task, in whose thread it speaks to the database; its own threads send, and look
once more at the endpoint before they do.
"""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, SimpleQueue

from context import Clock
from database.failures import is_unavailable, log_crash, log_unavailable
from encryption import SecretCipher
from http_client.client import Client
from http_client.connection import Withdrawn
from limits import DELIVERY_SECONDS, LEASE_SECONDS, RETRY_AFTER_SECONDS, SENDERS_MAX, TICK_SECONDS
from outbox import claims, results, retry, stored_secrets
from outbox.channels import webhook
from outbox.delivery import Attempt, ClaimedDelivery
from outbox.endpoint_queues import EndpointQueue, Scores, Senders, Standing, places
from outbox.looks import Looks

UNTRIED_AFTER_SECONDS = LEASE_SECONDS - 2 * DELIVERY_SECONDS
"""How long after it was claimed a delivery may still be begun, with time to spare for clocks that differ."""

DRAIN_SECONDS_MAX = 2 * DELIVERY_SECONDS


class Dispatcher:
    """Sends deliveries until it is closed; endpoints that hang, fail or are new cannot keep all of its threads busy."""

    def __init__(
        self,
        cipher: SecretCipher,
        client: Client,
        *,
        clock: Clock,
        monotonic: Callable[[], float] = time.monotonic,
        scores: Scores | None = None,
    ) -> None:
        self._cipher = cipher
        self._client = client
        self._clock = clock
        # Leases are measured by this one: it is never set back.
        self._monotonic = monotonic
        self._looks = Looks(monotonic=monotonic)
        self._pool = ThreadPoolExecutor(SENDERS_MAX, thread_name_prefix="dispatcher")
        self._lock = threading.Lock()
        self._scores: Scores = {} if scores is None else scores
        self._queues: dict[int, EndpointQueue] = {}
        # Those that are quick and have waited for a sender, the first one first.
        self._held: dict[int, EndpointQueue] = {}
        # Those that share senders and had their part of this round.
        self._served: set[int] = set()
        self._unreadable_until: dict[int, float] = {}
        self._unreported = False
        self._results: SimpleQueue[tuple[ClaimedDelivery, Attempt | None]] = SimpleQueue()
        self._unsettled: list[tuple[ClaimedDelivery, Attempt | None]] = []
        self._drained_from: float | None = None

    def step(self) -> int:
        """Settle what has been tried, claim what there is capacity for; return how many deliveries that moved on.

        Raises what the database raises; what could not be settled is settled in a later step.
        """
        settled = self._settle()
        claimed, round_ended = self._claim()
        if round_ended:
            self._served.clear()
            claimed += self._claim()[0]
        return settled + claimed

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
        """Take no more from endpoints that are sick, and serve the others until none of those is under way."""
        self._drained_from = self._monotonic()
        while self._let_others_end() and self._monotonic() < self._drained_from + DRAIN_SECONDS_MAX:
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

    def _hand_back(self, queue: EndpointQueue, *, keep: int = 0) -> None:
        while len(queue.waiting) > keep:
            self._results.put((queue.waiting.pop()[0], None))

    def _let_others_end(self) -> bool:
        """Return whether anything is still being sent to an endpoint that is not known to be quick."""
        with self._lock:
            now = self._monotonic()
            return any(queue.running and queue.standing(now) is not Standing.QUICK for queue in self._queues.values())

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

    def _claim(self) -> tuple[int, bool]:
        """Return how many deliveries were claimed, and whether all endpoints that share senders had their part."""
        # Leases and looks begin when the claim is asked for, however long the database takes over it.
        began = self._monotonic()
        allocation = self._allocation(began)
        claimed = claims.claim(
            self._cipher, capacity=allocation, now=self._clock(), on_unreadable=self._pass_over_unreadable
        )
        self._looks.note([delivery.endpoint for delivery in claimed], began)
        self._load(claimed, began + UNTRIED_AFTER_SECONDS)
        if self._unreported:
            self._unreported = False
            stored_secrets.report(self._cipher, now=self._clock())
        return len(claimed), allocation.passed_over and not allocation.granted

    def _allocation(self, now: float) -> "_Allocation":
        with self._lock:
            for queue in self._queues.values():
                if queue.waiting and queue.standing(now) is Standing.SICK:
                    # It hangs: what waits for it here waits as well in the table.
                    self._hand_back(queue, keep=queue.free_senders)
            self._start_held(now)
            return _Allocation(self._places, Senders.of(self._queues.values(), now), now)

    def _places(self, waiting: claims.Waiting, allocation: "_Allocation") -> int:
        with self._lock:
            now, senders = allocation.now, allocation.senders
            if self._unreadable_until.get(waiting.id, now) > now:
                return 0
            queue = self._queue(waiting.id, waiting.url, failing=waiting.failing)
            standing = queue.standing(now)
            if standing is Standing.QUICK:
                return places(queue, senders, now)
            if self._ends_without(standing, now):
                return 0
            if waiting.id in self._served:
                # Once in a round, so that a long backlog of one keeps nobody else from the senders that they share.
                allocation.passed_over |= senders.free(standing) > 0 and queue.in_hand < queue.senders_max(now)
                return 0
            granted = places(queue, senders, now)
            allocation.granted += granted
            return granted

    def _ends_without(self, standing: Standing, now: float) -> bool:
        """Return whether this dispatcher is about to end, and would have to wait for such an endpoint."""
        if self._drained_from is None:
            return False
        return standing is Standing.SICK or now > self._drained_from + DELIVERY_SECONDS

    def _pass_over_unreadable(self, endpoint_id: int) -> None:
        self._unreadable_until[endpoint_id] = self._monotonic() + RETRY_AFTER_SECONDS
        self._unreported = True

    def _load(self, deliveries: Sequence[ClaimedDelivery], until: float) -> None:
        with self._lock:
            now = self._monotonic()
            senders = Senders.of(self._queues.values(), now)
            for delivery in deliveries:
                queue = self._queue(delivery.endpoint.id, delivery.endpoint.url, failing=delivery.endpoint.failing)
                self._queues[queue.endpoint_id] = queue
                queue.failing = delivery.endpoint.failing
                queue.waiting.append((delivery, until))
                if queue.standing(now) is not Standing.QUICK:
                    self._served.add(queue.endpoint_id)
                self._start(queue, senders, now)

    def _queue(self, endpoint_id: int, url: str, *, failing: bool) -> EndpointQueue:
        queue = self._queues.get(endpoint_id)
        return queue or EndpointQueue(endpoint_id, url, failing=failing, scores=self._scores)

    def _start(self, queue: EndpointQueue, senders: Senders, now: float) -> None:
        """Give a queue one more sender if it may have one, or hold it until there is one if it has none."""
        standing = queue.standing(now)
        if not queue.waiting or queue.running >= queue.senders_max(now):
            return
        if senders.free(standing) > 0:
            senders.take(standing, 1)
            queue.running += 1
            self._pool.submit(self._work, queue)
        elif not queue.running:
            self._held[queue.endpoint_id] = queue

    def _start_held(self, now: float) -> None:
        if self._held:
            held, self._held = self._held, {}
            senders = Senders.of(self._queues.values(), now)
            for queue in held.values():
                self._start(queue, senders, now)

    def _work(self, queue: EndpointQueue) -> None:
        """Send what waits in a queue, one after the other, until nothing does."""
        delivery = self._next(queue)
        while delivery is not None:
            delivery = self._next(queue, (delivery, self._try(delivery)))

    def _next(
        self, queue: EndpointQueue, done: tuple[ClaimedDelivery, Attempt | None] | None = None
    ) -> ClaimedDelivery | None:
        """Note what was done, and return what is to be done next: nothing if others have waited for a sender."""
        with self._lock:
            now = self._monotonic()
            if done is not None:
                self._note(queue, *done, now)
            while queue.waiting and queue.running <= queue.senders_max(now) and not (done and self._held):
                delivery, until = queue.waiting.popleft()
                if now < until:
                    queue.begin(delivery, now)
                    return delivery
                # Its lease could run out while it is tried, and another worker would try it too.
                self._results.put((delivery, None))
            queue.running -= 1
            if queue.waiting and not queue.running:
                self._held[queue.endpoint_id] = queue
            self._start_held(now)
            return None

    def _note(self, queue: EndpointQueue, delivery: ClaimedDelivery, attempt: Attempt | None, now: float) -> None:
        queue.end(delivery, attempt, now)
        self._results.put((delivery, attempt))
        if attempt is not None and attempt.status == retry.GONE:
            # It wants nothing more, and what has been claimed for it already is paused with the rest.
            self._hand_back(queue)
        elif queue.standing(now) is Standing.SICK:
            self._hand_back(queue, keep=queue.free_senders)

    def _try(self, delivery: ClaimedDelivery) -> Attempt | None:
        """Return what came of an attempt; None if it was not made, so that it is given back."""
        try:
            return webhook.send(self._client, delivery, clock=self._clock, is_current=self._looks.is_current)
        except Withdrawn:
            return None
        except Exception as error:
            if is_unavailable(error):
                log_unavailable("worker", error)
                return None
            log_crash(f"delivery {delivery.delivery_id}", error)
            return Attempt(
                started_at=self._clock(),
                duration_ms=0,
                status=None,
                excerpt="",
                error="This event could not be written; the log of the worker says why.",
                retry_after_seconds=None,
            )


class _Allocation:
    """How many deliveries one claim may take for each endpoint; called once for each that has something due."""

    def __init__(self, places: "Callable[[claims.Waiting, _Allocation], int]", senders: Senders, now: float) -> None:
        self.senders = senders
        self.now = now
        self.granted = 0
        self.passed_over = False
        self._places = places

    def __call__(self, waiting: claims.Waiting) -> int:
        return self._places(waiting, self)

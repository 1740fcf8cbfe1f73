"""A worker's hands: takes deliveries that are due, has them sent side by side, and settles what came of them.

Used by the worker and by the Celery task, in whose thread it speaks to the database; its own threads only send.
"""

import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, SimpleQueue

from context import Clock
from database.failures import is_unavailable, log_crash
from encryption import Vault
from http_client.client import Client
from limits import (
    DELIVERY_SECONDS,
    LANE_ROUNDS,
    LANE_SENDERS_MAX,
    LEASE_SECONDS,
    QUICK_SECONDS,
    SENDERS_MAX,
    SLOW_LANE_SENDERS_MAX,
    TICK_SECONDS,
)
from outbox import claims, results, retry
from outbox.channels import webhook
from outbox.delivery import Attempt, Parcel

UNTRIED_AFTER_SECONDS = LEASE_SECONDS - 2 * DELIVERY_SECONDS
"""How long after it was claimed a delivery may still be begun, with time to spare for clocks that differ."""


class Courier:
    """Sends deliveries until it is closed; one endpoint that is slow, or fails, keeps few of its threads busy."""

    def __init__(self, vault: Vault, client: Client, *, clock: Clock) -> None:
        self._vault = vault
        self._client = client
        self._clock = clock
        self._pool = ThreadPoolExecutor(SENDERS_MAX, thread_name_prefix="courier")
        self._lock = threading.Lock()
        self._lanes: dict[int, _Lane] = {}
        self._results: SimpleQueue[tuple[Parcel, Attempt | None]] = SimpleQueue()
        self._unsettled: list[tuple[Parcel, Attempt | None]] = []
        self._winding_down = False

    def step(self) -> int:
        """Settle what has been tried, claim what there is room for; return how many deliveries that moved on.

        Raises what the database raises; what could not be settled is settled in a later step.
        """
        settled = self._settle()
        # Leases begin when the claim is asked for, however long the database takes over it.
        until = time.monotonic() + UNTRIED_AFTER_SECONDS
        claimed = claims.claim(self._vault, room=self._room, now=self._clock())
        self._load(claimed, until)
        return settled + len(claimed)

    def rest(self, seconds: float) -> None:
        """Wait until a delivery has been tried, but no longer than this."""
        try:
            self._unsettled.append(self._results.get(timeout=seconds))
        except Empty:
            return

    def is_idle(self) -> bool:
        """Tell whether nothing is under way and nothing waits to be settled."""
        with self._lock:
            under_way = any(lane.in_hand for lane in self._lanes.values())
        return not under_way and self._results.empty() and not self._unsettled

    def wind_down(self) -> None:
        """Take no more from endpoints that are slow, and serve the others until nothing slow is under way."""
        ends_at = time.monotonic() + DELIVERY_SECONDS
        self._winding_down = True
        while self._let_slow_end() and time.monotonic() < ends_at:
            if not self.step():
                self.rest(TICK_SECONDS)

    def close(self) -> None:
        """Give back what was not begun, wait for what was, and settle it."""
        with self._lock:
            for lane in self._lanes.values():
                self._hand_back(lane)
        self._pool.shutdown()
        self._client.close()
        self._settle()

    def _hand_back(self, lane: "_Lane") -> None:
        for parcel, _ in lane.waiting:
            self._results.put((parcel, None))
        lane.waiting.clear()

    def _let_slow_end(self) -> bool:
        """Give back what waits for slow endpoints, and tell whether anything is still being sent to one."""
        with self._lock:
            slow = [lane for lane in self._lanes.values() if not lane.quick]
            for lane in slow:
                self._hand_back(lane)
            return any(lane.running for lane in slow)

    def _settle(self) -> int:
        while not self._results.empty():
            self._unsettled.append(self._results.get())
        tried = [(parcel, attempt) for parcel, attempt in self._unsettled if attempt is not None]
        untried = [parcel for parcel, attempt in self._unsettled if attempt is None]
        try:
            if tried:
                results.settle(tried, now=self._clock())
            self._unsettled = [(parcel, None) for parcel in untried]
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

    def _settle_apart(self, tried: Sequence[tuple[Parcel, Attempt]]) -> None:
        for parcel, attempt in tried:
            try:
                results.settle([(parcel, attempt)], now=self._clock())
            except Exception as error:
                if is_unavailable(error):
                    raise
                log_crash(f"the attempt at delivery {parcel.delivery_id}", error)

    def _room(self, endpoint_id: int) -> int:
        with self._lock:
            if sum(lane.running for lane in self._lanes.values()) >= SENDERS_MAX:
                return 0
            lane = self._lanes.get(endpoint_id)
            if self._winding_down and lane is not None and not lane.quick:
                return 0
            lane = lane or _Lane()
            return LANE_ROUNDS * lane.senders_max - lane.in_hand

    def _load(self, parcels: Sequence[Parcel], until: float) -> None:
        with self._lock:
            for parcel in parcels:
                lane = self._lanes.setdefault(parcel.receiver.id, _Lane())
                lane.failing = parcel.receiver.failing
                lane.waiting.append((parcel, until))
                if lane.running < lane.senders_max:
                    lane.running += 1
                    self._pool.submit(self._work, lane)

    def _work(self, lane: "_Lane") -> None:
        """Send what waits in a lane, one after the other, until nothing does."""
        while (parcel := self._next(lane)) is not None:
            attempt = self._try(parcel)
            lane.note(attempt)
            self._results.put((parcel, attempt))
            if attempt.status == retry.GONE:
                # It wants nothing more, and what has been claimed for it already is parked with the rest.
                with self._lock:
                    self._hand_back(lane)

    def _next(self, lane: "_Lane") -> Parcel | None:
        with self._lock:
            while lane.waiting and lane.running <= lane.senders_max:
                parcel, until = lane.waiting.popleft()
                if time.monotonic() < until:
                    return parcel
                # Its lease could run out while it is tried, and another worker would try it too.
                self._results.put((parcel, None))
            lane.running -= 1
            return None

    def _try(self, parcel: Parcel) -> Attempt:
        try:
            return webhook.send(self._client, parcel, clock=self._clock)
        except Exception as error:
            log_crash(f"delivery {parcel.delivery_id}", error)
            return Attempt(
                started_at=self._clock(),
                duration_ms=0,
                status=None,
                excerpt="",
                error="This event could not be written; the log of the worker says why.",
                retry_after_seconds=None,
            )


class _Lane:
    """What one worker has in hand for one endpoint, and how well that endpoint takes it."""

    def __init__(self) -> None:
        self.waiting: deque[tuple[Parcel, float]] = deque()
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
        return LANE_SENDERS_MAX if self.quick else SLOW_LANE_SENDERS_MAX

    def note(self, attempt: Attempt) -> None:
        """Learn from an attempt."""
        self.failing = not retry.is_delivered(attempt.status)
        self.quick = not self.failing and attempt.duration_ms <= QUICK_SECONDS * 1000

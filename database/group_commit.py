"""Credits that arrive while one transaction is being committed share the next one.

Used by services.receive_webhook(), whose transaction it opens; each caller hears of its own credit,
and only after the commit that holds it. Knows neither money nor tables.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from database.failures import is_contention, is_lost_connection, is_unavailable
from database.session import current_engine, survives_deadlock, transaction
from errors import Busy, DatabaseUnavailable
from limits import BATCH_CREDITS_MAX, QUEUE_CREDITS_MAX

Item = TypeVar("Item")
Result = TypeVar("Result")


class GroupCommit(Generic[Item, Result]):
    """Runs `take(session, items)` in one transaction for all who wait, and gives each its own result.

    There is no thread that commits, and so nothing to start after a fork or to stop at the end. Of the callers
    themselves the first leads: it takes everybody who waits into its transaction, commits, wakes them, and lets the
    first of those who came meanwhile lead the next one. A caller that is alone does as it would have done without this.

    Limits: QUEUE_CREDITS_MAX wait in one process, others are refused at once (Busy); BATCH_CREDITS_MAX share one
    transaction. When it fails because of one of them, each runs again by itself, side by side, so that an error
    reaches whom it concerns. Only for a `take` that may run twice: a connection that is lost in mid-commit leaves
    open whether it was committed.
    """

    def __init__(self, take: Callable[[Session, Sequence[Item]], Sequence[Result]]) -> None:
        self._take = take
        self._queues: WeakKeyDictionary[Engine, _Queue[Item, Result]] = WeakKeyDictionary()

    def run(self, item: Item) -> Result:
        """Return the result for this item, once it is committed; raise Busy, or what its transaction raised."""
        waiter: _Waiter[Item, Result] = _Waiter(item)
        engine = current_engine()
        queue = self._queues.get(engine) or self._queues.setdefault(engine, _Queue())
        queue.join(waiter)
        if waiter.is_leader:
            self._lead(queue, waiter)
        return self._commit_surely([item])[0] if waiter.alone else waiter.outcome()

    def _lead(self, queue: "_Queue[Item, Result]", leader: "_Waiter[Item, Result]") -> None:
        batch = [leader]
        try:
            queue.gather()
            batch += queue.take_batch()
            self._settle(batch)
        finally:
            # Also when this caller was stopped in the middle: nobody may wait for ever.
            queue.promote_next()
            for waiter in batch:
                waiter.woken.set()

    def _settle(self, batch: "Sequence[_Waiter[Item, Result]]") -> None:
        try:
            results = self._commit_surely([waiter.item for waiter in batch])
        except Exception as error:
            apart = len(batch) > 1 and (is_contention(error) or not is_unavailable(error))
            for waiter in batch:
                waiter.alone = apart
            # Raised by its leader alone: many who raise one exception would tie up all that each of them holds.
            batch[0].error = error
        else:
            for waiter, result in zip(batch, results, strict=True):
                waiter.result = result

    def _commit_surely(self, items: Sequence[Item]) -> Sequence[Result]:
        """Commit, and once more on a new connection when the first was lost: what was committed is a repeat then."""
        try:
            return self._commit(items)
        except Exception as error:
            if not is_lost_connection(error):
                raise
        return self._commit(items)

    @survives_deadlock
    def _commit(self, items: Sequence[Item]) -> Sequence[Result]:
        with transaction() as session:
            return self._take(session, items)


class _Waiter(Generic[Item, Result]):
    """One caller: what it brought, and what became of it."""

    def __init__(self, item: Item) -> None:
        self.item = item
        self.is_leader = False
        self.alone = False
        self.error: Exception | None = None
        self.result: Result | None = None
        self.woken = threading.Event()

    def outcome(self) -> Result:
        """Return what the transaction gave, or raise what it raised."""
        if self.error is not None:
            raise self.error
        if self.result is None:
            raise DatabaseUnavailable("The transaction did not go through. Send the same again; it is counted once.")
        return self.result


class _Queue(Generic[Item, Result]):
    """Those who wait for one database in one process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.has_leader = False
        self.waiting: deque[_Waiter[Item, Result]] = deque()

    def join(self, waiter: _Waiter[Item, Result]) -> None:
        """Let a caller lead when nobody does, or else wait until it leads or its result is there."""
        with self.lock:
            if len(self.waiting) >= QUEUE_CREDITS_MAX:
                raise Busy
            waiter.is_leader = not self.has_leader
            self.has_leader = True
            if not waiter.is_leader:
                self.waiting.append(waiter)
        if not waiter.is_leader:
            self._wait(waiter)

    def gather(self) -> None:
        """Let those come who are about to: give way until a turn of all others has brought nobody new."""
        came = -1
        while came < len(self.waiting) < BATCH_CREDITS_MAX:
            came = len(self.waiting)
            time.sleep(0)

    def take_batch(self) -> list[_Waiter[Item, Result]]:
        """Return those who come along in the leader's transaction: everybody who waits, as many as fit."""
        with self.lock:
            places = min(len(self.waiting), BATCH_CREDITS_MAX - 1)
            return [self.waiting.popleft() for _ in range(places)]

    def promote_next(self) -> None:
        """Let the first of those who wait lead the next transaction."""
        with self.lock:
            self.has_leader = bool(self.waiting)
            if self.has_leader:
                following = self.waiting.popleft()
                following.is_leader = True
                following.woken.set()

    def _wait(self, waiter: _Waiter[Item, Result]) -> None:
        try:
            waiter.woken.wait()
        except BaseException:
            # Stopped while waiting, as a worker that ends does to its requests: the lead must not stay with it.
            with self.lock:
                if waiter in self.waiting:
                    self.waiting.remove(waiter)
            if waiter.is_leader:
                self.promote_next()
            raise

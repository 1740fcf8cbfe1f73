"""A group commit whose first transaction a test holds open."""

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from database.group_commit import GroupCommit
from limits import QUEUE_CREDITS_MAX
from tests.waiting import PATIENCE_SECONDS, wait_until


def echo(_session: Any, items: Sequence[Any]) -> list[Any]:
    return [f"took {item}" for item in items]


class HeldGroup:
    """A group whose first transaction is held open, so that a test decides who comes along in the second."""

    def __init__(self, app, take=echo) -> None:
        self.app = app
        self.take = take
        self.batches: list[list[Any]] = []
        self.held = threading.Event()
        self.group = GroupCommit(self._take)
        self.pool = ThreadPoolExecutor(QUEUE_CREDITS_MAX + 2)

    def _take(self, session: Any, items: Sequence[Any]) -> Sequence[Any]:
        self.batches.append(list(items))
        if len(self.batches) == 1:
            assert self.held.wait(PATIENCE_SECONDS)
            return [None if item == "first" else item for item in items]
        return self.take(session, items)

    def submit(self, item: Any) -> "Future[Any]":
        def run() -> Any:
            with self.app.app_context():
                return self.group.run(item)

        return self.pool.submit(run)

    def submit_all(self, items: Sequence[Any]) -> "list[Future[Any]]":
        """Let these come, in this order, while the first transaction is held open; then let it go on."""
        self.submit("first")
        wait_until(lambda: self.batches)
        callers = []
        for number, item in enumerate(items, 1):
            callers.append(self.submit(item))
            wait_until(lambda number=number: self.waiting() == number)
        return callers

    def waiting(self) -> int:
        return sum(len(queue.waiting) for queue in self.group._queues.values())

    def result_of(self, items: Sequence[Any]) -> list[Any]:
        """Return what each of these received: its result, or its error."""
        callers = self.submit_all(items)
        self.held.set()
        return [caller.exception(PATIENCE_SECONDS) or caller.result() for caller in callers]

    def close(self) -> None:
        self.held.set()
        self.pool.shutdown()

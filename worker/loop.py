"""Door: the clock. Runs every job again and again in one process, without a broker, until it is told to stop.

Called by `flask worker`. Any number of these may run, on any number of machines.
"""

import logging
import threading
import time
from collections.abc import Callable

from database.failures import is_unavailable, log_crash, log_unavailable
from limits import RETRY_AFTER_SECONDS, TICK_SECONDS
from worker import jobs

log = logging.getLogger("kopeck")


def run(stop: threading.Event) -> None:
    """Work until `stop` is set; then finish what was begun."""
    courier = jobs.new_courier()
    turns = [_Turn(step) for step in (jobs.credit_some, jobs.replay_some, courier.step)]
    try:
        while not stop.is_set():
            # Short turns, so that none waits for another's backlog, and each by itself, so that none stops the others.
            if not sum([turn.take() for turn in turns]):
                courier.rest(TICK_SECONDS)
    finally:
        courier.close()


class _Turn:
    """One job's part of the loop; after a failure it is passed over for a while."""

    def __init__(self, step: Callable[[], int]) -> None:
        self._step = step
        self._not_before = 0.0

    def take(self) -> int:
        """Return how much the job found to do; nothing when it failed, which is said in the log."""
        if time.monotonic() < self._not_before:
            return 0
        try:
            return self._step()
        except Exception as error:
            _tell(error)
            self._not_before = time.monotonic() + RETRY_AFTER_SECONDS
            return 0


def _tell(error: Exception) -> None:
    if is_unavailable(error):
        log_unavailable("worker", error)
    else:
        log_crash("worker", error)

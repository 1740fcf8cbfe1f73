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
    dispatcher = jobs.new_dispatcher()
    runners = [_JobRunner(step) for step in (jobs.credit_some, jobs.replay_some, dispatcher.step)]
    _JobRunner(jobs.look_at_start).run()
    try:
        while not stop.is_set():
            # A little of each job, so that none waits for another's backlog; each by itself, so that none stops others.
            if not sum([runner.run() for runner in runners]):
                dispatcher.wait(TICK_SECONDS)
    finally:
        dispatcher.close()


class _JobRunner:
    """One job's part of the loop; after a failure it is passed over for a while."""

    def __init__(self, step: Callable[[], int], *, pause_seconds: float = RETRY_AFTER_SECONDS) -> None:
        self._step = step
        self._pause_seconds = pause_seconds
        self._not_before = 0.0

    def run(self) -> int:
        """Return how much the job found to do; nothing when it failed, which is said in the log."""
        if time.monotonic() < self._not_before:
            return 0
        try:
            return self._step()
        except Exception as error:
            _log(error)
            self._not_before = time.monotonic() + self._pause_seconds
            return 0


def _log(error: Exception) -> None:
    if is_unavailable(error):
        log_unavailable("worker", error)
    else:
        log_crash("worker", error)

"""Door: the clock. Runs every job again and again in one process, without a broker, until it is told to stop.

Called by `flask worker`. Any number of these may run, on any number of machines.
"""

import logging
import threading
from collections.abc import Callable

import jobs
from errors import is_unavailable, log_crash, log_unavailable
from limits import RETRY_AFTER_SECONDS, TICK_SECONDS

log = logging.getLogger("kopeck")


def run(stop: threading.Event) -> None:
    """Work until `stop` is set; then finish what was begun."""
    courier = jobs.new_courier()
    try:
        while not stop.is_set():
            # Short turns, so that none waits for another's backlog, and each by itself, so that none stops the others.
            turns = [_turn(step) for step in (jobs.credit_some, jobs.replay_some, courier.step)]
            if None in turns:
                stop.wait(RETRY_AFTER_SECONDS)
            elif not any(turns):
                courier.rest(TICK_SECONDS)
    finally:
        courier.close()


def _turn(step: Callable[[], int]) -> int | None:
    """Return how much a job found to do, or None after saying why it could not."""
    try:
        return step()
    except Exception as error:
        _tell(error)
        return None


def _tell(error: Exception) -> None:
    if is_unavailable(error):
        log_unavailable("worker", error)
    else:
        log_crash("worker", error)

"""Door: the clock. Runs every job again and again in one process, without a broker, until it is told to stop.

Called by `flask worker`. Any number of these may run, on any number of machines.
"""

import logging
import threading

import jobs
from errors import is_unavailable, log_crash, log_unavailable
from limits import RETRY_AFTER_SECONDS, TICK_SECONDS

log = logging.getLogger("kopeck")


def run(stop: threading.Event) -> None:
    """Work until `stop` is set; then finish what was begun."""
    courier = jobs.new_courier()
    try:
        while not stop.is_set():
            try:
                # Short turns, so that none of the three waits for another's backlog.
                if not (jobs.credit_some() + jobs.replay_some() + courier.step()):
                    courier.rest(TICK_SECONDS)
            except Exception as error:
                _tell(error)
                stop.wait(RETRY_AFTER_SECONDS)
    finally:
        courier.close()


def _tell(error: Exception) -> None:
    if is_unavailable(error):
        log_unavailable("worker", error)
    else:
        log_crash("worker", error)

"""When a delivery is tried again: a pure decision, without a clock and without a table."""

MINUTE, HOUR = 60, 3600


RETRY_SECONDS = (5, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR, 10 * HOUR, 14 * HOUR, 20 * HOUR, 24 * HOUR)
"""How long after its first, second … failed attempt a delivery is tried again; after the last it is exhausted."""


RETRY_JITTER = 0.1
"""By which share a wait may be shorter or longer, so that what failed together does not come back together."""


ASKED_WAIT_SECONDS_MAX = 24 * HOUR
"""The longest Retry-After that is honoured; the shortest is the first wait of the schedule."""


GONE = 410

REFUSES_BODY = (400, 413, 415, 422)
"""What a receiver answers that will not take this event, however often it comes."""

ORDERED_REFUSALS_MAX = 4
"""After so many failed attempts one that is refused so is given up, if others wait behind it."""


ASKS_TO_WAIT = (429, 503)


def is_delivered(status: int | None) -> bool:
    """Return whether an endpoint's answer means that it has taken the event."""
    return status is not None and 200 <= status < 300


def retry_in(
    failures: int, *, jitter: float, status: int | None = None, asked: int | None = None, ordered: bool = False
) -> float | None:
    """Return in how many seconds a delivery is due again after so many failures, or None when it is exhausted.

    `jitter` is drawn evenly from 0 to 1; `asked` is the Retry-After that came with `status`, in seconds; behind a
    delivery that is `ordered` others wait.
    """
    is_refused = ordered and status in REFUSES_BODY and failures >= ORDERED_REFUSALS_MAX
    if failures > len(RETRY_SECONDS) or is_refused:
        return None
    if status in ASKS_TO_WAIT and asked is not None:
        return float(min(max(asked, RETRY_SECONDS[0]), ASKED_WAIT_SECONDS_MAX))
    return RETRY_SECONDS[failures - 1] * (1 + RETRY_JITTER * (2 * jitter - 1))

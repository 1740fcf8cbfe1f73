"""How tests wait for what another thread or process does."""

import time
from collections.abc import Callable

PATIENCE_SECONDS = 120


def wait_until(condition: Callable[[], object], why: str | Callable[[], object] = "") -> None:
    """Ask again and again whether something has come true, and give up some day, saying why."""
    ends_at = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < ends_at, f"this never came true: {why() if callable(why) else why}"
        time.sleep(0.01)

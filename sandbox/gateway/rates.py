"""The rate limit: how often one address may pay in a minute.

It is counted in the memory of one process.
"""

import threading
from collections import OrderedDict, deque
from datetime import datetime, timedelta

MINUTE = timedelta(minutes=1)
ADDRESSES_MAX = 10_000


class Limiter:
    """Counts calls by address over the last minute; thread-safe."""

    def __init__(self, per_minute: int) -> None:
        self.per_minute = per_minute
        self._lock = threading.Lock()
        self._calls: OrderedDict[str, deque[datetime]] = OrderedDict()

    def allows(self, address: str, now: datetime) -> bool:
        """Count a call and return whether it is within the limit; 0 means no limit."""
        if not self.per_minute:
            return True
        with self._lock:
            calls = self._calls.setdefault(address, deque())
            self._calls.move_to_end(address)
            if len(self._calls) > ADDRESSES_MAX:
                self._calls.popitem(last=False)
            while calls and calls[0] <= now - MINUTE:
                calls.popleft()
            if len(calls) >= self.per_minute:
                return False
            calls.append(now)
            return True

    def message(self) -> str:
        """Return the error message of upstream's library."""
        return f"Rate limit exceeded: {self.per_minute} per 1 minute"

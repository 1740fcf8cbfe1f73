"""How often one address may pay in a minute; counted in this process alone.

Called by the wire. Forgets everything when the process ends.
"""

import threading
from collections import OrderedDict, deque
from datetime import datetime, timedelta

MINUTE = timedelta(minutes=1)
ADDRESSES_MAX = 10_000


class Limiter:
    """Counts calls by address over the last minute; safe for several threads."""

    def __init__(self, per_minute: int) -> None:
        self.per_minute = per_minute
        self._lock = threading.Lock()
        self._calls: OrderedDict[str, deque[datetime]] = OrderedDict()

    def allows(self, address: str, now: datetime) -> bool:
        """Count a call, and tell whether it is within the limit; a limit of 0 is none."""
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

    def words(self) -> str:
        """Return what a caller is told who is over the limit, as upstream's library words it."""
        return f"Rate limit exceeded: {self.per_minute} per 1 minute"

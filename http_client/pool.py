"""Connections that are kept open between requests.

Used by the client alone. Never opens a connection.
"""

import threading
from collections import OrderedDict

from http_client.addresses import Target
from http_client.connection import Connection


class ConnectionPool:
    """The connections that wait for the next request, by scheme, host and port; those least in use give way."""

    def __init__(self, *, connections_max: int, reuse_seconds: float) -> None:
        self._lock = threading.Lock()
        self._connections: OrderedDict[tuple[str, str, int], list[Connection]] = OrderedDict()
        self._free = connections_max
        self._reuse_seconds = reuse_seconds

    def take(self, target: Target) -> Connection | None:
        """Return a connection that may be used, if there is one."""
        while connection := self._pop(target[:3]):
            if connection.is_usable(self._reuse_seconds):
                return connection
            connection.close()
        return None

    def keep(self, target: Target, connection: Connection) -> None:
        """Keep a connection, or close it if it cannot be used again."""
        surplus: Connection | None = connection
        if connection.is_reusable:
            with self._lock:
                surplus = self._swap(target[:3], connection)
        if surplus:
            surplus.close()

    def close(self) -> None:
        """Close all of them, and keep none from now on."""
        with self._lock:
            connections = [connection for those in self._connections.values() for connection in those]
            self._connections.clear()
            self._free = 0
        for connection in connections:
            connection.close()

    def _pop(self, origin: tuple[str, str, int]) -> Connection | None:
        with self._lock:
            connections = self._connections.get(origin)
            if not connections:
                return None
            self._free += 1
            connection = connections.pop()
            if not connections:
                del self._connections[origin]
            return connection

    def _swap(self, origin: tuple[str, str, int], connection: Connection) -> Connection | None:
        """Put a connection in, and return the one that had to give way."""
        if not self._free and not self._connections:
            return connection
        self._connections.setdefault(origin, []).append(connection)
        self._connections.move_to_end(origin)
        if self._free:
            self._free -= 1
            return None
        stalest, connections = next(iter(self._connections.items()))
        surplus = connections.pop(0)
        if not connections:
            del self._connections[stalest]
        return surplus

"""Connections that are kept open between requests.

Used by the client alone. Never opens a connection.
"""

import threading
from collections import OrderedDict
from typing import NamedTuple

from http_client.connection import Connection
from http_client.proxy import Proxy


class Origin(NamedTuple):
    """Whom a connection leads to, and the proxy through which it does."""

    scheme: str
    host: str
    port: int
    proxy: Proxy | None


class ConnectionPool:
    """The connections that wait for the next request, by where they lead to; those least in use give way."""

    def __init__(self, *, connections_max: int, reuse_seconds: float) -> None:
        self._lock = threading.Lock()
        self._connections: OrderedDict[Origin, list[Connection]] = OrderedDict()
        self._free = connections_max
        self._reuse_seconds = reuse_seconds

    def take(self, origin: Origin) -> Connection | None:
        """Return a connection that may be used, if there is one."""
        while connection := self._pop(origin):
            if connection.is_usable(self._reuse_seconds):
                return connection
            connection.close()
        return None

    def keep(self, origin: Origin, connection: Connection) -> None:
        """Keep a connection, or close it if it cannot be used again."""
        surplus: Connection | None = connection
        if connection.is_reusable:
            with self._lock:
                surplus = self._swap(origin, connection)
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

    def _pop(self, origin: Origin) -> Connection | None:
        with self._lock:
            connections = self._connections.get(origin)
            if not connections:
                return None
            self._free += 1
            connection = connections.pop()
            if not connections:
                del self._connections[origin]
            return connection

    def _swap(self, origin: Origin, connection: Connection) -> Connection | None:
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

"""Requests to somebody else: one POST, one answer, within hard limits of time and size.

Called by the CLI and by whoever delivers events. Never follows a redirect, never uses a proxy, never sends twice,
and never decides what an answer means.
"""

import re
import socket
from collections.abc import Mapping
from pathlib import Path

from http_client import addresses
from http_client.addresses import Target
from http_client.connection import AddressRefused, Answer, Deadline, Unreachable
from http_client.dialer import Dialer, Resolver, resolve, trust
from http_client.pool import ConnectionPool
from limits import (
    DELIVERY_CONNECT_SECONDS,
    DELIVERY_SECONDS,
    EXCERPT_BYTES_MAX,
    IDLE_CONNECTIONS_MAX,
    REUSE_SECONDS,
    SHELL_ANSWER_BYTES_MAX,
    SHELL_SECONDS,
)

HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+: [\t\x20-\x7e]*")


def is_free(host: str, port: int) -> bool:
    """Return whether this machine could listen on an address."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def post(url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
    """POST a body once for a person at the shell, to any address, and return the answer; raise Unreachable."""
    dialer = Dialer(may_reach=lambda _: True, resolve=resolve, connect_seconds=DELIVERY_CONNECT_SECONDS)
    target = _target(url)
    deadline = Deadline(SHELL_SECONDS)
    try:
        connection = dialer.connect(target, deadline)
        try:
            return connection.exchange(_request(target, body, headers), deadline, SHELL_ANSWER_BYTES_MAX)
        finally:
            connection.close()
    except Unreachable as problem:
        raise Unreachable(
            f"{problem} Is the server running (`make run`)? If on another port, put PORT=… into .env, or give --url."
        ) from None


class Client:
    """Keeps connections to endpoints open between deliveries; safe for several threads.

    Connects only to addresses of the public internet, and connects to the very address that it has judged, so that
    DNS cannot change its mind in between. A connection that is kept leads to such an address; it is used again only
    if nothing has come over it meanwhile, neither its end nor an answer that nobody asked for.

    `ca_bundle` is a PEM file of authorities that are trusted beside those of browsers.
    """

    def __init__(
        self,
        *,
        loopback_allowed: bool,
        https_only: bool = False,
        resolve: Resolver = resolve,
        connect_seconds: float = DELIVERY_CONNECT_SECONDS,
        seconds: float = DELIVERY_SECONDS,
        idle_connections_max: int = IDLE_CONNECTIONS_MAX,
        reuse_seconds: float = REUSE_SECONDS,
        ca_bundle: Path | None = None,
    ) -> None:
        self._https_only = https_only
        self._dialer = Dialer(
            may_reach=lambda address: addresses.is_allowed(address, loopback_allowed=loopback_allowed),
            resolve=resolve,
            connect_seconds=connect_seconds,
            tls=trust(ca_bundle),
        )
        self._seconds = seconds
        self._pool = ConnectionPool(connections_max=idle_connections_max, reuse_seconds=reuse_seconds)

    def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """POST a body once and return the answer, whatever its status; raise Unreachable.

        A body that breaks off within its first EXCERPT_BYTES_MAX, or is not there in time, is no answer, even if it
        began with a 200: to deliver again does no harm, and to believe half an answer could lose an event.
        """
        target = _target(url)
        if self._https_only and target.scheme != "https":
            raise AddressRefused(addresses.NOT_HTTPS)
        request = _request(target, body, headers)
        deadline = Deadline(self._seconds)
        connection = self._pool.take(target) or self._dialer.connect(target, deadline)
        try:
            answer = connection.exchange(request, deadline, EXCERPT_BYTES_MAX)
        except BaseException:
            connection.close()
            raise
        self._pool.keep(target, connection)
        return answer

    def close(self) -> None:
        """Close the connections that are kept, and keep none from now on."""
        self._pool.close()


def _target(url: str) -> Target:
    try:
        return addresses.split(url)
    except addresses.Unusable as problem:
        raise AddressRefused(str(problem)) from None


def _request(target: Target, body: bytes, headers: Mapping[str, str]) -> bytes:
    """Write a request as it goes out; raise ValueError for a header that would be more than one."""
    host = f"[{target.host}]" if ":" in target.host else target.host
    lines = [
        f"Host: {host}" if target.port == addresses.USUAL_PORTS[target.scheme] else f"Host: {host}:{target.port}",
        "User-Agent: Kopeck",
        "Accept-Encoding: identity",
        f"Content-Length: {len(body)}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    if not all(map(HEADER.fullmatch, lines)):
        raise ValueError("A header holds something that cannot be sent.")
    head = "\r\n".join((f"POST {target.path} HTTP/1.1", *lines, "", ""))
    return head.encode("ascii") + body

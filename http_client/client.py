"""Requests to somebody else: one request, one answer, within hard limits of time and size.

Called by the shell, by whoever delivers events and by what speaks to acquirers. Never follows a redirect, never asks
the environment for a proxy, and never decides what an answer means.
"""

import socket
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from http_client import addresses
from http_client.addresses import Target
from http_client.connection import AddressRefused, Answer, Connection, ConnectionLost, Deadline, Unreachable, Withdrawn
from http_client.dialer import Dialer, Resolver, resolve, trust
from http_client.networks import NO_NETWORKS, Networks
from http_client.pool import ConnectionPool, Origin
from http_client.proxy import Proxy
from http_client.request import Request, Values, build_request
from limits import (
    DELIVERY_CONNECT_SECONDS,
    DELIVERY_SECONDS,
    EXCERPT_BYTES_MAX,
    IDLE_CONNECTIONS_MAX,
    REUSE_SECONDS,
    SHELL_ANSWER_BYTES_MAX,
    SHELL_SECONDS,
)


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
    dialer = Dialer(problem_with=lambda *_: None, resolve=resolve, connect_seconds=DELIVERY_CONNECT_SECONDS)
    target = _target(url)
    request = build_request("POST", target, body=body, headers=headers)
    deadline = Deadline(SHELL_SECONDS)
    try:
        connection = dialer.connect(target, deadline)
        try:
            return connection.exchange(request, deadline, bytes_max=SHELL_ANSWER_BYTES_MAX, truncate=True)
        finally:
            connection.close()
    except Unreachable as problem:
        raise Unreachable(
            f"{problem} Is the server running (`make run`)? If on another port, put PORT=… into .env, or give --url.",
            maybe_sent=problem.maybe_sent,
        ) from None


class Client:
    """Sends requests and keeps connections open between them; safe for several threads.

    Connects only to addresses of the public internet and of listed networks, and to the very address that it has
    judged, so that DNS cannot change its mind in between. A connection that is kept leads to such an address; it is
    used again only if nothing has come over it meanwhile, neither its end nor an answer that nobody asked for.

    Of an answer's body that is longer than `answer_bytes_max` it returns the beginning; without `truncate` it raises
    Unreachable instead, for callers that act on what an answer says and not on its status alone.
    `ca_bundle` is a PEM file of authorities that are trusted beside those of browsers. `proxy` is the address of an
    HTTP proxy (see Proxy) by which everything but this machine is reached.
    """

    def __init__(
        self,
        *,
        loopback_allowed: bool,
        https_only: bool = False,
        networks: Networks = NO_NETWORKS,
        resolve: Resolver = resolve,
        connect_seconds: float = DELIVERY_CONNECT_SECONDS,
        seconds: float = DELIVERY_SECONDS,
        idle_connections_max: int = IDLE_CONNECTIONS_MAX,
        reuse_seconds: float = REUSE_SECONDS,
        answer_bytes_max: int = EXCERPT_BYTES_MAX,
        truncate: bool = True,
        ca_bundle: Path | None = None,
        proxy: str | None = None,
    ) -> None:
        self._https_only = https_only
        self._networks = networks
        self._dialer = Dialer(
            problem_with=partial(
                addresses.problem_with_address,
                loopback_allowed=loopback_allowed,
                https_only=https_only,
                networks=networks,
            ),
            resolve=resolve,
            connect_seconds=connect_seconds,
            tls=trust(ca_bundle),
            proxy=None if proxy is None else Proxy.from_url(proxy),
            networks=networks,
        )
        self._seconds = seconds
        self._answer_bytes_max = answer_bytes_max
        self._truncate = truncate
        self._pool = ConnectionPool(connections_max=idle_connections_max, reuse_seconds=reuse_seconds)

    def post(
        self, url: str, body: bytes, headers: Mapping[str, str], *, is_wanted: Callable[[], bool] | None = None
    ) -> Answer:
        """POST a body and return the answer; raise Unreachable.

        Asks once the connection stands whether it is still to be sent, and raises Withdrawn if not.
        """
        return self.request("POST", url, body=body, headers=headers, is_wanted=is_wanted)

    def request(
        self,
        method: str,
        url: str,
        *,
        query: Values | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        form: Values | None = None,
        json: Any = None,
        basic_auth: tuple[str, str] | None = None,
        seconds: float | None = None,
        is_wanted: Callable[[], bool] | None = None,
    ) -> Answer:
        """Send a request and return the answer, whatever its status; raise Unreachable.

        A POST or PATCH that may have been read is never sent twice; the other methods are tried once more, on a new
        connection, if the one that was kept ends before an answer begins. `is_wanted` is asked once.
        At most one of `body`, `form` and `json`; ValueError for more, and for what cannot be sent. A body that breaks
        off, or is not there within `seconds`, is no answer, even if it began with a 200: half of one is not believed.
        """
        target = _target(url)
        if self._https_only and not addresses.scheme_fits(target.scheme, target.host, self._networks):
            raise AddressRefused(addresses.NOT_HTTPS)
        request = build_request(
            method, target, query=query, headers=headers, body=body, form=form, json=json, basic_auth=basic_auth
        )
        return self._send(target, request, Deadline(self._seconds if seconds is None else seconds), is_wanted)

    def close(self) -> None:
        """Close the connections that are kept, and keep none from now on."""
        self._pool.close()

    def _send(
        self, target: Target, request: Request, deadline: Deadline, is_wanted: Callable[[], bool] | None
    ) -> Answer:
        origin = Origin(target.scheme, target.host, target.port, self._dialer.tunnel_to(target.host))
        connection = self._pool.take(origin)
        if connection is None:
            connection = self._dialer.connect(target, deadline)
            self._withdraw_unless(is_wanted, origin, connection)
            return self._send_over(connection, origin, request, deadline)
        self._withdraw_unless(is_wanted, origin, connection)
        try:
            return self._send_over(connection, origin, request, deadline)
        except ConnectionLost as lost:
            # Most likely it was being closed just then, unread; but that cannot be seen from here.
            if not request.is_idempotent:
                raise
            maybe_sent = lost.maybe_sent
        try:
            return self._send_over(self._dialer.connect(target, deadline), origin, request, deadline)
        except Unreachable as problem:
            problem.maybe_sent |= maybe_sent
            raise

    def _withdraw_unless(self, is_wanted: Callable[[], bool] | None, origin: Origin, connection: Connection) -> None:
        """Ask last of all: names, connections and handshakes may have taken their time."""
        if is_wanted is None:
            return
        try:
            wanted = is_wanted()
        except BaseException:
            connection.close()
            raise
        if not wanted:
            self._pool.keep(origin, connection)
            raise Withdrawn

    def _send_over(self, connection: Connection, origin: Origin, request: Request, deadline: Deadline) -> Answer:
        try:
            answer = connection.exchange(request, deadline, bytes_max=self._answer_bytes_max, truncate=self._truncate)
        except BaseException:
            connection.close()
            raise
        self._pool.keep(origin, connection)
        return answer


def _target(url: str) -> Target:
    try:
        return addresses.split(url)
    except addresses.Unusable as problem:
        raise AddressRefused(str(problem)) from None

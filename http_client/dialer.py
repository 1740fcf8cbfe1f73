"""How a connection comes about: a name is resolved, its addresses are judged, TLS is agreed on.

Used by the client. Connects to the very address that was judged, so that DNS cannot change its mind in between.
"""

import queue
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path

import certifi

from http_client import addresses
from http_client.addresses import Target
from http_client.connection import AddressRefused, Connection, Deadline, Unreachable
from http_client.networks import NO_NETWORKS, Networks
from http_client.proxy import WRONG_PASSWORD, Proxy, TunnelFailed
from http_client.request import Request
from limits import ADDRESS_ATTEMPTS_MAX

LOOPBACK = "127.0.0.1"

Resolver = Callable[[str, int], Sequence[str]]
"""Turns a name and a port into IP addresses, or raises OSError; asked once for each new connection."""


def resolve(host: str, port: int) -> list[str]:
    """Ask the system which IP addresses a name has."""
    return [str(place[0]) for *_, place in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def trust(ca_bundle: Path | None = None) -> ssl.SSLContext:
    """Return what TLS believes: the authorities that browsers know, and those of a PEM file beside them.

    Raises OSError, of which ssl.SSLError is one, for a file that cannot be read or holds no certificate.
    """
    context = ssl.create_default_context(cafile=certifi.where())
    if ca_bundle:
        context.load_verify_locations(ca_bundle)
    context.set_alpn_protocols(["http/1.1"])
    return context


@dataclass(frozen=True, kw_only=True)
class Dialer:
    """What opens a connection: which addresses it may reach, how names are resolved, whom TLS trusts, what proxy helps.

    `problem_with` says why nothing is sent to an address by a scheme. Nothing on this machine or in a listed network is
    reached through the proxy, and the proxy itself may be anywhere: the operator chose it.
    """

    problem_with: Callable[[str, str], str | None]
    resolve: Resolver
    connect_seconds: float
    tls: ssl.SSLContext = field(default_factory=trust)
    proxy: Proxy | None = None
    networks: Networks = NO_NETWORKS

    def connect(self, target: Target, deadline: Deadline) -> Connection:
        """Connect to the first allowed address that accepts; raise Unreachable, or AddressRefused if none is."""
        hosts = self._allowed(target, deadline)
        limit = deadline.sooner(self.connect_seconds)
        try:
            return _first(hosts, limit, lambda host, share: self._connect(target, host, share))
        except OSError as problem:
            raise Unreachable(_in_words(problem, limit), maybe_sent=False) from None

    def tunnel_to(self, host: str) -> Proxy | None:
        """Return the proxy by which a host is reached; None for what is near, and where there is no proxy."""
        is_near = addresses.is_loopback(host) or self.networks.lists(host)
        return None if is_near else self.proxy

    def _allowed(self, target: Target, deadline: Deadline) -> Sequence[str]:
        """Return the addresses that may be connected to, or the name if the proxy is to resolve it."""
        if self.proxy and not addresses.is_address(target.host) and not addresses.is_localhost(target.host):
            is_local = addresses.is_local(target.host)
            if is_local and not self.networks.listed:
                raise AddressRefused(addresses.NOT_PUBLIC)
            if self.proxy.resolves_names and not is_local:
                return [target.host]
        found = self._resolved(target.host, target.port, deadline, whose="host")
        problems = {address: self.problem_with(address, target.scheme) for address in found}
        allowed = [address for address, problem in problems.items() if problem is None]
        if not allowed:
            raise AddressRefused(next(iter(problems.values()), None) or addresses.NOT_PUBLIC)
        return allowed

    def _connect(self, target: Target, host: str, deadline: Deadline) -> Connection:
        proxy = self.tunnel_to(host)
        connection = self._proxied(proxy, deadline) if proxy else self._connect_to(host, target, deadline)
        try:
            if proxy:
                _open_tunnel(connection, proxy.tunnel_request(target, host), deadline)
            if target.scheme == "https":
                connection.start_tls(self.tls, target.host, deadline)
        except BaseException:
            connection.close()
            raise
        return connection

    def _connect_to(self, address: str, target: Target, deadline: Deadline) -> Connection:
        sock = _open(address, target.port, deadline)
        try:
            peer = sock.getpeername()[0]
            problem = self.problem_with(peer, target.scheme)
            if problem is None and self.networks.lists(peer) and peer == sock.getsockname()[0]:
                # Who stands at both ends is this machine, which no list can name.
                problem = self.problem_with(LOOPBACK, target.scheme)
            if problem:
                raise AddressRefused(problem)
        except BaseException:
            sock.close()
            raise
        return Connection(sock)

    def _proxied(self, proxy: Proxy, deadline: Deadline) -> Connection:
        found = self._resolved(proxy.host, proxy.port, deadline, whose="proxy")
        try:
            return _first(found, deadline, lambda address, share: Connection(_open(address, proxy.port, share)))
        except OSError:
            raise Unreachable("The proxy does not answer.", maybe_sent=False) from None

    def _resolved(self, host: str, port: int, deadline: Deadline, *, whose: str) -> Sequence[str]:
        if addresses.is_address(host):
            return [host]
        found: queue.SimpleQueue[Sequence[str] | Exception] = queue.SimpleQueue()
        # The system's resolver has no time limit: a thread that waits for it is left to itself, and ends when it does.
        threading.Thread(target=self._resolve, args=(host, port, found), daemon=True).start()
        try:
            answer = found.get(timeout=deadline.left())
        except (queue.Empty, TimeoutError):
            words = f"The {whose}'s name was not resolved within {round(deadline.seconds, 1):g} seconds."
            raise Unreachable(words, maybe_sent=False) from None
        if isinstance(answer, Exception):
            raise Unreachable(f"The {whose}'s name cannot be resolved.", maybe_sent=False)
        return answer

    def _resolve(self, host: str, port: int, found: "queue.SimpleQueue[Sequence[str] | Exception]") -> None:
        try:
            found.put(self.resolve(host, port))
        except Exception as error:
            found.put(error)


def _first(hosts: Sequence[str], limit: Deadline, connect: Callable[[str, Deadline], Connection]) -> Connection:
    """Return a connection to the first of a few hosts that accepts; raise the OSError of the last one."""
    problem = OSError()
    for attempts_left, host in zip(range(min(len(hosts), ADDRESS_ATTEMPTS_MAX), 0, -1), hosts, strict=False):
        try:
            # An address that says nothing leaves the others their share of the time.
            return connect(host, limit.sooner(limit.left() / attempts_left))
        except OSError as error:
            problem = error
    raise problem


def _open(address: str, port: int, deadline: Deadline) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    try:
        sock.settimeout(deadline.left())
        sock.connect((address, port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        sock.close()
        raise
    return sock


def _open_tunnel(connection: Connection, request: Request, deadline: Deadline) -> None:
    try:
        status = connection.open_tunnel(request, deadline)
    except TimeoutError:
        raise
    except (OSError, HTTPException, ValueError, ArithmeticError):
        raise TunnelFailed("The proxy's answer broke off or cannot be read.") from None
    if status == WRONG_PASSWORD:
        # Asked again for another address, it might lock us out.
        raise Unreachable("The proxy wants a user and password, or other ones than it was given.", maybe_sent=False)
    if not 200 <= status < 300:
        raise TunnelFailed(f"The proxy opens no connection to this address; it answered {status}.")


def _in_words(problem: OSError, limit: Deadline) -> str:
    match problem:
        case ssl.SSLCertVerificationError():
            return "The certificate of this address is not valid, or not for this host, or nobody knows its issuer."
        case ssl.SSLError():
            return "No encrypted connection came about: what answers at this address does not speak TLS as we do."
        case TimeoutError():
            return f"No connection came about within {limit.seconds:g} seconds."
        case TunnelFailed():
            return str(problem)
    return "Nothing answers at this address."

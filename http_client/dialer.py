"""How a connection comes about: a name is resolved, its addresses are judged, TLS is agreed on.

Used by the client. Connects to the very address that was judged, so that DNS cannot change its mind in between.
"""

import queue
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import certifi

from http_client import addresses
from http_client.addresses import Target
from http_client.connection import AddressRefused, Connection, Deadline, Unreachable
from limits import ADDRESS_TRIES_MAX

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
    """What opens a connection: which addresses it may reach, how names are resolved, whom TLS trusts."""

    may_reach: Callable[[str], bool]
    resolve: Resolver
    connect_seconds: float
    tls: ssl.SSLContext = field(default_factory=trust)

    def connect(self, target: Target, deadline: Deadline) -> Connection:
        """Connect to the first allowed address that accepts; raise Unreachable, or AddressRefused if none is."""
        allowed = [address for address in self._resolved(target, deadline) if self.may_reach(address)]
        if not allowed:
            raise AddressRefused(addresses.NOT_PUBLIC)
        limit, problem = deadline.sooner(self.connect_seconds), OSError()
        for tries_left, address in zip(range(min(len(allowed), ADDRESS_TRIES_MAX), 0, -1), allowed, strict=False):
            try:
                # An address that says nothing leaves the others their share of the time.
                return self._connect(target, address, limit.sooner(limit.left() / tries_left))
            except OSError as error:
                problem = error
        raise Unreachable(self._in_words(problem), maybe_sent=False)

    def _resolved(self, target: Target, deadline: Deadline) -> Sequence[str]:
        if addresses.is_address(target.host):
            return [target.host]
        found: queue.SimpleQueue[Sequence[str] | Exception] = queue.SimpleQueue()
        # The system's resolver has no time limit: a thread that waits for it is left to itself, and ends when it does.
        threading.Thread(target=self._resolve, args=(target, found), daemon=True).start()
        try:
            answer = found.get(timeout=deadline.left())
        except (queue.Empty, TimeoutError):
            words = f"The host's name was not resolved within {deadline.seconds:g} seconds."
            raise Unreachable(words, maybe_sent=False) from None
        if isinstance(answer, Exception):
            raise Unreachable("The host's name cannot be resolved.", maybe_sent=False)
        return answer

    def _resolve(self, target: Target, found: "queue.SimpleQueue[Sequence[str] | Exception]") -> None:
        try:
            found.put(self.resolve(target.host, target.port))
        except Exception as error:
            found.put(error)

    def _connect(self, target: Target, address: str, deadline: Deadline) -> Connection:
        sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        try:
            sock.settimeout(deadline.left())
            sock.connect((address, target.port))
            if not self.may_reach(sock.getpeername()[0]):
                raise AddressRefused(addresses.NOT_PUBLIC)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if target.scheme == "https":
                sock.settimeout(deadline.left())
                sock = self.tls.wrap_socket(sock, server_hostname=target.host)
        except BaseException:
            sock.close()
            raise
        return Connection(sock)

    def _in_words(self, problem: OSError) -> str:
        match problem:
            case ssl.SSLCertVerificationError():
                return "The certificate of this address is not valid, or not for this host, or nobody knows its issuer."
            case ssl.SSLError():
                return "No encrypted connection came about: what answers at this address does not speak TLS as we do."
            case TimeoutError():
                return f"No connection came about within {self.connect_seconds:g} seconds."
        return "Nothing answers at this address."

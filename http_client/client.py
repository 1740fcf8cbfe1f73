"""The only module that opens a socket to somebody else: one POST, one answer, within hard limits of time and size.

Called by the CLI and by whoever delivers events. Never follows a redirect, never uses a proxy, never sends twice,
and never decides what an answer means.
"""

import io
import queue
import re
import socket
import ssl
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPResponse
from typing import Any, Self

import certifi

from http_client import addresses
from http_client.addresses import Target
from limits import (
    ADDRESS_TRIES_MAX,
    ANSWER_HEAD_BYTES_MAX,
    DELIVERY_CONNECT_SECONDS,
    DELIVERY_SECONDS,
    EXCERPT_BYTES_MAX,
    IDLE_CONNECTIONS_MAX,
    REUSE_SECONDS,
)

CONNECT_SECONDS = 5
ANSWER_SECONDS = 30
ANSWER_BYTES_MAX = 64 * 1024
REASON_CHARACTERS_MAX = 100

HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+: [\t\x20-\x7e]*")

Resolver = Callable[[str, int], Sequence[str]]
"""Turns a name and a port into IP addresses, or raises OSError; asked once for each new connection."""


class Unreachable(Exception):
    """No whole answer came; the message says why in our own words."""


class AddressRefused(Unreachable):
    """Nothing was sent, because the address is not one to which we send."""


class Headers(Mapping[str, str]):
    """The headers of an answer, found by name in either case."""

    def __init__(self, pairs: Sequence[tuple[str, str]]) -> None:
        self._values = {name.lower(): _printable(value) for name, value in pairs}

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came back: of the body the beginning, of reason and headers what can be printed."""

    status: int
    reason: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


def is_free(host: str, port: int) -> bool:
    """Tell whether this machine could listen on an address."""
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
    dialer = _Dialer(may_reach=lambda _: True, resolve=resolve, connect_seconds=CONNECT_SECONDS)
    target = _target(url)
    deadline = _Deadline(ANSWER_SECONDS)
    try:
        wire = dialer.connect(target, deadline)
        try:
            return wire.exchange(_request(target, body, headers), deadline, ANSWER_BYTES_MAX)
        finally:
            wire.hang_up()
    except Unreachable as problem:
        raise Unreachable(
            f"{problem} Is the server running (`make run`)? If on another port, put PORT=… into .env, or give --url."
        ) from None


def resolve(host: str, port: int) -> list[str]:
    """Ask the system which IP addresses a name has."""
    return [str(place[0]) for *_, place in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


class Client:
    """Keeps connections to endpoints open between deliveries; safe for several threads.

    Connects only to addresses of the public internet, and connects to the very address that it has judged, so that
    DNS cannot change its mind in between. A connection that is kept leads to such an address; it is used again only
    if nothing has come over it meanwhile, neither its end nor an answer that nobody asked for.
    """

    def __init__(
        self,
        *,
        loopback_allowed: bool,
        https_only: bool = False,
        resolve: Resolver = resolve,
        connect_seconds: float = DELIVERY_CONNECT_SECONDS,
        seconds: float = DELIVERY_SECONDS,
    ) -> None:
        self._https_only = https_only
        self._dialer = _Dialer(
            may_reach=lambda address: addresses.is_allowed(address, loopback_allowed=loopback_allowed),
            resolve=resolve,
            connect_seconds=connect_seconds,
        )
        self._seconds = seconds
        self._idle = _Idle()

    def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """POST a body once and return the answer, whatever its status; raise Unreachable.

        A body that breaks off within its first EXCERPT_BYTES_MAX, or is not there in time, is no answer, even if it
        began with a 200: to deliver again does no harm, and to believe half an answer could lose an event.
        """
        target = _target(url)
        if self._https_only and target.scheme != "https":
            raise AddressRefused(addresses.NOT_HTTPS)
        request = _request(target, body, headers)
        deadline = _Deadline(self._seconds)
        wire = self._idle.take(target) or self._dialer.connect(target, deadline)
        try:
            answer = wire.exchange(request, deadline, EXCERPT_BYTES_MAX)
        except BaseException:
            wire.hang_up()
            raise
        self._idle.keep(target, wire)
        return answer

    def close(self) -> None:
        """Close the connections that are kept, and keep none from now on."""
        self._idle.close()


class _Deadline:
    """The moment at which everything must be over."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._ends_at = time.monotonic() + seconds

    def left(self) -> float:
        """Return how many seconds are left, always more than none; raise TimeoutError."""
        seconds = self._ends_at - time.monotonic()
        if seconds <= 0:
            raise TimeoutError
        return seconds

    def sooner(self, seconds: float) -> "_Deadline":
        """Return the moment in so many seconds, or this one if it comes before that."""
        other = _Deadline(seconds)
        return other if other._ends_at < self._ends_at else self


class _Line(io.RawIOBase):
    """A connected socket: no wait on it passes the deadline, and of each answer only so much is read.

    The deadline is set anew before every single wait: a timeout of the socket's own begins again with each byte.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._deadline: _Deadline | None = None
        self._bytes_left = 0
        self.in_head = False

    def send(self, request: bytes, deadline: _Deadline) -> None:
        """Write all of a request."""
        rest = memoryview(request)
        while rest:
            self._sock.settimeout(deadline.left())
            rest = rest[self._sock.send(rest) :]

    def listen(self, deadline: _Deadline, bytes_max: int) -> None:
        """Let an answer be read."""
        self._deadline, self._bytes_left, self.in_head = deadline, bytes_max, True

    def stop(self) -> None:
        """Let nothing more be read: a read gives None, as if nothing were there."""
        self._deadline = None

    def readable(self) -> bool:
        """Say so to BufferedReader, which asks."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Read what is there, or wait for it."""
        if self._deadline is None:
            return None
        if self._bytes_left <= 0:
            raise HTTPException
        self._sock.settimeout(self._deadline.left())
        count = self._sock.recv_into(buffer)
        if not count and self.in_head:
            # To http.client the end of the connection is the end of the headers; half an answer is none.
            raise HTTPException
        self._bytes_left -= count
        return count

    def is_quiet(self) -> bool:
        """Tell whether the connection is open and nothing has come over it."""
        try:
            self._sock.settimeout(0)
            self._sock.recv(1)
        except (BlockingIOError, ssl.SSLWantReadError):
            return True
        except OSError:
            return False
        return False

    def close(self) -> None:
        """Close the socket."""
        super().close()
        self._sock.close()


class _Wire(io.BufferedReader):
    """A connection to an endpoint, as http.client likes to read from it."""

    raw: _Line

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(_Line(sock))
        self._made_at = time.monotonic()
        self.is_reusable = False

    def makefile(self, _: str) -> Self:
        """Give http.client what it asks of a socket."""
        return self

    def close(self) -> None:
        """Stay open: http.client closes this after each answer."""

    def flush(self) -> None:
        """Do nothing, on a closed connection too: http.client flushes whatever it lets go of."""

    def hang_up(self) -> None:
        """Close the connection."""
        self.raw.close()

    def exchange(self, request: bytes, deadline: _Deadline, excerpt_bytes: int) -> Answer:
        """Send a request and return its answer; raise Unreachable."""
        try:
            self.raw.send(request, deadline)
            self.raw.listen(deadline, ANSWER_HEAD_BYTES_MAX + excerpt_bytes)
            return self._answer(excerpt_bytes)
        except TimeoutError:
            raise Unreachable(f"No whole answer came within {deadline.seconds:g} seconds.") from None
        except (OSError, HTTPException, ValueError, ArithmeticError):
            raise Unreachable("The answer broke off or cannot be read.") from None
        finally:
            self.raw.stop()

    def is_usable(self) -> bool:
        """Tell whether another request may be sent."""
        is_young = time.monotonic() < self._made_at + REUSE_SECONDS
        return self.is_reusable and is_young and self.raw.is_quiet()

    def _answer(self, excerpt_bytes: int) -> Answer:
        self.is_reusable = False
        response = self._response()
        while response.status < 200:
            # News like 103 Early Hints; the answer is still to come, and must not be taken for that of the next one.
            response = self._response()
        self.raw.in_head = False
        body = response.read(excerpt_bytes)
        if response.length and len(body) < excerpt_bytes:
            raise HTTPException
        self.raw.stop()
        # What is in the buffer now was not asked for, and would be read as the next answer.
        self.is_reusable = response.isclosed() and not response.will_close and not self.peek()
        return Answer(
            status=response.status,
            reason=_printable(response.reason)[:REASON_CHARACTERS_MAX],
            body=body,
            headers=Headers(response.headers.items()),
        )

    def _response(self) -> HTTPResponse:
        response = HTTPResponse(self, method="POST")  # type: ignore[arg-type]  # of a socket it wants makefile() alone
        response.begin()
        return response


class _Idle:
    """The connections that wait for the next delivery, by scheme, host and port; those least in use give way."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wires: OrderedDict[tuple[str, str, int], list[_Wire]] = OrderedDict()
        self._free = IDLE_CONNECTIONS_MAX

    def take(self, target: Target) -> _Wire | None:
        """Return a connection that may be used, if there is one."""
        while wire := self._pop(target[:3]):
            if wire.is_usable():
                return wire
            wire.hang_up()
        return None

    def keep(self, target: Target, wire: _Wire) -> None:
        """Keep a connection, or close it if it cannot be used again."""
        surplus: _Wire | None = wire
        if wire.is_reusable:
            with self._lock:
                surplus = self._swap(target[:3], wire)
        if surplus:
            surplus.hang_up()

    def close(self) -> None:
        """Close all of them, and keep none from now on."""
        with self._lock:
            wires = [wire for those in self._wires.values() for wire in those]
            self._wires.clear()
            self._free = 0
        for wire in wires:
            wire.hang_up()

    def _pop(self, origin: tuple[str, str, int]) -> _Wire | None:
        with self._lock:
            wires = self._wires.get(origin)
            if not wires:
                return None
            self._free += 1
            wire = wires.pop()
            if not wires:
                del self._wires[origin]
            return wire

    def _swap(self, origin: tuple[str, str, int], wire: _Wire) -> _Wire | None:
        """Put a connection in, and return the one that had to give way."""
        if not self._free and not self._wires:
            return wire
        self._wires.setdefault(origin, []).append(wire)
        self._wires.move_to_end(origin)
        if self._free:
            self._free -= 1
            return None
        stalest, wires = next(iter(self._wires.items()))
        surplus = wires.pop(0)
        if not wires:
            del self._wires[stalest]
        return surplus


def _trust() -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=certifi.where())
    context.set_alpn_protocols(["http/1.1"])
    return context


@dataclass(frozen=True, kw_only=True)
class _Dialer:
    """What opens a connection: which addresses it may reach, how names are resolved, whom TLS trusts."""

    may_reach: Callable[[str], bool]
    resolve: Resolver
    connect_seconds: float
    tls: ssl.SSLContext = field(default_factory=_trust)

    def connect(self, target: Target, deadline: _Deadline) -> _Wire:
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
        raise Unreachable(self._in_words(problem))

    def _resolved(self, target: Target, deadline: _Deadline) -> Sequence[str]:
        if addresses.is_address(target.host):
            return [target.host]
        found: queue.SimpleQueue[Sequence[str] | Exception] = queue.SimpleQueue()
        # The system's resolver has no time limit: a thread that waits for it is left to itself, and ends when it does.
        threading.Thread(target=self._resolve, args=(target, found), daemon=True).start()
        try:
            answer = found.get(timeout=deadline.left())
        except (queue.Empty, TimeoutError):
            raise Unreachable(f"The host's name was not resolved within {deadline.seconds:g} seconds.") from None
        if isinstance(answer, Exception):
            raise Unreachable("The host's name cannot be resolved.")
        return answer

    def _resolve(self, target: Target, found: "queue.SimpleQueue[Sequence[str] | Exception]") -> None:
        try:
            found.put(self.resolve(target.host, target.port))
        except Exception as error:
            found.put(error)

    def _connect(self, target: Target, address: str, deadline: _Deadline) -> _Wire:
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
        return _Wire(sock)

    def _in_words(self, problem: OSError) -> str:
        match problem:
            case ssl.SSLCertVerificationError():
                return "The certificate of this address is not valid, or not for this host, or nobody knows its issuer."
            case ssl.SSLError():
                return "No encrypted connection came about: what answers at this address does not speak TLS as we do."
            case TimeoutError():
                return f"No connection came about within {self.connect_seconds:g} seconds."
        return "Nothing answers at this address."


def _printable(text: str) -> str:
    return "".join(filter(str.isprintable, text)).strip()


def _target(url: str) -> Target:
    try:
        return addresses.split(url)
    except addresses.Unusable as problem:
        raise AddressRefused(str(problem)) from None


def _request(target: Target, body: bytes, headers: Mapping[str, str]) -> bytes:
    """Write a request as it goes over the wire; raise ValueError for a header that would be more than one."""
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

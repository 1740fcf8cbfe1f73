"""One connection to somebody else: one request, one answer, within hard limits of time and size.

Used by the client and its dialer. Never decides where to connect, nor what an answer means.
"""

import io
import socket
import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPResponse
from typing import Any, Self

from http_client.body import read_body
from http_client.request import Request
from http_client.tls import Tls
from limits import ANSWER_HEAD_BYTES_MAX, TLS_OVERHEAD_BYTES_MAX

REASON_CHARACTERS_MAX = 100
RECEIVED_BYTES = 16 * 1024
"""How much is taken from the socket at once where TLS is in between."""


class Unreachable(Exception):
    """No whole answer came; the message says why in our own words.

    `maybe_sent` is False if the other side cannot have read anything of the request, so that sending it once more
    does no harm; True leaves open what became of it.
    """

    def __init__(self, message: str, *, maybe_sent: bool = True) -> None:
        super().__init__(message)
        self.maybe_sent = maybe_sent


class ConnectionLost(Unreachable):
    """The connection ended before the first byte of an answer, as one does that the other side was just closing."""


class Withdrawn(Exception):
    """What was to be sent is not wanted any more; nothing of it was sent."""


class AddressRefused(Unreachable):
    """Nothing was sent, because the address is not one to which we send."""

    def __init__(self, message: str) -> None:
        super().__init__(message, maybe_sent=False)


class Headers(Mapping[str, str]):
    """The headers of an answer, found by name in either case."""

    def __init__(self, pairs: Sequence[tuple[str, str]]) -> None:
        self._values = {name.lower(): printable(value) for name, value in pairs}

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came back: of the body as much as was wanted, of reason and headers what can be printed."""

    status: int
    reason: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


class Deadline:
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

    def sooner(self, seconds: float) -> "Deadline":
        """Return the moment in so many seconds, or this one if it comes before that."""
        other = Deadline(seconds)
        return other if other._ends_at < self._ends_at else self


class DeadlineSocket(io.RawIOBase):
    """A connected socket: no wait on it passes the deadline, and of each answer only so much is read.

    The deadline is set anew before every single wait: a timeout of the socket's own begins again with each byte.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._tls: Tls | None = None
        self._deadline: Deadline | None = None
        self._bytes_left = 0
        self._abrupt_end_allowed = False
        self.in_head = False
        self.has_sent = False
        self.has_received = False

    def send(self, request: bytes, deadline: Deadline) -> None:
        """Write all of a request."""
        self.has_sent = self.has_received = False
        self._write(self._tls.encrypt(request) if self._tls else request, deadline)

    def start_tls(self, context: ssl.SSLContext, host: str, deadline: Deadline) -> None:
        """Encrypt from now on, if the other side shows a certificate for the host."""
        tls, bytes_left = Tls(context, host), TLS_OVERHEAD_BYTES_MAX
        try:
            while tls.shakes_hands():
                self._write(tls.to_send(), deadline)
                bytes_left -= self._feed(tls, deadline.left())
                if bytes_left <= 0:
                    raise ssl.SSLError
        except ssl.SSLError:
            with suppress(OSError):  # the other side would like to know what was wrong with its certificate
                self._write(tls.to_send(), deadline)
            raise
        self._write(tls.to_send(), deadline)
        self._tls = tls

    def is_encrypted(self) -> bool:
        """Return whether TLS protects what is sent, and says where an answer ends."""
        return self._tls is not None

    def listen(self, deadline: Deadline, bytes_max: int, *, abrupt_end_allowed: bool = False) -> None:
        """Let an answer be read; one that TLS does not end properly may have been cut off on the way."""
        self._deadline, self._bytes_left, self.in_head = deadline, bytes_max, True
        self._abrupt_end_allowed = abrupt_end_allowed

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
        count = self._received(buffer, self._deadline)
        if not count and self.in_head:
            # To http.client the end of the connection is the end of the headers; half an answer is none.
            raise HTTPException
        self.has_received = self.has_received or count > 0
        self._bytes_left -= count
        return count

    def is_quiet(self) -> bool:
        """Return whether the connection is open and nothing has come over it."""
        buffer, bytes_left = bytearray(1), TLS_OVERHEAD_BYTES_MAX
        try:
            if self._tls is None:
                self._sock.settimeout(0)
                self._sock.recv(1)
                return False
            # Tickets for a later connection may have come, and are nothing.
            while bytes_left > 0 and self._tls.decrypt_into(buffer) is None:
                bytes_left -= self._feed(self._tls, 0)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def close(self) -> None:
        """Close the socket."""
        super().close()
        self._sock.close()

    def _write(self, data: bytes, deadline: Deadline) -> None:
        rest = memoryview(data)
        while rest:
            self._sock.settimeout(deadline.left())
            rest = rest[self._sock.send(rest) :]
            self.has_sent = True

    def _received(self, buffer: Any, deadline: Deadline) -> int:
        if self._tls is None:
            self._sock.settimeout(deadline.left())
            return self._sock.recv_into(buffer)
        try:
            return self._decrypted(self._tls, buffer, deadline)
        except ssl.SSLEOFError:
            if self._abrupt_end_allowed:
                return 0
            raise

    def _decrypted(self, tls: Tls, buffer: Any, deadline: Deadline) -> int:
        bytes_left = TLS_OVERHEAD_BYTES_MAX
        while (count := tls.decrypt_into(buffer)) is None:
            self._write(tls.to_send(), deadline)
            bytes_left -= self._feed(tls, deadline.left())
            if bytes_left <= 0:
                raise HTTPException
        return count

    def _feed(self, tls: Tls, seconds: float) -> int:
        self._sock.settimeout(seconds)
        received = self._sock.recv(RECEIVED_BYTES)
        tls.feed(received)
        return len(received)


class _KeptReader(io.BufferedReader):
    """What http.client reads answers from, and neither closes nor flushes, as it would after each answer."""

    raw: DeadlineSocket

    def makefile(self, _: str) -> Self:
        """Give http.client what it asks of a socket."""
        return self

    def close(self) -> None:
        """Stay open for the next answer; Connection closes the socket itself."""

    def flush(self) -> None:
        """Do nothing, on a closed connection too."""


class Connection:
    """A connection that carries one request after another, each with its answer."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = DeadlineSocket(sock)
        self._reader = _KeptReader(self._socket)
        self._made_at = time.monotonic()
        self.is_reusable = False

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def open_tunnel(self, request: Request, deadline: Deadline) -> int:
        """Ask a proxy for a tunnel and return the status of its answer; raise OSError or HTTPException."""
        try:
            self._socket.send(request.data, deadline)
            self._socket.listen(deadline, ANSWER_HEAD_BYTES_MAX)
            response = self._final_response(request.method)
        finally:
            self._socket.stop()
        if response.status < 300 and self._reader.peek():
            # Nobody has been asked for anything through the tunnel yet.
            raise HTTPException
        return response.status

    def start_tls(self, context: ssl.SSLContext, host: str, deadline: Deadline) -> None:
        """Encrypt from now on; raise OSError, of which ssl.SSLError is one."""
        self._socket.start_tls(context, host, deadline)

    def exchange(self, request: Request, deadline: Deadline, *, bytes_max: int, truncate: bool) -> Answer:
        """Send a request and return its answer; raise Unreachable.

        Of a longer body than `bytes_max` the beginning is returned if `truncate` says so; otherwise it is no answer.
        """
        # One byte more tells a body that is too long from one that just fits.
        wanted = bytes_max if truncate else bytes_max + 1
        try:
            self._socket.send(request.data, deadline)
            self._socket.listen(deadline, ANSWER_HEAD_BYTES_MAX + wanted, abrupt_end_allowed=truncate)
            answer = self._answer(request.method, wanted, strict=not truncate)
        except TimeoutError:
            words = f"No whole answer came within {deadline.seconds:g} seconds."
            raise Unreachable(words, maybe_sent=self._socket.has_sent) from None
        except (OSError, HTTPException, ValueError, ArithmeticError):
            kind = Unreachable if self._socket.has_received else ConnectionLost
            raise kind("The answer broke off or cannot be read.", maybe_sent=self._socket.has_sent) from None
        finally:
            self._socket.stop()
        if len(answer.body) > bytes_max:
            raise Unreachable(f"The answer is longer than {bytes_max} bytes.")
        return answer

    def is_usable(self, reuse_seconds: float) -> bool:
        """Return whether another request may be sent, on a connection that serves so long at most."""
        is_young = time.monotonic() < self._made_at + reuse_seconds
        return self.is_reusable and is_young and self._socket.is_quiet()

    def _answer(self, method: str, body_bytes: int, *, strict: bool) -> Answer:
        self.is_reusable = False
        response = self._final_response(method)
        self._socket.in_head = False
        encrypted = self._socket.is_encrypted()
        body = read_body(
            self._reader, response, method=method, bytes_max=body_bytes, strict=strict, encrypted=encrypted
        )
        self._socket.stop()
        # What is in the buffer now was not asked for, and would be read as the next answer.
        self.is_reusable = body.has_ended and not response.will_close and not self._reader.peek()
        return Answer(
            status=response.status,
            reason=printable(response.reason)[:REASON_CHARACTERS_MAX],
            body=body.content,
            headers=Headers(response.headers.items()),
        )

    def _final_response(self, method: str) -> HTTPResponse:
        response = self._response(method)
        while response.status < 200:
            # News like 103 Early Hints; the answer is still to come, and must not be taken for that of the next one.
            response = self._response(method)
        return response

    def _response(self, method: str) -> HTTPResponse:
        # Of a socket it wants makefile() alone.
        response = HTTPResponse(self._reader, method=method)  # type: ignore[arg-type]
        response.begin()
        return response


def printable(text: str) -> str:
    """Return the characters of a text that a terminal shows and does not obey."""
    return (text if text.isprintable() else "".join(filter(str.isprintable, text))).strip()

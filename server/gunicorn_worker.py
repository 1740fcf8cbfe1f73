"""The gunicorn worker that serves Kopeck: gevent's, made fair, and impatient with clients that are slow or endless.

Named in gunicorn.conf.py alone; nothing in the app knows by what it is served.
"""

import time
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any

import gevent
from gevent import socket as gevent_socket
from gunicorn.http.errors import ParseException
from gunicorn.workers.base_async import AsyncWorker
from gunicorn.workers.ggevent import GeventWorker
from werkzeug.exceptions import ClientDisconnected, RequestTimeout

from limits import ANSWER_SECONDS, BODY_SECONDS, HEADER_SECONDS, IDLE_SECONDS, UNREAD_BYTES_MAX

PIECE_BYTES = 8192

MORE_FOLLOWS = getattr(gevent_socket, "MSG_MORE", 0)
"""The flag that has the kernel keep a piece for the next one; Linux has it."""


class Worker(GeventWorker):  # type: ignore[misc]
    """gunicorn's gevent worker: each request runs in a greenlet that lets others go on while it waits."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._connection_count = 0
        # Those between two requests, the longest idle first.
        self._idle: dict[Any, None] = {}
        self._headers_came = False

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        """Serve one connection; when no further one fits, the one that has been idle longest makes room."""
        self._connection_count += 1
        try:
            if self._connection_count >= self.worker_connections:
                self._end_idle(count=1)
            super().handle(listener, client, addr)
        finally:
            self._connection_count -= 1

    def handle_request(self, listener_name: str, req: Any, sock: Any, addr: Any) -> None:
        """Answer one request, then wait for the next one to begin; StopIteration closes the connection."""
        body = req.body
        prompt = req.body = body if _came_whole(req) else PromptBody(body)
        sock.settimeout(ANSWER_SECONDS)
        client = JoiningSocket(sock, first=0 if self.cfg.is_ssl else MORE_FOLLOWS)
        try:
            # Not that of gevent's worker: stopped in the middle of a request, it would go on to the next one.
            AsyncWorker.handle_request(self, listener_name, req, client, addr)
        except (TimeoutError, gevent.GreenletExit, SystemExit):
            raise StopIteration from None
        finally:
            req.body = body
            client.end_answer()
        if (isinstance(prompt, PromptBody) and prompt.late) or not _is_read_to_the_end(body):
            # Where the next request begins is unknown: what follows could be a body that was made to look like one.
            raise StopIteration
        # A client that has sent its next request already would be served on and on, and others starve.
        gevent.sleep(0)
        self._wait_for_next(req, sock)

    def timeout_ctx(self) -> AbstractContextManager[Any]:
        """Return what limits the time for headers, or nothing when the next ones are here: a timer has its price."""
        came, self._headers_came = self._headers_came, False
        return nullcontext() if came else super().timeout_ctx()

    def handle_quit(self, sig: int, frame: Any) -> None:
        """End in good order on Ctrl-C too; gunicorn would raise SystemExit in a greenlet, which gevent reports."""
        self.alive = False

    def notify(self) -> None:
        """Say to the master that this process lives; when it is to end, nobody waits for connections that are idle."""
        super().notify()
        if not self.alive:
            self._end_idle(count=len(self._idle))

    def _wait_for_next(self, req: Any, sock: Any) -> None:
        """Wait until the next request begins; its headers then have HEADER_SECONDS, as those of the first one."""
        if not self.alive and not _has_begun(req.unreader):
            raise StopIteration
        self._idle[sock] = None
        sock.settimeout(IDLE_SECONDS)
        try:
            # Read and put back: a wait without a read would cost a watcher of its own for each request.
            begun = req.unreader.read()
            req.unreader.unread(begun)
        except OSError:
            # Idle for too long, told to make room, or reset: nothing was asked that could be answered.
            raise StopIteration from None
        finally:
            del self._idle[sock]
        # Nobody else runs until gunicorn asks for the time limit. Empty lines in front end no headers.
        self._headers_came = b"\r\n\r\n" in begun and not begun.startswith((b"\r", b"\n"))

    def _end_idle(self, *, count: int) -> None:
        for sock in list(self._idle)[:count]:
            with suppress(OSError):
                # Its greenlet reads the end of the connection, and closes it.
                sock.shutdown(gevent_socket.SHUT_RD)


class JoiningSocket:
    """A client's socket that sends the headers of an answer in one packet with the beginning of its body.

    gunicorn hands them over one after the other. The kernel has the headers meanwhile, so whatever ends this process
    takes nothing from the answer.
    """

    def __init__(self, sock: Any, *, first: int = MORE_FOLLOWS) -> None:
        self._sock = sock
        self._flags = first
        self._piece_count = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def sendall(self, piece: bytes) -> None:
        """Send a piece of an answer; its first one, the headers, may wait for the next."""
        if piece:
            flags, self._flags = self._flags, 0
            self._piece_count += 1
            self._sock.sendall(piece, flags)

    def end_answer(self) -> None:
        """Let headers go that no body has followed."""
        if self._piece_count == 1:
            with suppress(OSError):
                self._sock.setsockopt(gevent_socket.IPPROTO_TCP, gevent_socket.TCP_NODELAY, 1)


class PromptBody:
    """A request's body that must arrive within BODY_SECONDS in all; otherwise read() ends the request with 408."""

    def __init__(self, body: Any) -> None:
        self._body = body
        self._ends_at = time.monotonic() + BODY_SECONDS
        self.late = False

    def read(self, size: int | None = None) -> bytes:
        """Return up to `size` bytes, or all that is left."""
        # As long as data is there at once no greenlet gives way, and no Timeout could end it: hence the look first.
        seconds_left = self._ends_at - time.monotonic()
        if seconds_left > 0:
            with gevent.Timeout(seconds_left, False):
                return self._read(size)
        self.late = True
        raise RequestTimeout

    def _read(self, size: int | None) -> bytes:
        try:
            chunk: bytes = self._body.read(size)
        except ParseException:
            # As when the client hung up: the app is not to know by what it is served.
            raise ClientDisconnected from None
        return chunk


def _came_whole(req: Any) -> bool:
    """Return whether all of a body was read from the socket together with its headers, so that none is waited for."""
    length = getattr(req.body.reader, "length", None)
    return length is not None and length <= req.unreader.buf.getbuffer().nbytes


def _is_read_to_the_end(body: Any) -> bool:
    """Read what the app left of a body, within bounds, so that no reset connection takes the answer with it."""
    if getattr(body.reader, "length", None) == 0:
        return True
    with gevent.Timeout(HEADER_SECONDS, False):
        try:
            return any(not body.read(PIECE_BYTES) for _ in range(UNREAD_BYTES_MAX // PIECE_BYTES))
        except Exception:
            return False  # it cannot be read, which the app was told when it tried
    return False


def _has_begun(unreader: Any) -> bool:
    """Return whether bytes of the next request came together with the last one."""
    ahead = unreader.take_buffered()
    unreader.unread(ahead)
    return bool(ahead)

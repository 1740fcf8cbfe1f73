"""The gunicorn worker that serves Kopeck: gevent's, made fair, and impatient with clients that are slow or endless.

Named in gunicorn.conf.py alone; nothing in the app knows by what it is served.
"""

import time
from typing import Any

import gevent
from gunicorn.http.errors import ParseException
from gunicorn.workers.ggevent import GeventWorker
from werkzeug.exceptions import ClientDisconnected, RequestTimeout

from limits import ANSWER_SECONDS, BODY_SECONDS, HEADER_SECONDS, UNREAD_BYTES_MAX

PIECE_BYTES = 8192


class Worker(GeventWorker):  # type: ignore[misc]
    """gunicorn's gevent worker: each request runs in a greenlet that lets others go on while it waits."""

    def handle_request(self, listener_name: str, req: Any, sock: Any, addr: Any) -> None:
        """Answer one request, then let the others have their turn; StopIteration closes the connection."""
        body, req.body = req.body, PromptBody(req.body)
        sock.settimeout(ANSWER_SECONDS)
        try:
            super().handle_request(listener_name, req, sock, addr)
        except TimeoutError:
            raise StopIteration from None
        finally:
            late, req.body = req.body.late, body
            sock.settimeout(None)
        if late or not _is_read_to_the_end(body):
            # Where the next request begins is unknown: what follows could be a body that was made to look like one.
            raise StopIteration
        # A client that has sent its next request already would be served on and on, and others starve.
        gevent.sleep(0)

    def handle_quit(self, sig: int, frame: Any) -> None:
        """End in good order on Ctrl-C too; gunicorn would raise SystemExit in a greenlet, which gevent reports."""
        self.alive = False


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


def _is_read_to_the_end(body: Any) -> bool:
    """Read what the app left of a body, within bounds, so that no reset connection takes the answer with it."""
    with gevent.Timeout(HEADER_SECONDS, False):
        try:
            return any(not body.read(PIECE_BYTES) for _ in range(UNREAD_BYTES_MAX // PIECE_BYTES))
        except Exception:
            return False  # it cannot be read, which the app was told when it tried
    return False

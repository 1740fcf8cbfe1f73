"""The gunicorn worker that serves Kopeck: gevent's, made fair, and impatient with bodies that do not arrive.

Named in gunicorn.conf.py alone; nothing in the app knows by what it is served.
"""

import time
from typing import Any

import gevent
from gunicorn.workers.ggevent import GeventWorker
from werkzeug.exceptions import RequestTimeout

from limits import BODY_SECONDS


class Worker(GeventWorker):  # type: ignore[misc]
    """gunicorn's gevent worker: each request runs in a greenlet that lets others go on while it waits."""

    def handle_request(self, listener_name: str, req: Any, sock: Any, addr: Any) -> None:
        """Answer one request, then let the others have their turn."""
        req.body = PromptBody(req.body)
        super().handle_request(listener_name, req, sock, addr)
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

    def read(self, size: int | None = None) -> bytes:
        """Return up to `size` bytes, or all that is left."""
        with gevent.Timeout(max(0, self._ends_at - time.monotonic()), RequestTimeout()):
            chunk: bytes = self._body.read(size)
            return chunk

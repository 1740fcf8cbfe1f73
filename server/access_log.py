"""The access log: one line a request, with the id that its caller got, written a batch at a time.

No query and no header is in it, which may hold what is private. Named in gunicorn.conf.py alone. What waits when the
process is killed is lost; when it ends in any other way, gunicorn.conf.py has it written.
"""

import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import gevent
from gunicorn.glogging import Logger

from limits import ACCESS_LOG_LINES_MAX, ACCESS_LOG_SECONDS
from server import REQUEST_ID

PIECE_BYTES_MAX = 4096
"""What a pipe takes in one piece (PIPE_BUF): of more, the lines of two processes could be mixed."""


class AccessLog(Logger):  # type: ignore[misc]
    """gunicorn's logger, which would take each request and answer to pieces, and write each line by itself."""

    def __init__(self, cfg: Any) -> None:
        self._waiting: list[str] = []
        self._second = 0
        self._moment = ""
        super().__init__(cfg)

    def access(self, resp: Any, _req: Any, environ: dict[str, Any], request_time: Any) -> None:
        """Note one request, and have it written within ACCESS_LOG_SECONDS."""
        # As it was sent, percent-encoded: decoded, it could hold line breaks and terminal codes.
        path = quote(environ.get("PATH_INFO", "").encode("latin-1", "replace"))
        microseconds = request_time.seconds * 1_000_000 + request_time.microseconds
        status = str(resp.status)[:3]
        method, request_id = environ.get("REQUEST_METHOD"), environ.get(REQUEST_ID, "-")
        self._waiting.append(f"{self._now()} {method} {path} {status} {microseconds}us {request_id}")
        if len(self._waiting) >= ACCESS_LOG_LINES_MAX:
            self.write_waiting()
        elif len(self._waiting) == 1:
            gevent.spawn_later(ACCESS_LOG_SECONDS, self.write_waiting)

    def write_waiting(self) -> None:
        """Write the lines that wait, as many at once as stay in one piece."""
        lines, self._waiting = self._waiting, []
        piece: list[str] = []
        length = 0
        for line in lines:
            if length + len(line) + 1 > PIECE_BYTES_MAX:
                self._write(piece)
                piece, length = [], 0
            piece.append(line)
            length += len(line) + 1
        self._write(piece)

    def _write(self, lines: Sequence[str]) -> None:
        if lines:
            self.access_log.info("\n".join(lines))

    def _now(self) -> str:
        second = int(time.time())
        if second != self._second:
            self._second, self._moment = second, self.now()
        return self._moment

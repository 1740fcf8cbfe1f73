"""A crowd of receivers in a process of its own: each has its way of answering, and every request is written down.

    python -m tests.faults.crowd LOG

Prints its port. `/KIND/NAME` is an endpoint of a kind; a line of the log is one request: JSON with endpoint, event id,
version, when it began and ended by the machine's monotonic clock, and the status that was given, or null.
"""

import json
import os
import random
import signal
import socketserver
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RETRY_AFTER_SECONDS = 90
"""What `throttled` asks for."""

FLAPS_MAX = 5
"""How often `flapping` fails one event at the most, so that none of them is exhausted by chance."""

SLOW_SECONDS = (2, 3)
MOVED = "/moved/elsewhere"
LOCK = threading.Lock()


@dataclass
class Request:
    """What a receiver looks at; `times` counts the requests for this event, this one included."""

    endpoint: str
    kind: str
    event_id: str
    times: int
    number: int
    version: int


class Answer(Exception):
    """Raised by a kind that closes the connection and says nothing."""


def status_of(request: Request) -> int | None:
    """Return what a kind answers; None closes the connection."""
    if request.kind == "slow":
        time.sleep(random.uniform(*SLOW_SECONDS))
    fixed = {"failing": 500, "redirecting": 302, "gone": 410}
    if request.kind in fixed:
        return fixed[request.kind]
    if request.kind == "flapping" and request.number % 2 and request.times <= FLAPS_MAX:
        return 503
    if request.kind == "throttled" and request.times == 1:
        return 429
    if request.kind == "closing" and request.times <= 2:
        return None
    if request.kind == "ordered" and request.times == 1 and request.version % 5 == 0:
        return 500
    return 200


def headers_of(status: int) -> bytes:
    extra = {302: f"Location: {MOVED}\r\n", 429: f"Retry-After: {RETRY_AFTER_SECONDS}\r\n"}
    return f"HTTP/1.1 {status} Whatever\r\n{extra.get(status, '')}".encode()


class Handler(socketserver.StreamRequestHandler):
    """Speaks as much HTTP/1.1 as is needed, and keeps connections open."""

    disable_nagle_algorithm = True

    def handle(self) -> None:
        with suppress(OSError):
            while self._serve():
                pass

    def _serve(self) -> bool:
        line = self.rfile.readline()
        if not line:
            return False
        began = time.monotonic()
        path = line.split()[1].decode()
        headers = {}
        while (header := self.rfile.readline().strip()) != b"":
            name, _, value = header.partition(b":")
            headers[name.lower()] = value.strip().decode()
        body = json.loads(self.rfile.read(int(headers.get(b"content-length", "0"))) or b"{}")
        request = self.server.note(path, headers.get(b"webhook-id", ""), body)
        status = status_of(request)
        try:
            return self._answer(request.kind, status)
        finally:
            self.server.write(request, began, status)

    def _answer(self, kind: str, status: int | None) -> bool:
        if status is None:
            return False
        if kind != "endless":
            self.wfile.write(headers_of(status) + b"Content-Length: 2\r\n\r\nok")
            return True
        self.wfile.write(headers_of(status) + b"Transfer-Encoding: chunked\r\n\r\n")
        with suppress(OSError):
            while True:
                self.wfile.write(b"400\r\n" + b"x" * 1024 + b"\r\n")
        return False


class Crowd(socketserver.ThreadingTCPServer):
    """All endpoints behind one port."""

    daemon_threads = True
    request_queue_size = 512

    def __init__(self, log: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self.times: Counter[tuple[str, str]] = Counter()
        self.numbers: Counter[str] = Counter()

    def note(self, path: str, event_id: str, body: dict[str, Any]) -> Request:
        """Count a request."""
        with LOCK:
            self.times[path, event_id] += 1
            self.numbers[path] += 1
            times, number = self.times[path, event_id], self.numbers[path]
        version = body.get("data", {}).get("version", 0)
        return Request(path, path.split("/")[1], event_id, times, number, version)

    def write(self, request: Request, began: float, status: int | None) -> None:
        """Write a request down, in one piece."""
        line = {"began": began, "ended": time.monotonic(), "status": status}
        line |= {"endpoint": request.endpoint, "event": request.event_id, "version": request.version}
        os.write(self.log, json.dumps(line).encode() + b"\n")

    def handle_error(self, *_: object) -> None:
        """Say nothing: whoever hung up is gone."""


def main(log: str) -> None:
    with Crowd(Path(log)) as crowd:
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
        print(crowd.server_address[1], flush=True)
        crowd.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])

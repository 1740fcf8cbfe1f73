"""An endpoint that costs next to nothing: takes any POST, keeps it as it came, answers 200; in a process of its own.

`python -m bench.receiver PORT`. GET tells how many came and in how many seconds, DELETE gives them away, oldest first.
"""

import asyncio
import json
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import Any

from bench.servers import running
from bench.truth import hold
from tests.clusters import free_port

START_SECONDS = 20
LENGTH = b"content-length:"
TAKEN = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


@dataclass(frozen=True, kw_only=True)
class ReceivedRequest:
    """One request as it came, but for its first line and what only this connection needed."""

    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, kw_only=True)
class Receiver:
    """The receiver's process, as the bench talks to it."""

    port: int

    @property
    def url(self) -> str:
        """Return where it takes events."""
        return f"http://127.0.0.1:{self.port}/hook"

    def tally(self) -> tuple[int, float]:
        """Return how many requests have come since the last take(), and the seconds from the first to the last."""
        told = json.loads(self._ask("GET"))
        return told["count"], told["seconds"]

    def wait_for_first(self) -> None:
        """Wait until something has come."""
        deadline = time.monotonic() + START_SECONDS
        while not self.tally()[0]:
            hold(time.monotonic() < deadline, "nothing was received")
            time.sleep(0.05)

    def take(self) -> list[ReceivedRequest]:
        """Return what came, and have it forgotten."""
        return [_received(text) for text in json.loads(self._ask("DELETE"))]

    def _ask(self, method: str) -> bytes:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=START_SECONDS)
        try:
            connection.request(method, "/")
            return connection.getresponse().read()
        finally:
            connection.close()


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Run a receiver as long as this lasts."""
    receiver = Receiver(port=free_port())
    with running([sys.executable, "-m", "bench.receiver", str(receiver.port)], {}):
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                receiver.tally()
                break
            except OSError:
                hold(time.monotonic() < deadline, "the receiver did not start")
                time.sleep(0.05)
        yield receiver


def _received(text: str) -> ReceivedRequest:
    head, _, body = text.partition("\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:])
    own = ("host", "content-length", "connection")
    return ReceivedRequest(
        headers={name: value for name, value in headers.items() if name.lower() not in own}, body=body.encode("latin-1")
    )


class _Kept:
    """What came, and when the first and the last of it did."""

    def __init__(self) -> None:
        self.requests: list[bytes] = []
        self.first = self.last = 0.0

    def answer(self, request: bytes) -> bytes:
        if request.startswith(b"POST "):
            self.last = time.monotonic()
            if not self.requests:
                self.first = self.last
            self.requests.append(request)
            return TAKEN
        if request.startswith(b"DELETE "):
            given, self.requests = self.requests, []
            return _answer([text.decode("latin-1") for text in given])
        return _answer({"count": len(self.requests), "seconds": self.last - self.first if self.requests else 0.0})


class _Conversation(asyncio.Protocol):
    """One connection; a request is complete when its head and as much body as that announces are there."""

    def __init__(self, kept: _Kept) -> None:
        self._kept = kept
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._rest += data
        while (end := self._rest.find(b"\r\n\r\n") + 4) > 3:
            end += _length(self._rest[:end])
            if len(self._rest) < end:
                return
            request, self._rest = self._rest[:end], self._rest[end:]
            self._transport.write(self._kept.answer(request))


def _length(head: bytes) -> int:
    place = head.lower().find(LENGTH)
    return int(head[place + len(LENGTH) : head.find(b"\r\n", place)]) if place >= 0 else 0


def _answer(told: Any) -> bytes:
    body = json.dumps(told).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(body), body)


async def _serve(port: int) -> None:
    kept, loop, ended = _Kept(), asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    await loop.create_server(lambda: _Conversation(kept), "127.0.0.1", port, backlog=256)
    await ended.wait()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))

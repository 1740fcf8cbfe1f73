"""A cheap endpoint in a process of its own: it answers 200 to any POST and keeps the request.

`python -m bench.receiver PORT`. GET returns the number of requests and the seconds from the first to the last. DELETE
returns the requests, oldest first, and removes them.
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

from bench.checks import check
from bench.servers import running
from tests.clusters import free_port

START_SECONDS = 20
CONTENT_LENGTH = b"content-length:"
OK_RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


@dataclass(frozen=True, kw_only=True)
class ReceivedRequest:
    """A received request, without its first line and the headers of the connection."""

    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, kw_only=True)
class Receiver:
    """A client of the receiver's process."""

    port: int

    @property
    def url(self) -> str:
        """Return the URL of the endpoint."""
        return f"http://127.0.0.1:{self.port}/hook"

    def summary(self) -> tuple[int, float]:
        """Return the number of requests since the last take_all(), and the seconds from the first to the last."""
        summary = json.loads(self._request("GET"))
        return summary["count"], summary["seconds"]

    def wait_for_first(self) -> None:
        """Wait until a request was received."""
        deadline = time.monotonic() + START_SECONDS
        while not self.summary()[0]:
            check(time.monotonic() < deadline, "nothing was received")
            time.sleep(0.05)

    def take_all(self) -> list[ReceivedRequest]:
        """Return all requests, and remove them from the receiver."""
        return [_parse(text) for text in json.loads(self._request("DELETE"))]

    def _request(self, method: str) -> bytes:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=START_SECONDS)
        try:
            connection.request(method, "/")
            return connection.getresponse().read()
        finally:
            connection.close()


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Run a receiver until the end of the `with` block."""
    receiver = Receiver(port=free_port())
    with running([sys.executable, "-m", "bench.receiver", str(receiver.port)], {}):
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                receiver.summary()
                break
            except OSError:
                check(time.monotonic() < deadline, "the receiver did not start")
                time.sleep(0.05)
        yield receiver


def _parse(text: str) -> ReceivedRequest:
    head, _, body = text.partition("\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:])
    connection_headers = ("host", "content-length", "connection")
    return ReceivedRequest(
        headers={name: value for name, value in headers.items() if name.lower() not in connection_headers},
        body=body.encode("latin-1"),
    )


class _Store:
    """The received requests, with the times of the first and the last one."""

    def __init__(self) -> None:
        self.requests: list[bytes] = []
        self.first = self.last = 0.0

    def answer(self, request: bytes) -> bytes:
        if request.startswith(b"POST "):
            self.last = time.monotonic()
            if not self.requests:
                self.first = self.last
            self.requests.append(request)
            return OK_RESPONSE
        if request.startswith(b"DELETE "):
            requests, self.requests = self.requests, []
            return _response([text.decode("latin-1") for text in requests])
        return _response({"count": len(self.requests), "seconds": self.last - self.first if self.requests else 0.0})


class _HttpProtocol(asyncio.Protocol):
    """One connection. A request is complete when its head and its whole body are there."""

    def __init__(self, store: _Store) -> None:
        self._store = store
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n") + 4) > 3:
            end += _content_length(self._buffer[:end])
            if len(self._buffer) < end:
                return
            request, self._buffer = self._buffer[:end], self._buffer[end:]
            self._transport.write(self._store.answer(request))


def _content_length(head: bytes) -> int:
    position = head.lower().find(CONTENT_LENGTH)
    return int(head[position + len(CONTENT_LENGTH) : head.find(b"\r\n", position)]) if position >= 0 else 0


def _response(content: Any) -> bytes:
    body = json.dumps(content).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(body), body)


async def _serve(port: int) -> None:
    store, loop, ended = _Store(), asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    await loop.create_server(lambda: _HttpProtocol(store), "127.0.0.1", port, backlog=256)
    await ended.wait()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))

"""Clients that hold a connection and hardly use it: a byte a second of a header or of a body, or nothing at all."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import signing
from tests.factories import SECRET, make_body

SLOW = 50
"""How many of them at once; one would be easy to bear."""

IDLE = 500
HEAD = b"POST /api/v1/webhook/bank/ HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@contextmanager
def slow_headers(port: int) -> Iterator[None]:
    """Keep clients that send a byte of their head each second."""
    with _dripping(port, SLOW, b"", HEAD):
        yield


@contextmanager
def slow_bodies(port: int) -> Iterator[None]:
    """Keep clients that send their whole head, and then a byte of a signed body each second."""
    body = make_body()
    head = HEAD + f"X-Signature: {signing.sign(body, SECRET)}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with _dripping(port, SLOW, head, body):
        yield


@contextmanager
def idle(port: int) -> Iterator[None]:
    """Keep clients that say nothing."""
    with _dripping(port, IDLE, b"", b""):
        yield


@contextmanager
def _dripping(port: int, clients: int, at_once: bytes, drop_by_drop: bytes) -> Iterator[None]:
    connections = [socket.create_connection(("127.0.0.1", port)) for _ in range(clients)]
    for connection in connections:
        connection.sendall(at_once)
    ended = threading.Event()
    thread = threading.Thread(target=_drip, args=(connections, drop_by_drop, ended))
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        for connection in connections:
            connection.close()


def _drip(connections: list[socket.socket], drops: bytes, ended: threading.Event) -> None:
    for drop in drops:
        for connection in connections:
            # Whom the server has sent away stays away.
            with suppress(OSError):
                connection.sendall(bytes([drop]))
        if ended.wait(1):
            return

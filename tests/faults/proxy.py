"""The way to a database that can be barred, cut, frozen and forgotten: a TCP proxy of the test's own."""

import math
import os
import selectors
import socket
import threading
from contextlib import suppress
from typing import Self

PATIENCE_SECONDS = 60
TASK_SECONDS = 0.05
TCP_REPAIR = 19
"""A socket option of Linux, for root: a socket closed under it is gone without a word to the other side."""

CAN_FORGET = os.geteuid() == 0


class Proxy:
    """Forwards a port of its own to another, in a thread of its own; calls take effect before they return.

    With `bar_after` it bars the way by itself, as soon as the target has sent more bytes than that.
    """

    def __init__(self, port: int, *, bar_after: float = math.inf) -> None:
        self.target = port
        self.bar_after = bar_after
        self.sent_back = 0
        self.others: dict[socket.socket, socket.socket] = {}
        self.far_ends: set[socket.socket] = set()
        self.selector = selectors.DefaultSelector()
        self.lock = threading.Lock()
        self.frozen = False
        self.held = threading.Event()
        self.ended = threading.Event()

    def __enter__(self) -> Self:
        self._listen(0)
        self.port = int(self.listener.getsockname()[1])
        self.thread = threading.Thread(target=self._run)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.thread.join()
        self.bar()
        self.selector.close()

    def bar(self) -> None:
        """Refuse every new connection, and cut those that are there."""
        with self.lock:
            if self.listener in self.selector.get_map():
                self.selector.unregister(self.listener)
            self.listener.close()
        self.cut()

    def open(self) -> None:
        """Let connections in again."""
        with self.lock:
            self._listen(self.port)

    def cut(self) -> None:
        """Close every connection that is there, both ways."""
        with self.lock:
            for end in list(self.others):
                self._part(end)

    def freeze(self) -> None:
        """Let connections in and stand, and nothing through them; return when somebody has been held up by it."""
        self.held.clear()
        self.frozen = True
        assert self.held.wait(PATIENCE_SECONDS), "nobody was on the way to the database"

    def thaw(self) -> None:
        """Let through what was held back, and all that follows."""
        self.frozen = False

    def forget(self) -> None:
        """Lose every connection that is there and tell nobody; needs CAN_FORGET."""
        with self.lock:
            for end in self.others:
                end.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
        self.cut()

    def _listen(self, port: int) -> None:
        self.listener = socket.create_server(("127.0.0.1", port))
        self.selector.register(self.listener, selectors.EVENT_READ)

    def _run(self) -> None:
        while not self.ended.is_set():
            ready = [key.fileobj for key, _ in self.selector.select(TASK_SECONDS)]
            with self.lock:
                for end in ready:
                    self._serve(end)
            if self.sent_back > self.bar_after:
                self.bar()
                self.bar_after = math.inf
            if self.frozen:
                self.ended.wait(TASK_SECONDS)

    def _serve(self, end: socket.socket) -> None:
        if end is self.listener:
            self._join()
        elif self.frozen:
            self.held.set()
        elif end in self.others:
            try:
                data = end.recv(65536)
                self.others[end].sendall(data)
                self.sent_back += len(data) if end in self.far_ends else 0
            except OSError:
                data = b""
            if not data:
                self._part(end)

    def _join(self) -> None:
        near, _ = self.listener.accept()
        try:
            far = socket.create_connection(("127.0.0.1", self.target))
        except OSError:
            near.close()
            return
        self.others |= {near: far, far: near}
        self.far_ends.add(far)
        for end in (near, far):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.selector.register(end, selectors.EVENT_READ)

    def _part(self, end: socket.socket) -> None:
        with suppress(KeyError):
            other = self.others.pop(end)
            del self.others[other]
            for each in (end, other):
                self.selector.unregister(each)
                each.close()

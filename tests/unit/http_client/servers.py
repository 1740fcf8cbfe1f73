"""Servers that do exactly what a test says, and those who watch what reaches them."""

import re
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from http_client.dialer import Resolver

PATIENCE_SECONDS = 30


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


PUBLIC = "93.184.216.34"


class Connection:
    """One connection to a receiver, as its script sees it."""

    def __init__(self, receiver: "Receiver", sock: socket.socket) -> None:
        self.receiver = receiver
        self.sock = sock
        self.data = sock.makefile("rb")

    def take(self) -> bytes:
        """Read one request, remember it, and return its body; EOFError at the end of the connection."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = self.data.readline()
            if not line:
                raise EOFError
            head += line
        length = re.search(rb"(?i)content-length: (\d+)", head)
        body = self.data.read(int(length[1])) if length else b""
        self.receiver.requests.append(head + body)
        return body

    def give(self, data: bytes) -> None:
        self.sock.sendall(data)

    def trickle(self, data: bytes) -> None:
        """Send a byte now and then until the other side has had enough; then say so."""
        for number in range(10**6):
            if self.receiver.ended.wait(0.02):
                return
            self.give(data[number : number + 1] or b"a")


Script = Callable[[Connection], None]


class Receiver:
    """Somebody's endpoint on 127.0.0.1, or on ::1: plays its script on each connection, in a thread of its own."""

    def __init__(self, script: Script, *, family: int = socket.AF_INET, tls: ssl.SSLContext | None = None) -> None:
        self.script = script
        self.tls = tls
        host = "::1" if family == socket.AF_INET6 else "127.0.0.1"
        self.listener = socket.create_server((host, 0), family=family)
        self.port = self.listener.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{self.port}/hook"
        self.requests: list[bytes] = []
        self.accepted = 0
        self.over = threading.Semaphore(0)
        self.ended = threading.Event()
        self.threads = [threading.Thread(target=self._accept)]
        self.threads[0].start()

    def close(self) -> None:
        self.ended.set()
        self.listener.shutdown(socket.SHUT_RDWR)
        for thread in self.threads:
            thread.join(PATIENCE_SECONDS)
        self.listener.close()

    def wait_until_over(self) -> None:
        """Wait until one more connection has ended."""
        assert self.over.acquire(timeout=PATIENCE_SECONDS)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                sock, _ = self.listener.accept()
                self.accepted += 1
                self.threads.append(threading.Thread(target=self._play, args=(sock,)))
                self.threads[-1].start()

    def _play(self, sock: socket.socket) -> None:
        sock.settimeout(PATIENCE_SECONDS)
        with suppress(OSError, EOFError):
            if self.tls:
                sock = self.tls.wrap_socket(sock, server_side=True)
            connection = Connection(self, sock)
            with connection.data:
                self.script(connection)
        sock.close()
        self.over.release()


def always(answer: bytes) -> Script:
    """Give the same answer to every request, as long as the connection is open."""

    def script(connection: Connection) -> None:
        while True:
            connection.take()
            connection.give(answer)

    return script


def once(answer: bytes) -> Script:
    """Give one answer and hang up."""

    def script(connection: Connection) -> None:
        connection.take()
        connection.give(answer)

    return script


def tunnel_to(port: int) -> Script:
    """Play a proxy that leads to one port of this machine, whatever it is asked for."""

    def script(connection: Connection) -> None:
        connection.take()
        with socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS) as target:
            connection.give(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=_pump, args=(target, connection.sock))
            back.start()
            _pump(connection.sock, target)
            back.join(PATIENCE_SECONDS)

    return script


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_RDWR)


class Witness:
    """Sees every connection that this process tries to make: the interpreter tells, not the code under test."""

    def __init__(self) -> None:
        self.connects: list[object] | None = None
        sys.addaudithook(self)

    def __call__(self, event: str, args: tuple[object, ...]) -> None:
        if event == "socket.connect" and self.connects is not None:
            self.connects.append(args[1])


WITNESS = Witness()
"""Hooks cannot be taken away again, so there is one."""


def received(listeners: list[socket.socket]) -> int:
    """Count connections; the kernel makes those to this machine at once, so that none is still on its way."""
    count = 0
    for listener in listeners:
        listener.setblocking(False)
        with suppress(BlockingIOError):
            listener.accept()[0].close()
            count += 1
    return count


def answering(*found: str) -> Resolver:
    return lambda host, port: list(found)


def never_asked(host: str, port: int) -> list[str]:
    raise AssertionError("DNS was asked")


@contextmanager
def deaf(host: str, port: int = 0) -> Iterator[int]:
    """Listen with a queue that is full, so that a further connection is neither accepted nor refused."""
    with socket.create_server((host, port), backlog=0) as full, socket.socket() as first, socket.socket() as second:
        for sock in (first, second):
            sock.setblocking(False)
            sock.connect_ex(full.getsockname())
        yield full.getsockname()[1]


class Rebinding:
    """A name server that gives a public address to whoever checks, and loopback to whoever asks again."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.asked = 0

    def __call__(self, host: str, port: int) -> list[str]:
        self.asked += 1
        return [self.answers[min(self.asked, len(self.answers)) - 1]]

"""Those who hear of events: a small HTTP server that keeps what it was sent and answers as a test wants."""

import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import AF_INET, AF_INET6
from typing import Any, Self


@dataclass(frozen=True)
class ReceivedRequest:
    """One request as it arrived."""

    path: str
    headers: dict[str, str]
    body: bytes


Answer = tuple[int, dict[str, str], bytes]


def accept(_request: ReceivedRequest) -> Answer:
    return 200, {}, b"ok"


@dataclass
class Receiver:
    """A server on this machine; `answer` decides what each request gets."""

    answer: Callable[[ReceivedRequest], Answer] = accept
    received: list[ReceivedRequest] = field(default_factory=list)
    host: str = "127.0.0.1"
    tls: ssl.SSLContext | None = None

    def __enter__(self) -> Self:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                request = ReceivedRequest(
                    self.path, {name.lower(): value for name, value in self.headers.items()}, body
                )
                receiver.received.append(request)
                status, headers, content = receiver.answer(request)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        kind = type("Server", (ThreadingHTTPServer,), {"address_family": AF_INET6 if ":" in self.host else AF_INET})
        self._server = kind((self.host, 0), Handler)
        if self.tls:
            self._server.socket = self.tls.wrap_socket(self._server.socket, server_side=True)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        return self.url_for(f"[{self.host}]" if ":" in self.host else self.host)

    def url_for(self, host: str) -> str:
        """Return its address under a name of this machine."""
        return f"{'https' if self.tls else 'http'}://{host}:{self._server.server_address[1]}/hook"


class HangingReceiver:
    """A server on this machine that takes what it is sent and never answers, until it lets go."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self._held: list[socket.socket] = []
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()
        self.let_go()

    def let_go(self) -> None:
        """Hang up on all that wait; they have no answer."""
        with self._lock:
            held, self._held = self._held, []
        for connection in held:
            connection.close()

    def url(self, name: object) -> str:
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}/{name}"

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            head = connection.recv(65536)
            with self._lock:
                self._held.append(connection)
                self.paths.append(head.split(b" ", 2)[1].decode().removeprefix("/"))

"""The sandbox as a real server: in threads of this process, or as a process of its own."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError

from flask import Flask
from werkzeug.serving import make_server

from sandbox.settings import ROOT

PATIENCE_SECONDS = 60
"""How long anything may take before a test gives up on it; nothing is measured by it."""


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@contextmanager
def served(app: Flask, port: int) -> Iterator[str]:
    """Serve an app in threads of this process; give its address."""
    server = make_server("127.0.0.1", port, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Process:
    """A `flask --app sandbox run` that can be killed; `environ` is all that it knows."""

    def __init__(self, environ: Mapping[str, str], log: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = log
        # What a developer's own .env sets is set here too, so that the tests do not depend on it.
        settings = {"SANDBOX_PORT": str(self.port), "SANDBOX_HOST": "127.0.0.1", "SANDBOX_BASE_URL": self.url}
        self.environ = {"PATH": os.environ["PATH"], **settings, **environ}
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        flask = str(Path(sys.executable).with_name("flask"))
        return [flask, "--app", "sandbox", "run", "--port", str(self.port)]

    def start(self) -> None:
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                self.command(),
                cwd=ROOT,
                env=self.environ,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        eventually(self._answers)

    def kill(self) -> None:
        """End it as a power cut would."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def end(self, number: int) -> int:
        """Send a signal to all its processes, as a terminal does; return the exit status."""
        assert self._process is not None
        process, self._process = self._process, None
        os.killpg(process.pid, number)
        return process.wait(PATIENCE_SECONDS)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log.read_text()
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=PATIENCE_SECONDS) as answer:
                return bool(answer.status == 200)
        except (URLError, ConnectionError):
            return False


def eventually(holds: Callable[[], bool]) -> None:
    """Ask again and again until something holds; fail when it does not within PATIENCE_SECONDS."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < deadline, "it did not come true in time"
        threading.Event().wait(0.02)

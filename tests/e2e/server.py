"""The real server process, and how to speak to it in raw HTTP."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from app import create_app
from config import ROOT
from database.extension import db
from tests.databases import Database
from tests.factories import SECRET, SECRETS_KEY, make_config

PATIENCE_SECONDS = 60


@contextmanager
def served(
    end_with: signal.Signals = signal.SIGTERM,
    *,
    to_group: bool = False,
    access_log: Path = Path(os.devnull),
    environ: Mapping[str, str] | None = None,
    log_lines: list[str] | None = None,
    crashes: bool = False,
) -> Iterator[int]:
    """Run gunicorn as `make run` does, on a database of its own, and give its port; end it in good order.

    Settings in `environ` win, and `log_lines` gets each line of its log as it is written. Only a test that has a
    request crash on purpose says so.
    """
    database = Database("sqlite")
    app = create_app(make_config(database.url))
    database.migrate(app)
    with app.app_context():
        db.engine.dispose()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {
        "PATH": os.environ["PATH"],
        "DATABASE_URL": str(database.url),
        "BANK_WEBHOOK_SECRETS": SECRET,
        "SECRETS_KEYS": SECRETS_KEY,
        "PORT": str(port),
        **(environ or {}),
    }
    with access_log.open("wb") as output:
        server = subprocess.Popen(
            [Path(sys.executable).with_name("gunicorn")],
            cwd=ROOT,
            env=settings,
            stdout=output,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
    _wait_until_served(server, port)
    lines: list[str] = [] if log_lines is None else log_lines
    reader = threading.Thread(target=_read_log, args=(server, lines))
    reader.start()
    yield port
    os.killpg(server.pid, end_with) if to_group else server.send_signal(end_with)
    server.wait(PATIENCE_SECONDS)
    reader.join()
    database.drop()
    errors = "".join(lines)
    assert server.returncode == 0
    assert crashes or "Traceback" not in errors, errors
    assert "SIGKILL" not in errors, errors


def _read_log(server: subprocess.Popen[str], lines: list[str]) -> None:
    with server.stderr:
        for line in server.stderr:
            lines.append(line)


def _wait_until_served(server: subprocess.Popen[str], port: int) -> None:
    for line in server.stderr:
        if "Booting worker" in line:
            break
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        if talk(port, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")[0] == 200:
            return
    raise AssertionError("the server did not start")


def talk(port: int, request: bytes, *, half_close: bool = False) -> tuple[int, dict[str, str], bytes]:
    """Send raw bytes and return status, headers and body of the answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS) as connection:
        connection.sendall(request)
        if half_close:
            connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
    return int(lines[0].split()[1]), headers, body

"""SIGHUP has a running server read its settings again; a slip in them must not end it, nor make a worker differ."""

import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import signing
from tests.e2e.installed import SECONDS, Installed
from tests.e2e.server import talk
from tests.e2e.test_without_gunicorn import free_port
from tests.factories import SECRET, SECRETS_KEY, make_body
from tests.waiting import wait_until

NEW_SECRET = "5f3c9a71e2d84b06a9c7f10e83d52b64"
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
SANDBOX_HEALTH = HEALTH.replace(b"/healthz", b"/health")


class Running:
    """A gunicorn in a folder of its own, its settings in `.env`, and its log."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.installed = Installed(folder / "kopeck")
        self.port, self.lines = free_port(), []
        self.settings = {
            "BANK_WEBHOOK_SECRETS": SECRET,
            "SECRETS_KEYS": SECRETS_KEY,
            "PORT": str(self.port),
            "DATABASE_URL": f"sqlite:///{folder}/k.db",
            "SANDBOX_PORT": str(self.port),
            "SANDBOX_DATABASE": str(folder / "s.db"),
        }
        self.write()
        self.installed.run("flask", "db", "upgrade")
        self.process: subprocess.Popen[str] = self.installed.start("gunicorn", *arguments)
        self.reader = threading.Thread(target=lambda: self.lines.extend(iter(self.process.stdout.readline, "")))
        self.reader.start()

    def write(self, **settings: str) -> None:
        self.installed.write("".join(f"{name}={value}\n" for name, value in (self.settings | settings).items()))

    def reload(self, said: str) -> None:
        """Send SIGHUP and wait until the log has said something once more."""
        before = self.count(said)
        self.process.send_signal(signal.SIGHUP)
        wait_until(lambda: self.count(said) > before, f"the server says {said!r}")

    def count(self, text: str) -> int:
        return "".join(self.lines).count(text)

    def answers(self, request: bytes, port: int | None = None) -> int:
        try:
            return talk(port or self.port, request)[0]
        except OSError:
            return 0

    def accepts(self, secret: str, port: int | None = None) -> bool:
        body = make_body()
        head = [
            *("POST /api/v1/webhook/bank/ HTTP/1.1", "Host: localhost", "Connection: close"),
            *("Content-Type: application/json", f"Content-Length: {len(body)}"),
            f"X-Signature: {signing.sign(body, secret)}",
        ]
        return self.answers("\r\n".join(head).encode() + b"\r\n\r\n" + body, port) == 200

    def workers(self) -> list[int]:
        pid = self.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def end(self) -> None:
        os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait(SECONDS)
        self.reader.join()
        self.process.stdout.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    running = []

    def start(*arguments: str, health: bytes = HEALTH) -> Running:
        running.append(Running(tmp_path, *arguments))
        wait_until(lambda: running[0].answers(health) == 200, "the server answers")
        return running[0]

    yield start
    for each in running:
        each.end()


SLIPS = {
    "form": ({"PORT": "x", "KOPECK_ENV": "y"}, "  - PORT must be a number"),
    "driver": ({"DATABASE_URL": "postgresql://h/k?charset=utf8mb4"}, "cannot use: charset"),
    "file": ({"CA_BUNDLE": "/nowhere.pem"}, "names /nowhere.pem"),
    "secret": ({"BANK_WEBHOOK_SECRETS": "whsec_?"}, "is no base64"),
    "line": ({"UNKNOWN_INN": '"hold'}, "is a quotation mark missing?"),
}


def test_server_goes_on_with_its_settings_when_new_ones_have_a_slip(start):
    server = start()
    for settings, said in SLIPS.values():
        server.write(**settings)
        server.reload(said)
        assert server.accepts(SECRET)
    with_port_taken = free_port()
    with socket.create_server(("127.0.0.1", with_port_taken)):
        server.write(PORT=str(with_port_taken))
        server.reload(f"port {with_port_taken} cannot be listened on")
    assert server.accepts(SECRET)
    assert server.count("goes on with those it has") == len(SLIPS) + 1
    assert server.count("Traceback") == 0

    server.write(BANK_WEBHOOK_SECRETS=NEW_SECRET, PORT=str(port := free_port()))
    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: server.accepts(NEW_SECRET, port), "the server takes settings without a slip")


def test_worker_that_is_started_again_has_the_settings_of_the_server(start):
    server = start()
    before = server.workers()
    server.write(BANK_WEBHOOK_SECRETS=NEW_SECRET, KOPECK_ENV="slip")
    for worker in before:
        os.kill(worker, signal.SIGKILL)
    wait_until(lambda: len({*server.workers()} - {*before}) == len(before), "there are new workers")

    wait_until(lambda: server.accepts(SECRET), "they answer with what was read at the start")
    assert not server.accepts(NEW_SECRET)


def test_sandbox_goes_on_with_its_settings_too(start):
    server = start("-c", "sandbox/gunicorn.conf.py", health=SANDBOX_HEALTH)
    server.write(SANDBOX_PORT="x", SANDBOX_PUBLIC="perhaps")
    server.reload("  - SANDBOX_PUBLIC must be one of")

    assert server.answers(SANDBOX_HEALTH) == 200
    assert server.count("The settings were not read again") == 1


def test_server_that_cannot_start_says_all_of_it_once(tmp_path):
    installed = Installed(tmp_path / "kopeck")
    installed.write("PORT=x\nDATABASE_URL=mariadb://h/k?sslmode=require\nCELERY_BROKER_URL=redis://h/x\n")
    server = installed.start("gunicorn")
    output, _ = server.communicate(timeout=SECONDS)

    assert server.returncode == 1
    for name in ("PORT", "DATABASE_URL", "CELERY_BROKER_URL", "BANK_WEBHOOK_SECRETS", "SECRETS_KEYS"):
        assert output.count(f"  - {name} ") == 1
    assert "Traceback" not in output

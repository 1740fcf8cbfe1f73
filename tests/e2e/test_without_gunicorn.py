"""Where gunicorn and gevent cannot be imported, as on Windows: `flask run`, the shell, `flask worker`, the sandbox."""

import json
import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.error import URLError

import pytest

from config import ROOT
from tests.factories import INN, SECRET, SECRETS_KEY
from tests.waiting import PATIENCE_SECONDS, wait_until

WITHOUT = """
import sys
from importlib.abc import MetaPathFinder


class Nowhere(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("gunicorn", "gevent", "fcntl"):
            raise ImportError(f"{name} is not here")


sys.meta_path.insert(0, Nowhere())
"""
"""Loaded by every process as `sitecustomize`."""


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def fetch(url: str, body: bytes | None = None) -> object:
    """Return the JSON of an answer, or None where nobody answers yet."""
    request = urllib.request.Request(url, data=body, headers={"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:
            return json.loads(answer.read())
    except (URLError, ConnectionError):
        return None


class Machine:
    """A folder with settings in which commands are run that find neither gunicorn nor gevent."""

    def __init__(self, folder: Path) -> None:
        (folder / "sitecustomize.py").write_text(WITHOUT)
        self.port, self.sandbox_port = free_port(), free_port()
        self.environ = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(folder),
            "DATABASE_URL": f"sqlite:///{folder}/kopeck.db",
            "SANDBOX_DATABASE": str(folder / "sandbox.db"),
            "BANK_WEBHOOK_SECRETS": SECRET,
            "SECRETS_KEYS": SECRETS_KEY,
            "BALANCE_UPDATES": "queued",
            "PORT": str(self.port),
            "SANDBOX_PORT": str(self.sandbox_port),
        }

    def flask(self, *arguments: str) -> Sequence[str]:
        return [sys.executable, "-m", "flask", *arguments]

    def run(self, *arguments: str) -> str:
        return subprocess.run(
            self.flask(*arguments), cwd=ROOT, env=self.environ, check=True, capture_output=True, text=True
        ).stdout

    @contextmanager
    def running(self, *arguments: str) -> Iterator[None]:
        process = subprocess.Popen(
            self.flask(*arguments), cwd=ROOT, env=self.environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            yield
        finally:
            assert process.poll() is None, f"{arguments} has ended by itself"
            process.terminate()
            process.wait(PATIENCE_SECONDS)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_modules_really_cannot_be_imported(machine):
    for name in ("gunicorn", "gevent"):
        command = [sys.executable, "-c", f"import {name}"]
        ended = subprocess.run(command, env=machine.environ, capture_output=True, text=True, check=False)
        assert f"{name} is not here" in ended.stderr


def test_server_shell_worker_and_sandbox_work_on_sqlite(machine):
    machine.run("db", "upgrade")
    web, sandbox = f"http://127.0.0.1:{machine.port}", f"http://127.0.0.1:{machine.sandbox_port}"
    balance = f"{web}/api/v1/organizations/{INN}/balance/"
    with ExitStack() as running:
        running.enter_context(machine.running("run", "--port", str(machine.port)))
        running.enter_context(machine.running("worker"))
        running.enter_context(machine.running("--app", "sandbox", "run", "--port", str(machine.sandbox_port)))
        wait_until(lambda: fetch(f"{web}/readyz"), "the server answers")
        wait_until(lambda: fetch(f"{sandbox}/health"), "the sandbox answers")

        assert '"status":"accepted"' in machine.run("bank", "send").replace(" ", "")
        wait_until(lambda: (fetch(balance) or {}).get("balance") == 145_000, "the worker credits it")
        assert fetch(f"{sandbox}/api/v1/webhook/bank/imitation/", b"{}")
        wait_until(lambda: (fetch(balance) or {}).get("version") == 2, "the mock bank's webhook is credited too")

    assert "Clean" in machine.run("ledger", "verify")

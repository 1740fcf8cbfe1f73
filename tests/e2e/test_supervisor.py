"""`python -m server …`, as production and `make run` start Kopeck: what was begun ends before anything is killed."""

import os
import pty
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import requests
from honcho.manager import KILL_WAIT
from sqlalchemy import text

import signing
from app import create_app
from config import ROOT
from context import cipher
from database.extension import db
from database.session import transaction
from enums import Scheme
from outbox import endpoints
from tests.databases import Database
from tests.factories import SECRET, SECRETS_KEY, START, make_body, make_config
from tests.receivers import Receiver
from tests.sandbox.factories import order
from tests.sandbox.payer import pay_as_a_script
from tests.waiting import PATIENCE_SECONDS, wait_until

SLOW_SECONDS = KILL_WAIT + 2
"""How long a receiver thinks: longer than honcho's own command lets a process live, shorter than a delivery takes."""


def thinking(_request) -> tuple[int, dict[str, str], bytes]:
    threading.Event().wait(SLOW_SECONDS)
    return 200, {}, b"ok"


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextmanager
def supervised(log: Path, *names: str, **environ: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Run the named processes until the test has ended them."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "server", *names],
            cwd=ROOT,
            env={"PATH": path, "BANK_WEBHOOK_SECRETS": SECRET, "SECRETS_KEYS": SECRETS_KEY, **environ},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(PATIENCE_SECONDS)


@pytest.fixture
def kopeck() -> Iterator[tuple[Database, str]]:
    database = Database("sqlite")
    app = create_app(make_config(database.url, ENDPOINTS_ON_LOOPBACK="allow"))
    database.migrate(app)
    with app.app_context():
        yield database, str(database.url)
        db.engine.dispose()
    database.drop()


def answers(port: int, path: str = "/healthz") -> bool:
    try:
        return requests.get(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE_SECONDS).status_code == 200
    except requests.ConnectionError:
        return False


def attempts() -> list[tuple[int | None]]:
    with transaction() as session:
        return [tuple(row) for row in session.execute(text("SELECT status_code FROM delivery_attempts"))]


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_slow_receiver_gets_an_event_once_when_all_is_ended(ending, kopeck, tmp_path):
    port = free_port()
    environ = {"DATABASE_URL": kopeck[1], "ENDPOINTS_ON_LOOPBACK": "allow", "PORT": str(port)}
    with Receiver(answer=thinking) as receiver:
        endpoints.create(
            cipher(),
            url=receiver.url,
            scheme=Scheme.STANDARD,
            organization=None,
            event_types="*",
            ordered=False,
            description="",
            loopback_allowed=True,
            https_only=False,
            now=START,
        )
        with supervised(tmp_path / "log", "web", "worker", **environ) as process:
            wait_until(lambda: answers(port), "the web process serves")
            send_webhook(port)
            wait_until(lambda: receiver.received, "the worker sends")
            process.send_signal(ending)
            status = process.wait(PATIENCE_SECONDS)

    log = (tmp_path / "log").read_text()
    assert status == 0, log
    assert "SIGKILL" not in log, log
    assert not answers(port)
    assert len(receiver.received) == 1
    assert attempts() == [(200,)]


def test_slow_shop_gets_the_sandbox_s_webhook_once(tmp_path):
    port = free_port()
    environ = {"SANDBOX_PORT": str(port), "SANDBOX_DATABASE": str(tmp_path / "sandbox.db")}
    with Receiver(answer=thinking) as shop:
        with supervised(tmp_path / "log", "sandbox", **environ) as process:
            wait_until(lambda: answers(port, "/health"), "the sandbox serves")
            site = f"http://127.0.0.1:{port}"
            created = requests.post(f"{site}/api/create-invoice", json=order(webhookUrl=shop.url), timeout=30).json()
            pay_as_a_script(site, created["pageUrl"], "ORDER-123", "/pay")
            wait_until(lambda: shop.received, "the sandbox sends")
            process.terminate()
            process.wait(PATIENCE_SECONDS)
        with supervised(tmp_path / "log", "sandbox", **environ):
            wait_until(lambda: answers(port, "/health"), "the sandbox serves again")
            (webhook,) = requests.get(f"{site}/sandbox/api/webhooks", timeout=30).json()["items"]

    assert (webhook["state"], len(webhook["attempts"])) == ("delivered", 1)
    assert len(shop.received) == 1


def test_terminal_that_is_closed_ends_everything(kopeck, tmp_path):
    """What the supervisor would print has nowhere to go then."""
    port = free_port()
    ours, terminal = pty.openpty()
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    settings = {"DATABASE_URL": kopeck[1], "BANK_WEBHOOK_SECRETS": SECRET, "SECRETS_KEYS": SECRETS_KEY}
    process = subprocess.Popen(
        ["setsid", "--ctty", sys.executable, "-m", "server", "web", "worker"],
        cwd=ROOT,
        env={"PATH": path, "PORT": str(port), **settings},
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    threading.Thread(target=read_until_closed, args=[ours], daemon=True).start()
    try:
        wait_until(lambda: answers(port), "the web process serves")
        process.send_signal(signal.SIGSTOP)  # so that it has something to print when it goes on
        os.close(ours)
        process.send_signal(signal.SIGCONT)
        process.send_signal(signal.SIGHUP)
        status = process.wait(PATIENCE_SECONDS)
    finally:
        process.kill()

    assert status == 0
    assert not answers(port)


EARLY = """
import signal

from server.__main__ import Supervisor


class Interrupted(Supervisor):
    def _start(self):
        {while_starting}
        super()._start()


supervisor = Interrupted()
{before_adding}
supervisor.add_process("one", "exec sleep 20")
{after_adding}
supervisor.loop()
print("status", supervisor.status())
"""
NO_SIGNAL = dict.fromkeys(("before_adding", "after_adding", "while_starting"), "pass")


@pytest.mark.parametrize(
    ("moment", "ending"),
    [
        ("before_adding", "SIGHUP"),
        ("after_adding", "SIGHUP"),
        ("while_starting", "SIGHUP"),
        ("while_starting", "SIGTERM"),
    ],
)
def test_signal_that_comes_before_a_process_runs_ends_it_when_it_does(moment, ending):
    script = EARLY.format_map(NO_SIGNAL | {moment: f"signal.raise_signal(signal.{ending})"})
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith(f"status {-signal.SIGTERM}\n")


def read_until_closed(terminal: int) -> None:
    with suppress(OSError):
        while os.read(terminal, 4096):
            pass


def test_names_that_are_not_in_the_procfile_are_refused(tmp_path):
    for names in ([], ["web", "nothing"]):
        with supervised(tmp_path / "log", *names) as process:
            assert process.wait(PATIENCE_SECONDS) == 2
        assert "web, worker" in (tmp_path / "log").read_text()


def send_webhook(port: int) -> None:
    body = make_body()
    headers = {"X-Signature": signing.sign(body, SECRET), "Content-Type": "application/json"}
    answer = requests.post(f"http://127.0.0.1:{port}/api/v1/webhook/bank/", body, headers=headers, timeout=30)
    assert answer.json()["status"] == "credited"

"""Real Celery workers, beat and flower, on each broker that is there, fed by the real server."""

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self
from urllib.error import HTTPError

import pytest

import banks
import services
import signing
from app import create_app
from banks.base import Message
from config import ROOT
from context import cipher, now
from database.extension import db
from enums import Job, Scheme
from outbox import endpoints
from tests import brokers
from tests.databases import FAMILIES, Database
from tests.e2e.server import served, talk
from tests.factories import INN, OTHER_INN, SECRET, SECRETS_KEY, make_body, make_config, make_org
from tests.faults.proxy import Proxy
from tests.receivers import Receiver
from tests.waiting import PATIENCE_SECONDS, wait_until
from worker import broker, jobs

CELERY = Path(sys.executable).with_name("celery")
WORKER = ("-c", "2", "-l", "INFO", "--without-mingle")


class Process:
    """One `celery -A worker.tasks …`, whose log can be read while it runs."""

    def __init__(self, log: Path, environ: dict[str, str], *arguments: str) -> None:
        self.log = log
        with log.open("wb") as output:
            self.popen = subprocess.Popen(
                [CELERY, "-A", "worker.tasks", *arguments],
                cwd=ROOT,
                env=environ,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def has_logged(self, words: str) -> bool:
        assert self.popen.poll() is None, self.log.read_text()
        return words in self.log.read_text()

    def end(self) -> None:
        """End in good order; fail, and take all of its processes away, when it does not."""
        self.popen.send_signal(signal.SIGTERM)
        try:
            self.popen.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def kill(self) -> None:
        """Take all of its processes away."""
        os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait()


class Deployment:
    """A database, a broker behind a proxy, one Celery worker, and an app of the test's own that has no broker."""

    def __init__(self, folder: Path, broker: str) -> None:
        self.folder = folder
        self.broker = broker
        self.database = Database("postgresql" if "postgresql" in FAMILIES else "sqlite")
        self.open = ExitStack()

    def __enter__(self) -> Self:
        url = self.open.enter_context(brokers.place_on(self.broker))
        self.proxy = self.open.enter_context(Proxy(url.port))
        self.database.create()
        self.open.callback(self.database.drop)
        self.app = create_app(make_config(self.database.url, ENDPOINTS_ON_LOOPBACK="allow"))
        self.database.migrate(self.app)
        self.settings = {
            "DATABASE_URL": self.database.url.render_as_string(hide_password=False),
            "CELERY_BROKER_URL": url.set(port=self.proxy.port).render_as_string(hide_password=False),
            "ENDPOINTS_ON_LOOPBACK": "allow",
        }
        self.worker = self.open.enter_context(self.celery("worker", *WORKER, "-n", "first@%h", ready="ready."))
        return self

    def __exit__(self, *_: object) -> None:
        with self.app.app_context():
            db.engine.dispose()
        self.open.close()

    @contextmanager
    def celery(self, *arguments: str, ready: str) -> Iterator[Process]:
        secrets = {"BANK_WEBHOOK_SECRETS": SECRET, "SECRETS_KEYS": SECRETS_KEY}
        environ = {"PATH": os.environ["PATH"], **secrets, **self.settings}
        process = Process(self.folder / f"{arguments[0]}-{time.monotonic_ns()}.log", environ, *arguments)
        try:
            wait_until(lambda: process.has_logged(ready), f"celery {arguments[0]} is ready")
            yield process
        finally:
            if arguments[0] == "flower":
                # It is not ours, it keeps nothing, and now and then it does not end on SIGTERM.
                process.kill()
            else:
                process.end()

    def beat(self) -> AbstractContextManager[Process]:
        return self.celery("beat", "-l", "INFO", ready="beat: Starting")

    def endpoint(self, receiver: Receiver) -> None:
        """Have everything announced to a receiver."""
        with self.app.app_context():
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
                now=now(),
            )

    def credit_unseen(self, times: int = 1) -> None:
        """Commit credits as a server does that is killed before it can wake anybody."""
        with self.app.app_context():
            for _ in range(times):
                message = Message(body=make_body(), headers={}, content_type="application/json")
                services.receive_webhook(banks.find("plain"), message, key_id="k", unknown_inn="create", now=now())

    def hold(self) -> int:
        """Receive money for an INN that nobody has, beside an organisation to which it can be assigned."""
        with self.app.app_context():
            make_org()
            message = Message(body=make_body(payer_inn=OTHER_INN), headers={}, content_type="application/json")
            plain = banks.find("plain")
            return services.receive_webhook(plain, message, key_id="k", unknown_inn="hold", now=now()).incident_id

    def pause(self) -> int:
        """Disable the only endpoint, and have what is due to it paused; return its number."""
        with self.app.app_context():
            endpoint_id = db.session.execute(db.text("SELECT id FROM endpoints")).scalar_one()
            endpoints.disable(endpoint_id, now=now())
            jobs.deliver()
            assert db.session.execute(db.text("SELECT status FROM deliveries")).scalar_one() == "paused"
            db.session.rollback()
            return int(endpoint_id)

    def shell(self, *arguments: str) -> None:
        """Run a command as an operator does, with the settings of everything else."""
        secrets = {"BANK_WEBHOOK_SECRETS": SECRET, "SECRETS_KEYS": SECRETS_KEY}
        command = [sys.executable, "-m", "flask", *arguments]
        environ = {"PATH": os.environ["PATH"], **secrets, **self.settings}
        subprocess.run(command, cwd=ROOT, env=environ, check=True, stdout=subprocess.DEVNULL)


@pytest.fixture(scope="module", params=brokers.CANDIDATES)
def shared_deployment(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with Deployment(tmp_path_factory.mktemp("celery"), request.param) as deployment:
        yield deployment


@pytest.fixture
def deployment(shared_deployment: Deployment) -> Deployment:
    shared_deployment.database.clean()
    return shared_deployment


@pytest.fixture
def receiver(deployment: Deployment) -> Iterator[Receiver]:
    with Receiver() as receiver:
        deployment.endpoint(receiver)
        yield receiver


def announce(port: int) -> tuple[int, dict[str, object]]:
    """Send a webhook as the bank does."""
    body = make_body()
    head = (
        "POST /api/v1/webhook/bank/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nX-Signature: {signing.sign(body, SECRET)}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    status, _, answer = talk(port, head.encode() + body)
    return status, json.loads(answer)


def delivered(deployment: Deployment) -> int:
    with deployment.app.app_context():
        return db.session.execute(db.text("SELECT count(*) FROM deliveries WHERE status = 'delivered'")).scalar_one()


@pytest.mark.parametrize(("updates", "word"), [("immediate", "credited"), ("queued", "accepted")])
def test_webhook_wakes_a_worker_that_delivers_without_beat(deployment, receiver, updates, word):
    with served(environ={**deployment.settings, "BALANCE_UPDATES": updates}) as port:
        status, answer = announce(port)
        wait_until(lambda: receiver.received, "the event arrives")
        wait_until(lambda: delivered(deployment) == 1, "its delivery is settled")

    assert (status, answer["status"]) == (200, word)
    assert json.loads(receiver.received[0].body)["data"]["organization"] == INN


def test_assignment_in_the_shell_wakes_a_worker_at_once(deployment, receiver):
    incident_id = deployment.hold()

    deployment.shell("incidents", "assign", str(incident_id), INN)

    wait_until(lambda: delivered(deployment) == 1, "the event is delivered without beat")
    assert json.loads(receiver.received[0].body)["data"]["amount"] == 145_000


def test_endpoint_that_is_enabled_in_the_shell_has_a_worker_woken_at_once(deployment, receiver):
    deployment.credit_unseen()
    endpoint_id = deployment.pause()

    deployment.shell("endpoints", "enable", str(endpoint_id))

    wait_until(lambda: delivered(deployment) == 1, "the paused event is delivered without beat")
    assert len(receiver.received) == 1


def test_worker_that_is_told_to_read_its_settings_again_says_that_it_does_not_and_goes_on(deployment, receiver):
    deployment.worker.popen.send_signal(signal.SIGHUP)
    said = "a worker reads its settings at its start only"
    wait_until(lambda: deployment.worker.has_logged(said), "the worker says so")
    deployment.credit_unseen()
    broker.new_notifier(deployment.settings["CELERY_BROKER_URL"]).notify(Job.DELIVER)

    wait_until(lambda: delivered(deployment) == 1, "the event is delivered")
    assert not deployment.worker.has_logged("Restarting celery worker")


def test_next_tick_delivers_what_nobody_was_woken_for(deployment, receiver):
    deployment.credit_unseen()
    with deployment.beat():
        wait_until(lambda: delivered(deployment) == 1, "the event is delivered")

    assert len(receiver.received) == 1


def test_two_workers_deliver_each_event_once(deployment, receiver):
    second = deployment.celery("worker", *WORKER, "-n", "second@%h", ready="ready.")
    with second, deployment.beat():
        for _ in range(5):
            deployment.credit_unseen(20)
        wait_until(lambda: delivered(deployment) == 100, "all are delivered")
    event_ids = [request.headers["webhook-id"] for request in receiver.received]

    assert (len(event_ids), len(set(event_ids))) == (100, 100)


def test_without_a_broker_requests_go_on_and_the_tick_after_it_makes_up_for_it(deployment, receiver):
    log_lines: list[str] = []
    deployment.credit_unseen()
    with deployment.beat() as beat, served(environ=deployment.settings, log_lines=log_lines) as port:
        wait_until(lambda: delivered(deployment) == 1, "all are at work")
        with barred(deployment.proxy):
            answers = [announce(port)[0] for _ in range(20)]
            wait_until(lambda: warnings(log_lines), "the outage is in the log of the server")
            wait_until(lambda: beat.has_logged("broker not available"), "and in that of beat")
            answers += [announce(port)[0] for _ in range(20)]
        wait_until(lambda: delivered(deployment) == 41, "all are delivered")

    assert answers == [200] * 40
    # One of each gunicorn worker that was asked.
    assert 1 <= len(warnings(log_lines)) <= 2
    assert len(warnings(beat.log.read_text().splitlines())) == 1
    assert "Traceback" not in beat.log.read_text()


@contextmanager
def barred(proxy: Proxy) -> Iterator[None]:
    proxy.bar()
    try:
        yield
    finally:
        proxy.open()


def warnings(log_lines: list[str]) -> list[str]:
    return [line for line in log_lines if "broker not available" in line]


def test_flower_shows_the_workers_to_those_who_know_its_password(deployment):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = ("--address=127.0.0.1", f"--port={port}", "--basic-auth=duty:a-password")
    with deployment.celery("flower", *arguments, ready="Connected to"):
        wait_until(lambda: workers_in_flower(port, "duty:a-password"), "flower knows the worker")
        with pytest.raises(HTTPError, match="401"):
            workers_in_flower(port, "duty:another")


def workers_in_flower(port: int, who: str) -> dict[str, Any]:
    login = base64.b64encode(who.encode()).decode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/api/workers?status=1", headers={"Authorization": f"Basic {login}"}
    )
    with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:
        return json.load(answer)


def test_celery_without_a_broker_says_which_setting_is_missing():
    environ = {"PATH": os.environ["PATH"], "BANK_WEBHOOK_SECRETS": SECRET, "SECRETS_KEYS": SECRETS_KEY}
    command = [CELERY, "-A", "worker.tasks", "worker"]
    ended = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)

    assert ended.returncode == 1
    assert "CELERY_BROKER_URL is missing" in ended.stderr
    assert "Traceback" not in ended.stderr

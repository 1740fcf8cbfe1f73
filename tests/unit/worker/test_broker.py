"""The notifier alone: what it sends, what it spares, and what it survives."""

import subprocess
import sys
import threading
import time

import pytest

from config import ROOT
from enums import Job
from tests.waiting import PATIENCE_SECONDS, wait_until
from worker.broker import Notifier, new_notifier

AWAY = "redis://:a-password@127.0.0.1:1/0"


class Broker:
    """A broker that a test can hold up, or cut off."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.tried = 0
        self.is_away = False
        self.free = threading.Event()
        self.free.set()

    def send(self, job: Job) -> None:
        self.tried += 1
        assert self.free.wait(PATIENCE_SECONDS)
        if self.is_away:
            raise OSError("redis://:a-password@broker is away")
        self.sent.append(job)


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture
def notifier(broker: Broker) -> Notifier:
    return Notifier(lambda: broker.send, retry_seconds=0.01)


def test_without_a_broker_celery_is_not_imported(tmp_path):
    script = f"""
import sys
from sqlalchemy import make_url
from app import create_app
from tests.factories import make_config
create_app(make_config(make_url("sqlite:///{tmp_path}/k.db")))
assert "celery" not in sys.modules
"""
    ended = subprocess.run([sys.executable, "-W", "error", "-c", script], cwd=ROOT, check=False)

    assert ended.returncode == 0


def test_what_is_asked_for_while_a_message_is_sent_makes_one_more(broker, notifier):
    broker.free.clear()
    notifier.notify(Job.DELIVER)
    wait_until(lambda: broker.tried == 1)
    for _ in range(500):
        notifier.notify(Job.DELIVER)
        notifier.notify(Job.CREDIT)
    broker.free.set()
    wait_until(lambda: len(broker.sent) == 3)
    notifier.notify(Job.REPLAY)
    wait_until(lambda: "replay" in broker.sent)

    assert sorted(broker.sent) == ["credit", "deliver", "deliver", "replay"]


def test_one_process_has_one_thread_however_many_ask_first(broker, notifier):
    start = threading.Barrier(20)

    def ask() -> None:
        start.wait()
        notifier.notify(Job.DELIVER)

    before = {thread.ident for thread in threading.enumerate()}
    asking = [threading.Thread(target=ask) for _ in range(20)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    wait_until(lambda: broker.sent)

    started = [thread for thread in threading.enumerate() if thread.ident not in before]
    assert [thread.name for thread in started] == ["notifier"]
    assert started[0].daemon


def test_outage_is_logged_once_without_the_password_and_the_next_one_again(broker, notifier, caplog):
    for outage in (1, 2):
        broker.is_away, tried = True, broker.tried
        while broker.tried < tried + 3:
            notifier.notify(Job.DELIVER)
            time.sleep(0.001)
        broker.is_away, sent = False, len(broker.sent)
        notifier.notify(Job.DELIVER)
        wait_until(lambda sent=sent: len(broker.sent) > sent)

        assert len(caplog.messages) == outage
    assert caplog.messages[0].startswith("broker not available (OSError)")
    assert "a-password" not in caplog.text


def test_broker_that_is_not_there_is_logged_without_the_password(caplog):
    notifier = new_notifier(AWAY)
    for _ in range(100):
        notifier.notify(Job.DELIVER)
    wait_until(lambda: caplog.messages)

    assert len(caplog.messages) == 1
    assert "a-password" not in caplog.text


def test_a_process_without_further_threads_goes_on(broker, notifier, monkeypatch):
    class Exhausted(threading.Thread):
        def start(self) -> None:
            raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading, "Thread", Exhausted)
    notifier.notify(Job.DELIVER)
    monkeypatch.undo()
    notifier.notify(Job.DELIVER)

    wait_until(lambda: broker.sent)
    assert broker.sent == ["deliver"]


FORKED = """
import os, sys, time
from enums import Job
from worker.broker import Notifier

def connect():
    opened_by = os.getpid()
    return lambda job: os.write(1, f"{opened_by} {job}\\n".encode())

notifier = Notifier(connect)
notifier.notify(Job.DELIVER)
child = os.fork()
notifier.notify(Job.CREDIT)
if not child:
    time.sleep(60)
sys.stdin.read()
os.kill(child, 9)
os.wait()
"""


def test_child_of_a_fork_has_a_thread_and_a_connection_of_its_own():
    command = [sys.executable, "-u", "-c", FORKED]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        lines = [parent.stdout.readline().split() for _ in range(3)]
        parent.stdin.close()

    assert sorted(job for _, job in lines) == ["credit", "credit", "deliver"]
    assert len({process for process, job in lines if job == "credit"}) == 2


def test_a_process_that_ends_at_once_has_sent_its_message():
    script = """
import os
from enums import Job
from worker.broker import Notifier

Notifier(lambda: lambda job: os.write(1, job.encode())).notify(Job.DELIVER)
"""
    ended = subprocess.run([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, check=True)

    assert ended.stdout == b"deliver"

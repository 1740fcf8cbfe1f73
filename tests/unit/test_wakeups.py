"""The notifier alone: what it sends, what it spares, and what it survives."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from config import ROOT
from worker import broker
from worker.broker import Notifier

PATIENCE_SECONDS = 30
AWAY = "redis://:a-password@127.0.0.1:1/0"


def wait_until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class Line:
    """A line that a test can hold up, or cut."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.tried = 0
        self.cut = False
        self.free = threading.Event()
        self.free.set()

    def send(self, job: str) -> None:
        self.tried += 1
        assert self.free.wait(PATIENCE_SECONDS)
        if self.cut:
            raise OSError("redis://:a-password@broker is away")
        self.sent.append(job)


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch) -> Line:
    line = Line()
    monkeypatch.setattr(broker, "_Line", lambda _: line)
    monkeypatch.setattr(broker, "RETRY_AFTER_SECONDS", 0.01)
    return line


def test_without_a_broker_nothing_happens_and_celery_is_not_imported():
    script = "import sys, wakeups; wakeups.Notifier(None).ring('deliver'); assert 'celery' not in sys.modules"

    ended = subprocess.run([sys.executable, "-W", "error", "-c", script], cwd=ROOT, check=False)

    assert ended.returncode == 0


def test_whatever_is_rung_while_a_message_is_sent_makes_one_more(line):
    notifier = Notifier("redis://broker")
    line.free.clear()
    notifier.ring("deliver")
    wait_until(lambda: line.tried == 1)
    for _ in range(500):
        notifier.ring("deliver")
        notifier.ring("credit")
    line.free.set()
    wait_until(lambda: len(line.sent) == 3)
    notifier.ring("replay")
    wait_until(lambda: "replay" in line.sent)

    assert sorted(line.sent) == ["credit", "deliver", "deliver", "replay"]


def test_one_process_has_one_thread_however_many_ring_first(line):
    notifier, start = Notifier("redis://broker"), threading.Barrier(20)

    def ring() -> None:
        start.wait()
        notifier.ring("deliver")

    before = {thread.ident for thread in threading.enumerate()}
    ringing = [threading.Thread(target=ring) for _ in range(20)]
    for thread in ringing:
        thread.start()
    for thread in ringing:
        thread.join()
    wait_until(lambda: line.sent)

    started = [thread for thread in threading.enumerate() if thread.ident not in before]
    assert [thread.name for thread in started] == ["notifier"]
    assert started[0].daemon


def test_outage_is_told_once_without_the_password_and_the_next_one_again(line, caplog):
    notifier = Notifier("redis://broker")
    for outage in (1, 2):
        line.cut, tried = True, line.tried
        while line.tried < tried + 3:
            notifier.ring("deliver")
            time.sleep(0.001)
        line.cut, sent = False, len(line.sent)
        notifier.ring("deliver")
        wait_until(lambda sent=sent: len(line.sent) > sent)

        assert len(caplog.messages) == outage
    assert caplog.messages[0].startswith("broker not available (OSError)")
    assert "a-password" not in caplog.text


def test_broker_that_is_not_there_is_told_without_the_password(caplog):
    notifier = Notifier(AWAY)
    for _ in range(100):
        notifier.ring("deliver")
    wait_until(lambda: caplog.messages)

    assert len(caplog.messages) == 1
    assert "a-password" not in caplog.text


def test_no_more_threads_are_no_reason_to_fail(line, monkeypatch):
    class Exhausted(threading.Thread):
        def start(self) -> None:
            raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading, "Thread", Exhausted)
    notifier = Notifier("redis://broker")
    notifier.ring("deliver")
    monkeypatch.undo()
    notifier.ring("deliver")

    wait_until(lambda: line.sent)
    assert line.sent == ["deliver"]


FORKED = """
import os, sys, time
import wakeups

class Line:
    def __init__(self, url): pass
    def send(self, job): os.write(1, f"{os.getpid()} {job}\\n".encode())

wakeups._Line = Line
notifier = wakeups.Notifier("redis://broker")
notifier.ring("deliver")
child = os.fork()
notifier.ring("credit")
if not child:
    time.sleep(60)
sys.stdin.read()
os.kill(child, 9)
os.wait()
"""


def test_child_of_a_fork_has_a_thread_of_its_own():
    command = [sys.executable, "-u", "-c", FORKED]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        heard = [parent.stdout.readline().split() for _ in range(3)]
        parent.stdin.close()

    assert sorted(job for _, job in heard) == ["credit", "credit", "deliver"]
    assert len({process for process, job in heard if job == "credit"}) == 2

"""A real worker in a process of its own, on a clock that a test moves for all of them; it can be told where to die.

    python -m tests.faults.worker_process CLOCK_FILE [POINT]

Settings come from the environment. The process sends SIGKILL to itself at the point: `before send`, `after send`,
`before settle`, `settle N` (just before the Nth statement of a settle, or its commit), `after settle`.
"""

import dis
import inspect
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import FrameType

from flask import Flask
from sqlalchemy import event

from app import create_app
from config import Config
from database.extension import db
from http_client.client import Client
from outbox import results
from worker import loop

WATCHED = {"send": Client.post.__code__, "settle": inspect.unwrap(results.settle).__code__}

STOPPING = "stopping"
WORKING = "working"


class FileClock:
    """The time of this machine, and as many seconds more as are in a file."""

    def __init__(self, file: Path) -> None:
        self.file = file
        if not file.exists():
            self.set(0)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.offset()

    def offset(self) -> timedelta:
        return timedelta(seconds=float(self.file.read_text()))

    def set(self, seconds: float) -> None:
        """Write the seconds so that nobody reads half of them."""
        draft = self.file.with_suffix(".draft")
        draft.write_text(str(seconds))
        draft.replace(self.file)

    def move(self, **span: float) -> None:
        self.set((self.offset() + timedelta(**span)).total_seconds())


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_at(point: str, app: Flask) -> None:
    """Put an end to this process at a point of its work."""
    when, _, where = point.partition(" ")
    if when == "settle":
        # Where there are fewer statements than that, nothing is left to die before.
        watch("settle", begun=lambda: die_before_statement(int(where), app), ended=lambda: os._exit(0))
    elif when == "before":
        watch(where, begun=die)
    elif when == "after":
        watch(where, ended=die)
    else:
        raise ValueError(point)


def watch(name: str, *, begun: Callable[[], None] = int, ended: Callable[[], None] = int) -> None:
    """Do something when one of our functions is called, or returns, in whichever thread; the code stays as it is."""
    code = WATCHED[name]

    def profile(frame: FrameType, event: str, _argument: object) -> None:
        if frame.f_code is code and event == "call":
            begun()
        elif frame.f_code is code and event == "return" and not is_raising(frame):
            ended()

    threading.setprofile(profile)
    sys.setprofile(profile)


def is_raising(frame: FrameType) -> bool:
    """Return whether a function ends with an exception, of which its event says nothing."""
    return not dis.opname[frame.f_code.co_code[frame.f_lasti]].startswith("RETURN")


def die_before_statement(number: int, app: Flask) -> None:
    """Die just before so many statements from now on, or commits, have been sent to the database."""
    count = 0

    def die_in_time(*_: object) -> None:
        nonlocal count
        count += 1
        if count == number:
            die()

    with app.app_context():
        for moment in ("before_cursor_execute", "commit"):
            event.listen(db.engine, moment, die_in_time)


def say(word: str) -> None:
    """Write a line to stdout, at once: a signal's handler may do so in the midst of another line, print() may not."""
    os.write(sys.stdout.fileno(), f"{word}\n".encode())


def main(clock_file: str, point: str = "", *, environ: Mapping[str, str] = os.environ) -> None:
    app = create_app(Config.from_env(environ), FileClock(Path(clock_file)))
    stop = threading.Event()

    def end(*_: object) -> None:
        stop.set()
        say(STOPPING)

    signal.signal(signal.SIGTERM, end)
    if point:
        die_at(point, app)
    say(WORKING)
    with app.app_context():
        loop.run(stop)
        db.engine.dispose()


if __name__ == "__main__":
    main(*sys.argv[1:])

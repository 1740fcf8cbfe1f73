"""Workers as processes: started, told to end, killed; on one database and one clock."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Self

from sqlalchemy import URL

from config import ROOT
from tests.factories import SECRET, SECRETS_KEY
from tests.faults.server import WITH_US
from tests.faults.worker_process import WORKING
from tests.waiting import PATIENCE_SECONDS, wait_until


class Worker:
    """One worker process; `point` is where it dies, as worker_process.py says."""

    def __init__(self, url: URL, clock_file: Path, log: Path, *, point: str = "") -> None:
        self.url = url
        self.log = log
        self.arguments = [str(clock_file), *([point] if point else [])]

    def __enter__(self) -> Self:
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [*WITH_US, sys.executable, "-W", "error", "-m", "tests.faults.worker_process", *self.arguments],
                cwd=ROOT,
                env={"PATH": os.environ["PATH"], **settings(self.url)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        """Kill it, and wait until it is gone."""
        self.process.kill()
        self.process.wait()

    def begin_to_end(self) -> None:
        """Send SIGTERM."""
        self.process.send_signal(signal.SIGTERM)

    def end(self) -> None:
        """Have it end in good order."""
        self.wait_for(WORKING)
        self.begin_to_end()
        assert self.status() == 0, self.written()
        assert "Traceback" not in self.written(), self.written()

    def status(self) -> int:
        """Wait until it has ended, and return how."""
        return self.process.wait(PATIENCE_SECONDS)

    def wait_for(self, text: str) -> None:
        """Wait until it has written this."""
        wait_until(lambda: text in self.written(), why=self.written)

    def written(self) -> str:
        """Return what it has written so far."""
        return self.log.read_text(errors="replace")


def settings(url: URL) -> dict[str, str]:
    """Return what a worker needs in its environment."""
    return {
        "DATABASE_URL": url.render_as_string(hide_password=False),
        "BANK_WEBHOOK_SECRETS": SECRET,
        "SECRETS_KEYS": SECRETS_KEY,
        "ENDPOINTS_ON_LOOPBACK": "allow",
    }

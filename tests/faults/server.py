"""The real gunicorn of an outage: started, killed in parts or as a whole, ended in good order, started again."""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from sqlalchemy import URL

from config import ROOT
from tests.clusters import free_port
from tests.e2e.server import PATIENCE_SECONDS, talk
from tests.factories import SECRET, SECRETS_KEY

START_ATTEMPTS = 5
"""How often a supervisor would start a server whose port is still held by what was left of the one before."""

WITH_US = ("setpriv", "--pdeathsig", "KILL") if shutil.which("setpriv") else ()
"""Put before a command so that it does not outlive the test, whatever ends the test."""

TROUBLE = re.compile(r"Traceback|WORKER TIMEOUT|graceful timeout|^\[[^]]*\] [A-Z]+ \S+ (?!503)5\d\d ")
"""What the server must never write, whatever befalls it."""

POOL_NOTICE = re.compile(r"^Exception during reset or similar\n(?:(?!\[|request ).*\n)*", re.MULTILINE)
"""What SQLAlchemy writes, with a stack, when a connection dies while it is put back; everyone was answered by then."""

ACCESS = re.compile(r" \d{3} \d+us ")

HEALTH = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


class Server:
    """A gunicorn on a database; `inside` is what each command is put behind, to run it elsewhere."""

    def __init__(self, url: URL, log: Path, *, inside: Sequence[str] = ()) -> None:
        self.url = url
        self.log = log
        self.inside = inside
        self.port = free_port()
        self._master: subprocess.Popen[bytes] | None = None
        self._read = 0

    def __enter__(self) -> Self:
        self.log.touch()
        self.flask("db", "upgrade")
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill_all()

    @property
    def master(self) -> subprocess.Popen[bytes]:
        assert self._master is not None, "the server was not started"
        return self._master

    def start(self) -> None:
        """Start the server, again if its port is not free yet, and wait until a worker of it answers."""
        for _ in range(START_ATTEMPTS):
            self._master = self._spawn()
            if self._is_served():
                return
            self.kill_all()
        raise AssertionError(f"the server did not start:\n{self.tail()}")

    def workers(self) -> list[int]:
        """Return the process ids of the workers, in no order."""
        pid = self.master.pid
        found = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        return random.sample(found, len(found))

    def kill_master(self) -> None:
        """Kill the master alone: its workers are left to find out by themselves."""
        self.master.kill()
        self.master.wait()

    def kill_all(self) -> None:
        """Kill master and workers at one instant."""
        if self._master is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(self._master.pid, signal.SIGKILL)
        self._master.wait()

    def terminate(self) -> None:
        """End the server in good order: it answers whom it let in, exits with 0, and had nobody killed."""
        before = self.log.stat().st_size
        self.master.terminate()
        status = self.master.wait(PATIENCE_SECONDS)
        self._master = None  # its number may be somebody else's from now on
        written = self.log.read_bytes()[before:].decode(errors="replace")
        assert status == 0, f"the server ended with {status}:\n{self.tail()}"
        assert "SIGKILL" not in written, f"a worker had to be killed:\n{self.tail()}"

    def flask(self, *arguments: str, given: str = "") -> str:
        """Run a command of ours on this server's database; fail with what it printed when it does."""
        result = subprocess.run(
            [*self.inside, Path(sys.executable).with_name("flask"), *arguments],
            cwd=ROOT,
            env=self._environ(),
            input=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert result.returncode == 0, f"flask {' '.join(arguments)} failed:\n{result.stdout}"
        return result.stdout

    def status(self, path: str) -> int:
        """Return the status of a GET on a connection of its own."""
        request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        return talk(self.port, request.encode())[0]

    def troubles(self) -> list[str]:
        """Return the lines written since last asked that the server must never write."""
        with self.log.open("rb") as file:
            file.seek(self._read)
            written = file.read().decode(errors="replace")
            self._read = file.tell()
        return [line for line in POOL_NOTICE.sub("", written).splitlines() if TROUBLE.search(line)]

    def tail(self) -> str:
        """Return the last that the server wrote, without the access log."""
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join([line for line in lines if not ACCESS.search(line)][-40:])

    def _environ(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "DATABASE_URL": self.url.render_as_string(hide_password=False),
            "BANK_WEBHOOK_SECRETS": SECRET,
            "SECRETS_KEYS": SECRETS_KEY,
            "PORT": str(self.port),
        }

    def _spawn(self) -> subprocess.Popen[bytes]:
        self._started_at = self.log.stat().st_size
        with self.log.open("ab") as output:
            return subprocess.Popen(
                [*self.inside, *WITH_US, Path(sys.executable).with_name("gunicorn")],
                cwd=ROOT,
                env=self._environ(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _is_served(self) -> bool:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline and self.master.poll() is None:
            # Its own worker, and not one that outlives the master before.
            if b"Booting worker" in self.log.read_bytes()[self._started_at :] and self._answers():
                return True
            time.sleep(0.05)
        return False

    def _answers(self) -> bool:
        try:
            return talk(self.port, HEALTH)[0] == 200
        except (OSError, IndexError):
            return False

"""The processes that are measured: gunicorn with the repository's own configuration, and `flask worker`."""

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import IO

from sqlalchemy import URL

from bench.load import SECRET, SECRETS_KEY
from bench.truth import Untrue, hold
from config import ROOT
from tests.clusters import free_port

START_SECONDS = 60
STOP_SECONDS = 60
LOG_CHARACTERS = 3000
KOPECK = "app:create_app()"
CEILING = "bench.ceiling:app"
PLAIN = "bench.plain:app"
UNGROUPED = "bench.ungrouped:app"


@dataclass(frozen=True, kw_only=True)
class Server:
    """A gunicorn that listens on 127.0.0.1."""

    port: int
    pid: int

    def workers(self) -> list[int]:
        """Return the processes that do the work."""
        return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]

    def caller(self) -> HTTPConnection:
        """Return a connection for single requests, which stays open between them."""
        return HTTPConnection("localhost", self.port, timeout=START_SECONDS)


def command(name: str) -> str:
    """Return the path of a command of the virtualenv that this runs in."""
    return str(Path(sys.executable).with_name(name))


def environment(url: URL, port: int = 8000) -> dict[str, str]:
    """Return what a process of Kopeck is told, and nothing else of ours."""
    return {
        "PATH": "/usr/bin:/bin",
        "KOPECK_ENV": "development",
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "DATABASE_URL": url.render_as_string(hide_password=False),
        "BANK_WEBHOOK_SECRETS": SECRET,
        "SECRETS_KEYS": SECRETS_KEY,
        "UNKNOWN_INN": "create",
        "ENDPOINTS_ON_LOOPBACK": "allow",
    }


@contextmanager
def running(words: Sequence[str], env: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process as long as this lasts; raise Untrue if it does not end in good order, with what it said."""
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(  # noqa: S603 - our own words
            words,
            cwd=ROOT,
            env=env,
            # Production's access log goes to a pipe; it is written here too, to where it costs nobody's disk.
            stdout=subprocess.DEVNULL,
            stderr=log,
            start_new_session=True,
        )
        try:
            yield process
        except Untrue as error:
            raise Untrue(f"{error}\n{_tail(log)}") from None
        finally:
            process.terminate()
            code = process.wait(timeout=STOP_SECONDS)
        told = _tail(log)
    hold(code == 0 and not re.search("Traceback|SIGKILL", told), f"{' '.join(words[1:])} had trouble:\n{told}")


@contextmanager
def served(application: str, url: URL, *flags: str) -> Iterator[Server]:
    """Serve an application on a database and a port of its own; raise Untrue if it does not end in good order.

    Flags are gunicorn's, and win over gunicorn.conf.py.
    """
    port = free_port()
    with running([command("gunicorn"), *flags, application], environment(url, port)) as process:
        _wait_until_served(process, port)
        yield Server(port=port, pid=process.pid)


@contextmanager
def working(url: URL) -> Iterator[None]:
    """Run one worker on a database; raise Untrue if it does not end in good order."""
    with running([command("flask"), "worker"], environment(url)):
        yield


def _tail(log: IO[str]) -> str:
    log.seek(0)
    return log.read()[-LOG_CHARACTERS:]


def _wait_until_served(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        connection = HTTPConnection("localhost", port, timeout=START_SECONDS)
        try:
            connection.request("GET", "/healthz")
            connection.getresponse().read()
            return
        except OSError:
            time.sleep(0.05)
        finally:
            connection.close()
    hold(False, "gunicorn did not start")

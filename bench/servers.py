"""The processes that are measured: gunicorn with the configuration of this repository, and `flask worker`."""

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

from bench.checks import CheckFailed, check
from bench.load import SECRET, SECRETS_KEY
from config import ROOT
from tests.clusters import free_port

START_SECONDS = 60
STOP_SECONDS = 60
LOG_CHARACTERS = 3000
KOPECK = "app:create_app()"
CEILING = "bench.ceiling:app"
FLASK_ALONE = "bench.flask_alone:app"
FLASK_ALONE_SERVER = "--config=python:bench.flask_server"
PLAIN = "bench.plain:app"
UNGROUPED = "bench.ungrouped:app"


@dataclass(frozen=True, kw_only=True)
class Server:
    """A gunicorn that listens on 127.0.0.1."""

    port: int
    pid: int

    def worker_pids(self) -> list[int]:
        """Return the process ids of the workers."""
        return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]

    def connect(self) -> HTTPConnection:
        """Return a connection that stays open between requests."""
        return HTTPConnection("localhost", self.port, timeout=START_SECONDS)


def executable(name: str) -> str:
    """Return the path of a command in the current virtualenv."""
    return str(Path(sys.executable).with_name(name))


def environment(url: URL, port: int = 8000) -> dict[str, str]:
    """Return the environment variables of a process of Kopeck, which may send to us. Ours are not inherited."""
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


PRODUCTION = {"KOPECK_ENV": "production", "ENDPOINTS_ON_LOOPBACK": "refuse"}
"""What a server is measured with: in development each request is looked at more closely, and reads at no key."""


@contextmanager
def running(command: Sequence[str], env: Mapping[str, str], root: Path = ROOT) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process until the end of the `with` block. Raise CheckFailed with its output if it does not end cleanly."""
    with tempfile.TemporaryFile("w+") as log_file:
        process = subprocess.Popen(  # noqa: S603 - our own arguments
            command,
            cwd=root,
            env=env,
            # The access log is written as in production, but it must not cost disk time.
            stdout=subprocess.DEVNULL,
            stderr=log_file,
            start_new_session=True,
        )
        try:
            yield process
        except CheckFailed as error:
            raise CheckFailed(f"{error}\n{_tail(log_file)}") from None
        finally:
            process.terminate()
            code = process.wait(timeout=STOP_SECONDS)
        output = _tail(log_file)
    check(
        code == 0 and not re.search("Traceback|SIGKILL", output),
        f"{' '.join(command[1:])} did not end cleanly:\n{output}",
    )


@contextmanager
def serve(application: str, url: URL, *flags: str, root: Path = ROOT) -> Iterator[Server]:
    """Serve an application on a database and a free port. Raise CheckFailed if it does not end cleanly.

    The flags are those of gunicorn, and override gunicorn.conf.py. `root` is the checkout that is served.
    """
    port = free_port()
    env = environment(url, port) | PRODUCTION
    with running([executable("gunicorn"), *flags, application], env, root) as process:
        _wait_until_served(process, port)
        yield Server(port=port, pid=process.pid)


@contextmanager
def worker(url: URL, root: Path = ROOT) -> Iterator[int]:
    """Run one worker of a checkout on a database, and give its process id. Raise CheckFailed if it ends badly."""
    with running([executable("flask"), "worker"], environment(url), root) as process:
        yield process.pid


def _tail(log_file: IO[str]) -> str:
    log_file.seek(0)
    return log_file.read()[-LOG_CHARACTERS:]


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
    check(False, "gunicorn did not start")

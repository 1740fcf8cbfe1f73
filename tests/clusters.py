"""Database servers of a test's own: in a temporary folder, on a port of their own, started and killed at will.

Nothing of them is left when the `with` ends or when the process that holds them dies, however it dies.
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from sqlalchemy import URL, create_engine, text

START_SECONDS = 60
STOP_SECONDS = 60
DATABASE = "kopeck"
POSTGRESQL_FOLDERS = "/usr/lib/postgresql"
SYSTEM_FOLDERS = "/usr/local/sbin:/usr/sbin:/sbin"
"""Where servers are, and an ordinary user's PATH does not lead."""

CLEANER = """
cat > /dev/null
for seconds in 0.1 0.1 0.1 0.2 0.5 1 1 1 1 1 1 1; do
    pid=$(head -n 1 "$2" 2> /dev/null) && kill -"$1" "$pid" 2> /dev/null || break
    sleep $seconds
done
rm -rf "$3"
"""
"""Waits for the end of its input, which is the end of whoever holds the other side; then ends the server."""


def available() -> tuple[str, ...]:
    """Return for which databases a server can be started here."""
    found = {"postgresql": _find("initdb"), "mariadb": _find("mariadbd") and _find("mariadb-install-db")}
    return tuple(family for family, binary in found.items() if binary)


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


class Cluster:
    """What every server has: a folder, a port, settings, and somebody who clears up behind it."""

    url: URL
    owner: str
    pid_file: str
    last_signal: str

    def __init__(self, **settings: str) -> None:
        self.settings = settings
        self.port = free_port()

    def __enter__(self) -> Self:
        self.folder = Path(tempfile.mkdtemp(prefix="kopeck-cluster-"))
        self.data = self.folder / "data"
        self.log = self.folder / "log"
        arguments = [self.last_signal, str(self.folder / self.pid_file), str(self.folder)]
        self._cleaner = subprocess.Popen(
            ["sh", "-c", CLEANER, "cleaner", *arguments], stdin=subprocess.PIPE, cwd="/", start_new_session=True
        )
        try:
            if os.geteuid() == 0:
                shutil.chown(self.folder, self.owner)
            self._make()
            self.start()
            self._create_database()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._cleaner.communicate()

    @property
    def pid(self) -> int:
        """Return the server's process, while it runs."""
        return int((self.folder / self.pid_file).read_text().split()[0])

    def start(self) -> None:
        """Start the server and wait until it answers."""
        raise NotImplementedError

    def _make(self) -> None:
        raise NotImplementedError

    def _create_database(self) -> None:
        raise NotImplementedError

    def _run(self, command: Sequence[str | Path]) -> None:
        """Run a command as the owner of the server; what it printed is in the error when it fails."""
        as_owner = ["setpriv", f"--reuid={self.owner}", f"--regid={self.owner}", "--init-groups"]
        result = subprocess.run(
            [*(as_owner if os.geteuid() == 0 else []), *command],
            cwd=self.folder,
            env=self._environ(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode:
            raise RuntimeError(f"{command[0]} failed:\n{result.stdout}{result.stderr}{self._logged()}")

    def _environ(self) -> dict[str, str]:
        """Give the server a place of its own for passing files: a MariaDB that starts removes those of all others."""
        return {**os.environ, "TMPDIR": str(self.folder)}

    def _logged(self) -> str:
        return self.log.read_text(errors="replace")[-4000:] if self.log.exists() else ""


class PostgresqlCluster(Cluster):
    """A PostgreSQL with the settings of postgresql.conf that are given; everyone on 127.0.0.1 is trusted."""

    owner = "postgres"
    pid_file = "data/postmaster.pid"
    last_signal = "QUIT"  # `immediate`, so that no shared memory stays behind

    def __init__(self, **settings: str) -> None:
        super().__init__(**settings)
        self.binaries = Path(_find("initdb") or "").resolve().parent
        self.url = URL.create(
            "postgresql+psycopg", username="postgres", host="127.0.0.1", port=self.port, database=DATABASE
        )

    def start(self) -> None:
        """Start the server and wait until it answers."""
        self._control("start", "-l", str(self.log), "-t", str(START_SECONDS))

    def stop(self, mode: str = "fast") -> None:
        """Stop the server as `pg_ctl stop` does: `fast` in good order, `immediate` without any."""
        self._control("stop", "-m", mode, "-t", str(STOP_SECONDS))

    def _make(self) -> None:
        encoding = ["--encoding=UTF8", "--locale=C"]
        self._run([self.binaries / "initdb", "-D", self.data, "-U", "postgres", "--auth=trust", "--no-sync", *encoding])
        own = {"listen_addresses": "127.0.0.1", "port": str(self.port), "unix_socket_directories": str(self.folder)}
        with (self.data / "postgresql.conf").open("a") as file:
            for name, value in {**own, **self.settings}.items():
                quoted = value.replace("'", "''")
                file.write(f"{name} = '{quoted}'\n")

    def _create_database(self) -> None:
        _execute(self.url.set(database="postgres"), f"CREATE DATABASE {DATABASE}")

    def _control(self, *arguments: str) -> None:
        self._run([self.binaries / "pg_ctl", "--silent", "-w", "-D", self.data, *arguments])


class MariadbCluster(Cluster):
    """A MariaDB with the options of mariadbd that are given; `kopeck` may do everything, without a password."""

    owner = "mysql"
    pid_file = "pid"
    last_signal = "KILL"

    def __init__(self, **settings: str) -> None:
        super().__init__(**settings)
        url = URL.create("mariadb+pymysql", username="kopeck", host="127.0.0.1", port=self.port, database=DATABASE)
        self.url = url.set(query={"ssl_disabled": "true"})  # as in tests/databases.py

    def start(self) -> None:
        """Start the server and wait until it answers."""
        own = {
            "datadir": str(self.data),
            "port": str(self.port),
            "bind_address": "127.0.0.1",
            "socket": str(self._socket),
            "pid_file": str(self.folder / self.pid_file),
            "log_error": str(self.log),
            "character_set_server": "utf8mb4",
            "innodb_flush_log_at_trx_commit": "1",
        }
        options = [f"--{name.replace('_', '-')}={value}" for name, value in {**own, **self.settings}.items()]
        self._server = subprocess.Popen(
            [_find("mariadbd") or "mariadbd", "--no-defaults", "--skip-name-resolve", *self._as_owner(), *options],
            cwd=self.folder,
            env=self._environ(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._wait_until_served()

    def stop(self) -> None:
        """Stop the server in good order."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill the server."""
        self._end(signal.SIGKILL)

    def __exit__(self, *_: object) -> None:
        if hasattr(self, "_server"):
            self.kill()
        super().__exit__()

    @property
    def _socket(self) -> Path:
        return self.folder / "socket"

    def _make(self) -> None:
        options = ["--auth-root-authentication-method=normal", "--skip-test-db"]
        self._run(
            [
                _find("mariadb-install-db") or "mariadb-install-db",
                "--no-defaults",
                f"--datadir={self.data}",
                *self._as_owner(),
                *options,
            ]
        )

    def _create_database(self) -> None:
        root = URL.create("mariadb+pymysql", username="root", query={"unix_socket": str(self._socket)})
        user = "kopeck@'127.0.0.1'"
        _execute(root, f"CREATE DATABASE {DATABASE}", f"CREATE USER {user}", f"GRANT ALL PRIVILEGES ON *.* TO {user}")

    def _as_owner(self) -> list[str]:
        return [f"--user={self.owner}"] if os.geteuid() == 0 else []

    def _end(self, how: signal.Signals) -> None:
        self._server.send_signal(how)
        self._server.wait(timeout=STOP_SECONDS)
        # What SIGKILL leaves behind may be the number of somebody else by the time the cleaner reads it.
        (self.folder / self.pid_file).unlink(missing_ok=True)

    def _wait_until_served(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._server.poll() is None:
            try:
                # Who may log in is not the question yet: a greeting is all that a started server owes.
                with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                    if connection.recv(1):
                        return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError(f"mariadbd did not start:\n{self._logged()}")


def _find(name: str) -> str | None:
    newest_first = sorted(Path(POSTGRESQL_FOLDERS).glob("*/bin"), key=lambda folder: folder.parent.name, reverse=True)
    folders = [os.environ.get("PATH", os.defpath), *map(str, newest_first), SYSTEM_FOLDERS]
    return shutil.which(name, path=os.pathsep.join(folders))


def _execute(url: URL, *statements: str) -> None:
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()

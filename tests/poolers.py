"""A real PgBouncer in front of a PostgreSQL server of a test's own."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import URL

from tests.clusters import PostgresqlCluster, free_port
from tests.waiting import PATIENCE_SECONDS

PROGRAM = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin:/opt/homebrew/bin")
CONFIG = """
[databases]
* = host=127.0.0.1 port={server}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {folder}/users
pool_mode = {mode}
default_pool_size = {size}
server_login_retry = 1
query_wait_timeout = 5
server_reset_query =
"""


@contextmanager
def in_front(cluster: PostgresqlCluster, *, mode: str, size: int) -> Iterator[URL]:
    """Run PgBouncer in a pool mode, with so many connections to the server; give its address.

    It cleans nothing up between two clients, so that what we would leave to others can be seen.
    """
    if PROGRAM is None:
        pytest.skip("pgbouncer is not here: nothing was tried behind it")
    with tempfile.TemporaryDirectory(prefix="kopeck-pooler-") as folder:
        port = free_port()
        Path(folder).chmod(0o755)
        (Path(folder) / "users").write_text(f'"{cluster.url.username}" ""\n')
        file = Path(folder) / "pgbouncer.ini"
        file.write_text(CONFIG.format(folder=folder, server=cluster.port, port=port, mode=mode, size=size))
        # It does not run as root.
        as_owner = ["setpriv", f"--reuid={cluster.owner}", f"--regid={cluster.owner}", "--init-groups"]
        command = [*(as_owner if os.geteuid() == 0 else []), PROGRAM, "--quiet", str(file)]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                _wait_until_served(port, process)
                yield cluster.url.set(port=port)
            finally:
                process.kill()


def _wait_until_served(port: int, process: subprocess.Popen[bytes]) -> None:
    ends_at = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < ends_at and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise AssertionError("pgbouncer did not start")

"""A real nginx in front of a server, with the defaults of its package but for what a test writes itself."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.waiting import PATIENCE_SECONDS

PROGRAM = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin:/opt/homebrew/bin")
CONFIG = """
daemon off;
{user}
pid {folder}/nginx.pid;
error_log stderr error;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {http}
    server {{
        listen 127.0.0.1:{port};
        {locations}
    }}
}}
"""


@contextmanager
def in_front(locations: str, *, http: str = "", user: str = "") -> Iterator[int]:
    """Run nginx with these locations, and give its port."""
    if PROGRAM is None:
        pytest.skip("nginx is not here: nothing was tried behind it")
    with socket.socket() as free, TemporaryDirectory(prefix="kopeck-nginx-") as folder:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        Path(folder).chmod(0o755)
        file = Path(folder) / "nginx.conf"
        file.write_text(CONFIG.format(folder=folder, port=port, locations=locations, http=http, user=user))
        free.close()
        nginx = subprocess.Popen([PROGRAM, "-c", str(file), "-p", folder], stderr=subprocess.PIPE)
        try:
            _wait_until_it_listens(nginx, port)
            yield port
        finally:
            nginx.terminate()
            nginx.communicate(timeout=PATIENCE_SECONDS)


def _wait_until_it_listens(nginx: "subprocess.Popen[bytes]", port: int) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while nginx.poll() is None and time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
    raise AssertionError(f"nginx did not start: {nginx.communicate()[1].decode()}")

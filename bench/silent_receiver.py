"""Endpoints that hang: a process of its own that accepts connections and never answers.

`python -m bench.silent_receiver PORT`.
"""

import asyncio
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from bench.checks import check
from bench.servers import running
from tests.clusters import free_port

START_SECONDS = 20


@contextmanager
def hanging() -> Iterator[str]:
    """Run it until the end of the `with` block. Yield the beginning of its URLs."""
    port = free_port()
    with running([sys.executable, "-m", "bench.silent_receiver", str(port)], {}):
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                check(time.monotonic() < deadline, "the silent receiver did not start")
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"


async def _serve(port: int) -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", port, backlog=512)
    await ended.wait()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))

"""The access log's lines are written many at once, and come out whole where two processes write to one pipe."""

import logging
from datetime import timedelta
from types import SimpleNamespace

import pytest
from gunicorn.config import Config

from limits import ACCESS_LOG_LINES_MAX
from server import REQUEST_ID
from server.access_log import AccessLog

PIPE_BUF = 4096
"""What POSIX has a pipe take in one piece on Linux; see pipe(7)."""


@pytest.fixture
def pieces():
    """Collect what is written at once."""
    written = []
    handler = logging.Handler()
    handler.emit = lambda record: written.append(f"{record.getMessage()}\n")
    logger = logging.getLogger("gunicorn.access")
    logger.addHandler(handler)
    yield written
    logger.removeHandler(handler)


def request(log: AccessLog, path: str) -> None:
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": path, REQUEST_ID: "id"}
    log.access(SimpleNamespace(status="200 OK"), None, environ, timedelta(microseconds=7))


def test_no_piece_is_longer_than_a_pipe_takes_at_once(pieces):
    log = AccessLog(Config())
    paths = [f"/{number:03}/{'x' * (number % 150)}" for number in range(ACCESS_LOG_LINES_MAX)]

    for path in paths:
        request(log, path)

    lines = "".join(pieces).splitlines()
    assert [line.split(" ")[3] for line in lines] == paths
    assert all(line.endswith(" 200 7us id") for line in lines)
    assert max(map(len, pieces)) <= PIPE_BUF
    assert len(pieces) <= 1 + sum(map(len, pieces)) // (PIPE_BUF - 300)


def test_what_waits_is_written_once(pieces):
    log = AccessLog(Config())
    request(log, "/one")
    assert pieces == []

    log.write_waiting()
    log.write_waiting()

    assert len(pieces) == 1

"""The latency of single requests while nothing else runs. Two kinds of request alternate."""

import base64
import json
import random
import statistics
import time
from collections.abc import Callable
from http.client import HTTPConnection
from typing import Any

import signing
from bench.checks import check
from bench.databases import Database
from bench.load import SECRET, WEBHOOK, credit_body

PAGE_ROWS = 50

Call = Callable[[], float]
"""Sends one request and returns the milliseconds until its answer. Raises CheckFailed when the answer is wrong."""


def medians(first: Call, second: Call, pairs: int) -> tuple[float, float]:
    """Call both in pairs, and return the median of each in milliseconds. Every second pair swaps the order."""
    times: dict[Call, list[float]] = {first: [], second: []}
    for number in range(pairs):
        for call in (first, second) if number % 2 == 0 else (second, first):
            times[call].append(call())
    return statistics.median(times[first]), statistics.median(times[second])


def credit(connection: HTTPConnection, inns: list[str]) -> Call:
    """Return a call that sends a new credit."""

    def call() -> float:
        body = credit_body(random.choice(inns), random.randrange(10**8))  # noqa: S311 - not a secret
        headers = {"Content-Type": "application/json", "X-Signature": signing.sign(body, SECRET)}
        milliseconds, answer = _timed(connection, "POST", WEBHOOK, body, headers)
        check(answer["status"] == "credited", f"not credited: {answer}")
        return milliseconds

    return call


def first_page(connection: HTTPConnection, database: Database, inn: str, rows: int) -> Call:
    """Return a call that reads the first page of a log with so many rows."""
    return lambda: _page(connection, database, inn, rows)


def deep_page(connection: HTTPConnection, database: Database, inn: str, rows: int) -> Call:
    """Return a call that reads a random page in the older half of a log."""
    return lambda: _page(
        connection,
        database,
        inn,
        random.randrange(PAGE_ROWS, rows // 2),  # noqa: S311 - not a secret
        deep=True,
    )


def _page(connection: HTTPConnection, database: Database, inn: str, newest: int, *, deep: bool = False) -> float:
    cursor = base64.urlsafe_b64encode(str(newest + 1).encode()).decode().rstrip("=")
    query = f"limit={PAGE_ROWS}&cursor={cursor}" if deep else f"limit={PAGE_ROWS}"
    path, headers = f"/api/v1/organizations/{inn}/log/?{query}", {"Authorization": f"Bearer {database.api_key}"}
    milliseconds, answer = _timed(connection, "GET", path, None, headers)
    versions = [item["version"] for item in answer["items"]]
    check(versions == list(range(newest, newest - PAGE_ROWS, -1)), f"not the page from version {newest} down")
    return milliseconds


def _timed(
    connection: HTTPConnection, method: str, path: str, body: bytes | None, headers: dict[str, str]
) -> tuple[float, Any]:
    begun = time.perf_counter()
    connection.request(method, path, body, headers)
    response = connection.getresponse()
    content = response.read()
    milliseconds = (time.perf_counter() - begun) * 1000
    check(response.status == 200, f"{method} {path}: {response.status}")
    return milliseconds, json.loads(content)

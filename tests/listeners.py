"""What tests of announcements share: endpoints, workers that work when they are told to, and a look at what came."""

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

from flask import Flask

from tests.callers import Operator
from tests.receivers import Answer, ReceivedRequest, Receiver
from worker import jobs

Row = dict[str, Any]

NOBODY = "http://127.0.0.1:9/"
"""An address on this machine where nothing answers."""

ELSEWHERE = "https://billing.example.com/kopeck"
"""An address of the public internet, for endpoints that nothing is sent to."""

EARLY = "2026-01-01T00:00:00Z"
"""A moment before everything that a test does."""

PATIENCE_SECONDS = 60
"""How long a thread or a process may take before the test gives up on it; nothing is measured by it."""


def subscribe(operator: Operator, url: str, **asked: object) -> Row:
    """Register an endpoint; return its number and its secret."""
    answer = operator.post("/endpoints/", url=url, **asked)
    assert answer.status_code == 201, answer.text
    return answer.json


def deliver(app: Flask) -> int:
    """Let a worker send what is due at this moment of the clock."""
    with app.app_context():
        return jobs.deliver()


def credit(app: Flask) -> int:
    """Let a worker credit what waits in the inbox."""
    with app.app_context():
        return jobs.credit()


def replay(app: Flask) -> int:
    """Let a worker queue what replays ask for."""
    with app.app_context():
        return jobs.replay()


def bodies(receiver: Receiver) -> list[Row]:
    """Return the bodies that an endpoint has received, the first one first."""
    return [json.loads(request.body) for request in receiver.received]


def answering(*statuses: int, headers: Mapping[str, str] | None = None) -> Callable[[ReceivedRequest], Answer]:
    """Answer with each of these in turn, and with 200 from then on."""
    left = iter(statuses)

    def answer(_request: ReceivedRequest) -> Answer:
        status = next(left, None)
        return (200, {}, b"ok") if status is None else (status, dict(headers or {}), b"not now")

    return answer


def always(
    status: int, headers: Mapping[str, str] | None = None, body: bytes = b""
) -> Callable[[ReceivedRequest], Answer]:
    return lambda _request: (status, dict(headers or {}), body)


def deliveries(operator: Operator, **filters: object) -> list[Row]:
    """Return deliveries as the API lists them, the oldest first."""
    answer = operator.get("/deliveries/", **filters)
    assert answer.status_code == 200, answer.text
    return list(reversed(answer.json["items"]))


def only_delivery(operator: Operator, **filters: object) -> Row:
    """Return the one delivery that there is, with its attempts."""
    (row,) = deliveries(operator, **filters)
    return operator.get(f"/deliveries/{row['id']}/").json


def moment(text: str) -> datetime:
    """Read a moment of an answer."""
    return datetime.fromisoformat(text)


def members(rows: Iterable[Row], *names: str) -> list[tuple[Any, ...]]:
    """Return these members of each."""
    return [tuple(row[name] for name in names) for row in rows]


def amounts(receiver: Receiver) -> list[int]:
    """Return the amounts of the credits that an endpoint has received."""
    return [body["data"]["amount"] for body in bodies(receiver)]


def statuses(delivery: Row) -> list[tuple[Any, ...]]:
    """Return number, cause and status of each attempt at a delivery."""
    return members(delivery["attempts"], "number", "cause", "status_code")

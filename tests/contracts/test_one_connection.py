"""No request holds two connections of the pool: as many requests as it has connections would wait for each other."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from flask import Flask
from sqlalchemy import event

from database.extension import db
from tests.callers import Bank
from tests.world import CALLS, make_world, request_of


@contextmanager
def pool_watched(app: Flask) -> Iterator[list[int]]:
    """Collect how many connections were out of the pool each time that one was taken."""
    held: set[object] = set()
    counts: list[int] = []

    def take(_connection: object, record: object, _proxy: object) -> None:
        held.add(record)
        counts.append(len(held))

    with app.app_context():
        pool = db.engine.pool
    event.listen(pool, "checkout", take)
    event.listen(pool, "checkin", lambda _connection, record: held.discard(record))
    yield counts


@pytest.mark.parametrize("route", sorted(CALLS), ids=str)
def test_call_of_the_api(app, client, operator, route):
    request = request_of(route, make_world(app, operator).own)

    with pool_watched(app) as counts:
        client.open(**request, headers={"Authorization": f"Bearer {operator.key}", "Idempotency-Key": "k"})

    assert set(counts) == {1}


@pytest.mark.parametrize("token", [None, "Basic x", "Bearer "])
@pytest.mark.parametrize("path", ["", "balance/", "log/"])
def test_who_shows_no_key_gets_none(make_app, token, path):
    app = make_app(KOPECK_ENV="production")

    with pool_watched(app) as counts:
        answer = app.test_client().get(
            f"/api/v1/organizations/7707083893/{path}", headers={"Authorization": token} if token else {}
        )

    assert answer.status_code == 401
    assert counts == []


@pytest.mark.parametrize("amount", [100, 0])
def test_webhook(app, client, amount):
    with pool_watched(app) as counts:
        Bank(client).send(amount=amount)

    assert set(counts) == {1}


def test_health(app, client, operator):
    make_world(app, operator)

    with pool_watched(app) as counts:
        client.get("/readyz")

    assert set(counts) == {1}

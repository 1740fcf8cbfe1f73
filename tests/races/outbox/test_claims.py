"""Many workers claim at once: each delivery is one worker's alone, and nobody waits for another."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest
from flask import Flask
from sqlalchemy import event

from context import cipher
from database.extension import db
from outbox import claims, endpoints
from tests import databases
from tests.factories import INN, START, make_org
from tests.outboxes import count_leased, open_endpoint, pay, read_deliveries
from tests.races.outbox.helpers import INNS, LATER, LEASE, held
from tests.races.rivals import run_rivals
from tests.waiting import PATIENCE_SECONDS

TOO_MANY = 300


def claim_all(app: Flask, _number: int) -> list[tuple[UUID, int]]:
    """Claim until nothing is due; return each delivery that this rival got, with its lease."""
    got: list[tuple[UUID, int]] = []
    with app.app_context():
        while len(got) < TOO_MANY and (deliveries := claims.claim(cipher(), capacity=lambda _: 7, now=LATER)):
            assert len({delivery.lease for delivery in deliveries}) == 1
            got += [(delivery.lease, delivery.delivery_id) for delivery in deliveries]
    return got


@pytest.mark.parametrize("ordered", [False, True], ids=["in any order", "in order"])
def test_deliveries_claimed_by_many_at_once_are_claimed_once_each(database, context, ordered):
    for inn in INNS if ordered else [None] * 3:
        make_org(inn or INN) if ordered else None
        open_endpoint(inn=inn, ordered=ordered)
    for number in range(30):
        # In order only the first of an organisation may be claimed.
        pay(5, inn=INNS[number % 3] if ordered else INN)

    claimed = [one for rival in run_rivals(database.url, claim_all, processes=4, threads=4) for one in rival]

    rows = read_deliveries()
    assert Counter(id_ for _, id_ in claimed) == {row.id: 1 for row in rows if not ordered or row.version == 1}
    leases = {id_: lease for lease, id_ in claimed}
    assert {row.id: row.lease for row in rows if row.lease} == leases
    assert {row.due_at for row in rows if row.lease} == {LATER + LEASE}
    assert database.count("delivery_attempts") == 0


@pytest.mark.parametrize("migrated", databases.SERVERS, indirect=True)  # SQLite has one writer, who locks everything
def test_delivery_that_somebody_is_looking_at_keeps_no_worker_waiting(context):
    open_endpoint()
    pay(5)
    first, *others = [row.id for row in read_deliveries()]

    with held("deliveries", f"id = {first}"):
        deliveries = claims.claim(cipher(), capacity=lambda _: 9, now=START)

    assert [delivery.delivery_id for delivery in deliveries] == others


def test_capacity_that_shrinks_meanwhile_does_not_break_the_claim(context):
    open_endpoint()
    pay(20)
    capacity = iter([5, -2, -2, -2])

    assert len(claims.claim(cipher(), capacity=lambda _: next(capacity), now=START)) == 5
    assert count_leased() == 5


@pytest.mark.parametrize("migrated", databases.SERVERS, indirect=True)
def test_endpoint_enabled_while_a_worker_pauses_its_deliveries_receives_them_all_the_same(app, context):
    """The worker has read that it is disabled, and writes what follows from that after it was enabled."""
    endpoint_id = open_endpoint()
    pay(3)
    endpoints.disable(endpoint_id, now=START)
    worker, enabled = threading.current_thread(), threading.Event()

    def enable() -> None:
        with app.app_context():
            endpoints.enable(endpoint_id, now=START)
        enabled.set()

    def interfere(_connection, _cursor, statement: str, *_: object) -> None:
        if "endpoints.secrets" in statement and threading.current_thread() is worker and not enabled.is_set():
            with ThreadPoolExecutor(1) as pool:
                pool.submit(enable).result(PATIENCE_SECONDS)

    with app.app_context():
        event.listen(db.engine, "after_cursor_execute", interfere)
        try:
            claims.claim(cipher(), capacity=lambda _: 5, now=START)
        finally:
            event.remove(db.engine, "after_cursor_execute", interfere)
        assert enabled.is_set()
        assert {row.status for row in read_deliveries()} == {"pending"}
        assert len(claims.claim(cipher(), capacity=lambda _: 5, now=LATER)) == 3

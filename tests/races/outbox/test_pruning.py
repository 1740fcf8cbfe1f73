"""Pruning beside everything that may want the same rows: nothing that is asked for is lost, and nothing breaks."""

from datetime import timedelta

import pytest
from sqlalchemy import text

import services
from context import cipher, now
from database.extension import db
from enums import DeliveryStatus
from errors import DeliveryUnknown
from ledger import audit
from ledger import pruning as incident_pruning
from ledger.findings import Finding
from outbox import claims, endpoints, pruning, replays, results
from tests.callers import Bank
from tests.factories import START, make_body
from tests.outboxes import DELIVERIES, attempt_with, check_attempts, open_endpoint, pay, read_deliveries, together
from worker import jobs

OLD = START - timedelta(days=60)
BEFORE = START - timedelta(days=30)
ROUNDS = 8
PAYMENTS = 40


def settle_all(at=OLD) -> None:
    with db.engine.begin() as connection:
        done = {"status": DeliveryStatus.DELIVERED, "due_at": None, "scheduled_at": None, "settled_at": at}
        connection.execute(DELIVERIES.update().values(done))


def prune() -> int:
    return sum(part.deliveries for part in pruning.prune(BEFORE))


@pytest.mark.parametrize("batch", [1, 7, 500])
def test_replay_beside_a_prune_queues_every_event(app, context, monkeypatch, batch):
    monkeypatch.setattr(pruning, "BATCH_ROWS", batch)
    endpoint_id = open_endpoint(now=OLD)
    pay(PAYMENTS, now=OLD)
    for _ in range(ROUNDS):
        settle_all()
        replays.start(endpoint_id, since=OLD - timedelta(days=1), by="x", now=START)
        together(app, prune, jobs.replay, prune)
        with db.engine.begin() as connection:
            connection.execute(text("UPDATE replays SET finished_at = created_at, sweep_at = NULL"))

        assert [row.status for row in read_deliveries()] == [DeliveryStatus.PENDING] * PAYMENTS
        assert all(row.due_at is not None for row in read_deliveries())


def test_replay_that_begins_in_the_middle_of_a_prune_queues_every_event(app, context, monkeypatch):
    monkeypatch.setattr(pruning, "BATCH_ROWS", 3)
    endpoint_id = open_endpoint(now=OLD)
    pay(PAYMENTS, now=OLD)

    def replay() -> None:
        replays.start(endpoint_id, since=OLD - timedelta(days=1), by="x", now=START)
        jobs.replay()

    for _ in range(ROUNDS):
        settle_all()
        together(app, prune, replay)
        with db.engine.begin() as connection:
            connection.execute(text("UPDATE replays SET finished_at = created_at, sweep_at = NULL"))

        assert [row.status for row in read_deliveries()] == [DeliveryStatus.PENDING] * PAYMENTS


def test_manual_retry_beside_a_prune_is_kept_or_refused(app, context):
    open_endpoint(now=OLD)
    for _ in range(ROUNDS):
        pay(PAYMENTS, now=OLD)
        settle_all()
        ids = [row.id for row in read_deliveries()]
        retried = []

        def retry() -> None:
            for delivery_id in reversed(ids):  # noqa: B023 - called before the next round
                try:
                    endpoints.retry(delivery_id, now=START)
                    retried.append(delivery_id)  # noqa: B023
                except DeliveryUnknown:
                    pass

        together(app, prune, retry)

        assert {row.id for row in read_deliveries()} == set(retried)
        assert all(row.due_at == START for row in read_deliveries())
        settle_all()
        prune()


def test_dispatcher_beside_a_prune_loses_no_result(app, context):
    open_endpoint(now=OLD)
    for _ in range(ROUNDS):
        pay(PAYMENTS, now=OLD)
        settle_all()
        pay(PAYMENTS, now=START)

        def deliver() -> None:
            while found := claims.claim(cipher(), capacity=lambda _: 5, now=now()):
                results.settle([(delivery, attempt_with(200, at=OLD)) for delivery in found], now=now())

        together(app, prune, deliver, deliver)

        assert [row.status for row in read_deliveries()] == [DeliveryStatus.DELIVERED] * PAYMENTS
        assert [row.attempt_count for row in read_deliveries()] == [1] * PAYMENTS
        check_attempts()
        settle_all()
        prune()


def test_two_prunes_delete_each_row_once(app, context, database):
    for _ in range(3):
        open_endpoint(now=OLD)
    pay(PAYMENTS, now=OLD)
    settle_all()

    counts = together(app, prune, prune, prune)

    assert sum(counts) == 3 * PAYMENTS
    assert database.count("events") == 0


def test_incident_that_comes_again_beside_a_prune_is_counted(app, context, client, database):
    bodies = [make_body(amount=-number) for number in range(1, 6)]

    def repeat() -> None:
        bank = Bank(app.test_client())
        assert {bank.push(body).status_code for body in bodies} == {400}

    for _ in range(ROUNDS):
        repeat()
        with db.engine.begin() as connection:
            numbers = list(connection.scalars(text("SELECT id FROM incidents WHERE resolved_at IS NULL")))
        for number in numbers:
            services.resolve_incident(number, resolution="seen", by="x", now=OLD)
        with db.engine.begin() as connection:
            connection.execute(text("UPDATE incidents SET last_seen_at = resolved_at"))

        together(app, lambda: sum(incident_pruning.prune(BEFORE)), repeat)

        assert database.count("incidents") == len(bodies)
        with db.engine.begin() as connection:
            assert min(connection.scalars(text("SELECT seen_count FROM incidents"))) >= 1
    assert [step for step in audit.verify() if isinstance(step, Finding)] == []

"""Rows that somebody holds, credits that commit late, replays in between: nobody else waits, nothing is passed over."""

import threading
from datetime import timedelta

import pytest
from flask import Flask
from sqlalchemy import insert, select

import limits
import services
from context import cipher
from database.session import transaction
from errors import LimitReached
from outbox import claims, endpoints, replays, results
from tests import databases
from tests.callers import Bank
from tests.factories import INN, OTHER_INN, START, make_credit, make_org
from tests.outboxes import ENDPOINTS, attempt_with, next_due, open_endpoint, pay, read_deliveries
from tests.races.outbox.helpers import held
from worker import jobs

LOCKING = [family for family in databases.FAMILIES if family != "sqlite"]


@databases.only("postgresql")
def test_locked_organisation_holds_up_no_queued_webhook_of_others(make_app, database, check_ledger):
    app = make_app(BALANCE_UPDATES="queued")
    bank = Bank(app.test_client())
    with app.app_context():
        make_org(INN)
        make_org(OTHER_INN)
        bank.send(payer_inn=INN)
        bank.send(payer_inn=OTHER_INN)
        with held("organizations", f"inn = '{INN}'"):
            for _ in range(2):
                jobs.credit_some()
            assert database.count("payments") == 1
        assert database.count("incidents") == 0
    check_ledger()


@pytest.mark.parametrize("migrated", LOCKING, indirect=True)
def test_locked_endpoint_holds_up_the_settling_of_no_delivery(context, clock):
    failing, well = open_endpoint(), open_endpoint("http://127.0.0.1:10/")
    pay(1)
    deliveries = claims.claim(cipher(), capacity=lambda _: 1, now=START)
    attempts = [(delivery, attempt_with(500 if delivery.endpoint.id == failing else 200)) for delivery in deliveries]

    with held("endpoints", f"id = {failing}"):
        results.settle(attempts, now=clock())

    assert {row.endpoint_id: (row.status, row.attempt_count) for row in read_deliveries()} == {
        failing: ("pending", 1),
        well: ("delivered", 1),
    }


@pytest.mark.parametrize("migrated", LOCKING, indirect=True)
def test_replay_finds_a_credit_that_was_under_way_when_it_began(app: Flask, context, clock):
    make_org()
    endpoint_id = open_endpoint()
    endpoints.disable(endpoint_id, now=START)
    posted, go_on = threading.Event(), threading.Event()

    def credit_late() -> None:
        with app.app_context(), transaction() as session:
            services._take(session, [make_credit(received_at=START)])
            posted.set()
            assert go_on.wait(60)

    late = threading.Thread(target=credit_late)
    late.start()
    assert posted.wait(60)
    endpoints.enable(endpoint_id, now=START)
    replay_id = replays.start(endpoint_id, since=START - timedelta(days=1), by="test", now=START)
    jobs.replay()
    assert read_deliveries() == []

    go_on.set()
    late.join()
    clock.move(seconds=limits.LEASE_SECONDS)
    jobs.replay()

    assert [row.status for row in read_deliveries()] == ["pending"]
    assert replays.find(endpoint_id, replay_id)["queued"] == 1


def test_sweep_sends_nothing_a_second_time(context, clock):
    endpoint_id = open_endpoint()
    pay(3)
    results.settle(
        [(delivery, attempt_with(200)) for delivery in claims.claim(cipher(), capacity=lambda _: 9, now=START)],
        now=START,
    )
    replays.start(endpoint_id, since=START - timedelta(days=1), by="test", now=clock())
    jobs.replay()
    again = claims.claim(cipher(), capacity=lambda _: 9, now=clock())
    results.settle([(delivery, attempt_with(200)) for delivery in again], now=clock())

    clock.move(seconds=limits.LEASE_SECONDS)
    jobs.replay()

    assert len(again) == 3
    assert claims.claim(cipher(), capacity=lambda _: 9, now=clock()) == []


def test_replay_to_an_ordered_endpoint_leaves_no_earlier_version_for_a_later_batch(context, clock):
    count = limits.REPLAY_BATCH_EVENTS + 100
    # Of one millisecond: their ids are in another order than their versions.
    pay(count)
    endpoint_id = open_endpoint(ordered=True)
    replays.start(endpoint_id, since=START - timedelta(days=1), by="test", now=clock())

    replays.continue_oldest(now=clock())

    versions = sorted(row.version for row in read_deliveries())
    assert limits.REPLAY_BATCH_EVENTS <= len(versions) <= count
    assert versions == list(range(1, len(versions) + 1))
    jobs.replay()
    assert len(read_deliveries()) == count


def test_replay_of_a_delivery_that_a_persons_retry_holds_sends_it_again(context, clock):
    endpoint_id = open_endpoint()
    pay(1)
    (row,) = read_deliveries()
    for _ in range(10):
        (delivery,) = claims.claim(cipher(), capacity=lambda _: 1, now=clock())
        results.settle([(delivery, attempt_with(500))], now=clock())
        clock.moment = next_due() or clock.moment
    assert read_deliveries()[0].status == "exhausted"
    endpoints.retry(row.id, now=clock())
    (delivery,) = claims.claim(cipher(), capacity=lambda _: 1, now=clock())
    replays.start(endpoint_id, since=START - timedelta(days=1), by="test", now=clock())
    jobs.replay()

    results.settle([(delivery, attempt_with(500))], now=clock())

    (row,) = read_deliveries()
    assert (row.status, row.step) == ("pending", 1)
    assert row.due_at is not None


def test_one_replay_of_an_endpoint_at_a_time(context, clock):
    endpoint_id = open_endpoint()
    replays.start(endpoint_id, since=START, by="test", now=clock())

    with pytest.raises(LimitReached):
        replays.start(endpoint_id, since=START, by="test", now=clock())
    jobs.replay()
    assert replays.start(endpoint_id, since=START, by="test", now=clock())


def test_secrets_that_are_good_at_once_are_few(context, clock):
    endpoint_id = open_endpoint()
    for _ in range(limits.CURRENT_SECRETS_MAX - 1):
        endpoints.rotate(cipher(), endpoint_id, overlap_seconds=3600, now=clock())

    with pytest.raises(LimitReached):
        endpoints.rotate(cipher(), endpoint_id, overlap_seconds=3600, now=clock())
    endpoints.rotate(cipher(), endpoint_id, overlap_seconds=0, now=clock())
    assert endpoints.rotate(cipher(), endpoint_id, overlap_seconds=3600, now=clock()).secret


def test_endpoints_are_limited_and_those_that_were_deleted_do_not_count(context, clock):
    endpoint_id = open_endpoint()
    with transaction() as session:
        row = session.execute(select(*ENDPOINTS.c)).one()._asdict()
        del row["id"]
        session.execute(insert(ENDPOINTS), [row] * (limits.ENDPOINTS_MAX - 1))

    with pytest.raises(LimitReached):
        open_endpoint()
    endpoints.remove(endpoint_id, now=clock())
    assert open_endpoint()


def test_retry_of_a_finished_delivery_is_woken_by_the_one_before_it(context, clock):
    open_endpoint(ordered=True)
    pay(2)
    first, second = read_deliveries()
    for _ in range(2):
        (delivery,) = claims.claim(cipher(), capacity=lambda _: 1, now=clock())
        results.settle([(delivery, attempt_with(200))], now=clock())
    for row in (first, second):
        endpoints.retry(row.id, now=clock())
    (delivery,) = claims.claim(cipher(), capacity=lambda _: 5, now=clock())
    assert delivery.delivery_id == first.id

    results.settle([(delivery, attempt_with(200))], now=clock())

    (delivery,) = claims.claim(cipher(), capacity=lambda _: 5, now=clock())
    assert delivery.delivery_id == second.id

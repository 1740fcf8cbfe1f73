"""A lease that ran out: two workers have one delivery, and what each of them brings back is counted right."""

import random
from functools import partial

import pytest

import limits
from context import cipher
from errors import DeliveryUnderWay
from outbox import claims, endpoints, replays, results
from outbox.claims import LOST
from outbox.delivery import ClaimedDelivery
from tests.factories import START
from tests.outboxes import attempt_with, check_attempts, open_endpoint, pay, read_attempts, read_deliveries, together
from tests.races.outbox.helpers import LATER, LEASE, the_attempts, the_delivery


@pytest.fixture
def taken_over(context, clock) -> tuple[ClaimedDelivery, ClaimedDelivery]:
    """One delivery in the hands of two workers, the first of which took longer than its lease."""
    open_endpoint()
    pay(1)
    (first,) = claims.claim(cipher(), capacity=lambda _: 1, now=START)
    clock.move(seconds=limits.LEASE_SECONDS)
    (second,) = claims.claim(cipher(), capacity=lambda _: 1, now=clock())
    return first, second


def test_lease_is_not_taken_over_before_it_ran_out(context, clock):
    open_endpoint()
    pay(1)
    assert len(claims.claim(cipher(), capacity=lambda _: 1, now=START)) == 1

    clock.move(seconds=limits.LEASE_SECONDS, microseconds=-1)
    assert claims.claim(cipher(), capacity=lambda _: 1, now=clock()) == []
    assert claims.claim_one(cipher(), the_delivery().id, now=clock()) is None


def test_neither_a_person_nor_a_replay_takes_away_what_a_worker_holds(context, clock):
    endpoint_id = open_endpoint()
    pay(1)
    (delivery,) = claims.claim(cipher(), capacity=lambda _: 1, now=START)
    clock.move(seconds=1)

    with pytest.raises(DeliveryUnderWay):
        endpoints.retry(delivery.delivery_id, now=clock())
    replays.start(endpoint_id, since=START, by="test", now=clock())
    assert replays.continue_oldest(now=clock()) == 1
    assert claims.claim(cipher(), capacity=lambda _: 1, now=clock()) == []
    assert (the_delivery().lease, the_delivery().due_at) == (delivery.lease, START + LEASE)

    results.settle([(delivery, attempt_with(200))], now=clock())
    assert the_attempts() == [(1, 200, None)]
    assert the_delivery().status == "delivered"


def test_attempt_of_a_worker_that_vanished_is_in_the_log(taken_over):
    (attempt,) = read_attempts()[the_delivery().id]

    assert (attempt.number, attempt.error, attempt.status_code, attempt.duration_ms) == (1, LOST, None, None)
    assert (attempt.cause, attempt.started_at) == ("schedule", START)
    assert (the_delivery().attempt_count, the_delivery().step) == (1, 0)


def test_late_failure_changes_nothing_for_the_worker_that_took_over(taken_over, clock):
    first, second = taken_over
    results.settle([(first, attempt_with(500))], now=clock())

    row = the_delivery()
    assert (row.status, row.step, row.lease, row.due_at) == ("pending", 0, second.lease, clock() + LEASE)
    assert the_attempts() == [(1, None, LOST), (2, 500, None)]

    results.settle([(second, attempt_with(200))], now=clock())
    assert (the_delivery().status, the_delivery().due_at, the_delivery().lease) == ("delivered", None, None)
    assert the_attempts() == [(1, None, LOST), (2, 500, None), (3, 200, None)]


@pytest.mark.parametrize("status", [200, 500, None])
def test_late_success_counts_and_the_worker_that_took_over_cannot_undo_it(taken_over, clock, status):
    first, second = taken_over
    results.settle([(first, attempt_with(204))], now=clock())
    assert (the_delivery().status, the_delivery().due_at, the_delivery().lease) == ("delivered", None, None)
    assert claims.claim(cipher(), capacity=lambda _: 1, now=LATER) == []

    results.settle([(second, attempt_with(status))], now=LATER)
    row = the_delivery()
    assert (row.status, row.due_at, row.lease, row.step, row.attempt_count) == ("delivered", None, None, 0, 3)
    assert [attempt[1] for attempt in the_attempts()] == [None, 204, status]


def test_late_failure_does_not_undo_the_success_of_the_worker_that_took_over(taken_over, clock):
    first, second = taken_over
    results.settle([(second, attempt_with(200))], now=clock())
    results.settle([(first, attempt_with(500))], now=clock())

    row = the_delivery()
    assert (row.status, row.due_at, row.lease, row.attempt_count) == ("delivered", None, None, 3)
    assert the_attempts() == [(1, None, LOST), (2, 200, None), (3, 500, None)]


def test_both_attempts_settled_by_one_worker_at_once_are_counted_in_turn(taken_over, clock):
    """As when it could not settle the first before its own lease ran out, because the database was away."""
    first, second = taken_over
    results.settle([(first, attempt_with(500)), (second, attempt_with(500))], now=clock())

    row = the_delivery()
    assert (row.status, row.step, row.attempt_count, row.lease) == ("pending", 1, 3, None)
    assert [attempt[0] for attempt in the_attempts()] == [1, 2, 3]


def test_both_attempts_settled_by_two_workers_at_once_are_both_in_the_log(context, clock):
    open_endpoint()
    pay(40)
    first = claims.claim(cipher(), capacity=lambda _: 40, now=START)
    clock.move(seconds=limits.LEASE_SECONDS)
    second = claims.claim(cipher(), capacity=lambda _: 40, now=clock())

    def settle(deliveries: list[ClaimedDelivery], status: int) -> None:
        for delivery in random.sample(deliveries, len(deliveries)):
            results.settle([(delivery, attempt_with(status))], now=clock())

    together(context, partial(settle, first, 500), partial(settle, second, 200))

    assert {(row.status, row.due_at, row.lease, row.attempt_count) for row in read_deliveries()} == {
        ("delivered", None, None, 3)
    }
    check_attempts()


def test_lost_attempt_is_logged_as_it_was_although_a_person_asked_again(context, clock):
    open_endpoint()
    pay(1)
    claims.claim(cipher(), capacity=lambda _: 1, now=START)
    clock.move(seconds=limits.LEASE_SECONDS + 100)
    endpoints.retry(the_delivery().id, now=clock())
    clock.move(seconds=1)
    assert len(claims.claim(cipher(), capacity=lambda _: 1, now=clock())) == 1

    (attempt,) = read_attempts()[the_delivery().id]
    assert (attempt.number, attempt.error, attempt.started_at) == (1, LOST, START)


def test_lost_attempt_is_logged_although_the_endpoint_was_disabled(context, clock):
    endpoint_id = open_endpoint()
    pay(1)
    claims.claim(cipher(), capacity=lambda _: 1, now=START)
    endpoints.disable(endpoint_id, now=clock())
    clock.move(seconds=limits.LEASE_SECONDS)
    assert claims.claim(cipher(), capacity=lambda _: 1, now=clock()) == []

    row = the_delivery()
    assert (row.status, row.due_at, row.lease, row.attempt_count) == ("paused", None, None, 1)
    assert the_attempts() == [(1, None, LOST)]

"""A delivery that fails is tried again for days, and an endpoint that fails for days is disabled."""

from datetime import timedelta
from itertools import pairwise

import pytest

from outbox import retry
from tests.factories import INN
from tests.listeners import always, deliver, deliveries, moment, only_delivery, statuses


class TestSchedule:
    def test_failing_delivery_walks_through_the_whole_schedule_and_is_exhausted(
        self, operator, bank, app, clock, receiver, check_ledger, endpoint_id
    ):
        receiver.answer = always(500)
        bank.send()
        waits = []
        deliver(app)
        while (due_at := only_delivery(operator)["due_at"]) is not None:
            waits.append((moment(due_at) - clock()).total_seconds())
            clock.moment = moment(due_at) - timedelta(milliseconds=1)
            assert deliver(app) == 0
            clock.moment = moment(due_at)
            deliver(app)

        assert len(waits) == len(retry.RETRY_SECONDS)
        for wait, seconds in zip(waits, retry.RETRY_SECONDS, strict=True):
            assert 0.9 * seconds <= wait <= 1.1 * seconds
        delivery = only_delivery(operator)
        assert (delivery["status"], delivery["attempt_count"]) == ("exhausted", 10)
        assert moment(delivery["settled_at"]) == clock()
        assert statuses(delivery) == [(number, "schedule", 500) for number in range(1, 11)]
        starts = [moment(attempt["started_at"]) for attempt in delivery["attempts"]]
        assert [(after - before).total_seconds() for before, after in pairwise(starts)] == (pytest.approx(waits))
        clock.move(days=30)
        assert deliver(app) == 0
        assert len(operator.get("/events/", organization=INN).json["items"]) == 1
        check_ledger()

    def test_endpoint_at_which_all_has_failed_for_five_days_is_disabled(
        self, operator, bank, app, clock, receiver, database, endpoint_id
    ):
        receiver.answer = always(500)
        bank.send()
        deliver(app)
        assert operator.get(f"/endpoints/{endpoint_id}/").json["failing_since"] == "2026-03-01T12:00:00Z"
        clock.move(days=5, seconds=-1)
        bank.send()
        deliver(app)
        assert operator.get(f"/endpoints/{endpoint_id}/").json["disabled_at"] is None
        clock.move(seconds=1)
        bank.send()
        deliver(app)

        endpoint = operator.get(f"/endpoints/{endpoint_id}/").json
        assert (endpoint["disabled_at"], endpoint["disabled_because"]) == ("2026-03-06T12:00:00Z", "failing")
        (incident,) = operator.get("/incidents/").json["items"]
        assert (incident["kind"], incident["facts"]["because"]) == ("endpoint_disabled", "failing")
        assert incident["facts"]["endpoint_id"] == endpoint_id
        assert bank.send().json["status"] == "credited"
        assert database.count("deliveries") == 3

    def test_endpoint_that_is_enabled_after_five_days_has_five_days_again(
        self, operator, bank, app, clock, receiver, endpoint_id
    ):
        receiver.answer = always(500)
        bank.send()
        deliver(app)
        clock.move(days=5)
        deliver(app)
        operator.post(f"/endpoints/{endpoint_id}/enable/")
        bank.send()
        deliver(app)

        endpoint = operator.get(f"/endpoints/{endpoint_id}/").json
        assert (endpoint["disabled_at"], endpoint["failing_since"]) == (None, "2026-03-06T12:00:00Z")

    def test_endpoint_that_fails_and_recovers_in_turn_stays_enabled(
        self, operator, bank, app, clock, receiver, endpoint_id
    ):
        for status in (500, 500, 200) * 3:
            receiver.answer = always(status)
            bank.send()
            deliver(app)
            clock.move(days=2)

        endpoint = operator.get(f"/endpoints/{endpoint_id}/").json
        assert (endpoint["disabled_at"], endpoint["failing_since"]) == (None, None)
        assert operator.get("/incidents/", state="all").json["items"] == []
        assert {row["status"] for row in deliveries(operator)} == {"delivered"}

"""A replay: an endpoint hears again of everything since a moment, what it never heard of included."""

import pytest

from tests.factories import INN, OTHER_INN
from tests.listeners import (
    EARLY,
    NOBODY,
    always,
    amounts,
    answering,
    bodies,
    deliver,
    deliveries,
    members,
    moment,
    only_delivery,
    replay,
    statuses,
    subscribe,
)
from tests.receivers import Receiver


class TestReplay:
    def test_endpoint_hears_of_what_happened_before_it_was_there(
        self, operator, bank, app, clock, receiver, check_ledger
    ):
        bank.send(amount=1)
        clock.move(hours=1)
        bank.send(amount=2)
        endpoint_id = subscribe(operator, receiver.url)["id"]
        bank.send(amount=3)
        deliver(app)
        clock.move(hours=1)

        started = operator.post(f"/endpoints/{endpoint_id}/replays/", since="2026-03-01T12:00:00Z")
        path = f"/endpoints/{endpoint_id}/replays/{started.json['id']}/"
        before = operator.get(path).json
        replay(app)
        queued = operator.get(path).json
        deliver(app)
        after = operator.get(path).json

        assert (started.status_code, started.json) == (202, before)
        assert before == {
            "id": started.json["id"],
            "since": "2026-03-01T12:00:00Z",
            "asked_by": "key:operator",
            "created_at": "2026-03-01T14:00:00Z",
            "finished_at": None,
            "queued": 0,
            "open": 0,
        }
        assert (queued["queued"], queued["open"], queued["finished_at"]) == (3, 3, "2026-03-01T14:00:00Z")
        assert (after["queued"], after["open"]) == (3, 0)
        assert sorted(amounts(receiver)) == [1, 2, 3, 3]
        assert {body["id"] for body in bodies(receiver)} == {
            event["id"] for event in operator.get("/events/", organization=INN).json["items"]
        }
        check_ledger()

    def test_what_was_delivered_comes_again_with_the_id_that_it_had(self, operator, bank, app, receiver, endpoint_id):
        bank.send()
        deliver(app)

        operator.post(f"/endpoints/{endpoint_id}/replays/", since=EARLY)
        replay(app)
        deliver(app)

        first, again = receiver.received
        assert first.body == again.body
        assert first.headers["webhook-id"] == again.headers["webhook-id"]
        delivery = only_delivery(operator)
        assert (delivery["status"], statuses(delivery)) == ("delivered", [(1, "schedule", 200), (2, "replay", 200)])

    def test_what_fails_in_a_replay_has_a_schedule_of_its_own(self, operator, bank, app, clock, receiver, endpoint_id):
        bank.send()
        deliver(app)
        receiver.answer = answering(500)
        operator.post(f"/endpoints/{endpoint_id}/replays/", since=EARLY)
        replay(app)
        deliver(app)
        assert only_delivery(operator)["status"] == "pending"
        clock.move(seconds=6)
        deliver(app)

        assert statuses(only_delivery(operator)) == [
            (1, "schedule", 200),
            (2, "replay", 500),
            (3, "schedule", 200),
        ]

    def test_replay_begins_at_its_moment(self, operator, bank, app, clock, receiver):
        for amount in (1, 2, 3):
            bank.send(amount=amount)
            clock.move(hours=1)
        endpoint_id = subscribe(operator, receiver.url)["id"]

        operator.post(f"/endpoints/{endpoint_id}/replays/", since="2026-03-01T16:00:00+03:00")
        replay(app)
        deliver(app)

        assert sorted(amounts(receiver)) == [2, 3]

    @pytest.mark.parametrize("since", ["1900-01-01T00:00:00Z", "1969-12-31T23:59:59Z", "1970-01-01T00:00:00Z"])
    def test_replay_from_the_beginning_of_time_holds_up_nobody(self, operator, bank, app, receiver, since):
        bank.send()
        endpoint_id = subscribe(operator, receiver.url)["id"]

        started = operator.post(f"/endpoints/{endpoint_id}/replays/", since=since)
        replay(app)
        deliver(app)

        assert started.status_code == 202
        assert len(receiver.received) == 1

    def test_replay_of_the_future_has_nothing(self, operator, bank, app, endpoint_id):
        bank.send()

        started = operator.post(f"/endpoints/{endpoint_id}/replays/", since="2999-12-31T23:59:59Z").json
        replay(app)

        shown = operator.get(f"/endpoints/{endpoint_id}/replays/{started['id']}/").json
        assert (shown["queued"], shown["finished_at"]) == (0, "2026-03-01T12:00:00Z")

    def test_endpoint_of_an_organisation_is_told_of_that_one_alone(self, operator, bank, app, context, receiver):
        bank.send(payer_inn=INN)
        bank.send(payer_inn=OTHER_INN)
        endpoint_id = subscribe(operator, receiver.url, organization=OTHER_INN)["id"]

        operator.post(f"/endpoints/{endpoint_id}/replays/", since=EARLY)
        replay(app)
        deliver(app)

        assert [body["data"]["organization"] for body in bodies(receiver)] == [OTHER_INN]

    def test_others_hear_nothing_of_a_replay(self, operator, bank, app, receiver, endpoint_id):
        bank.send()
        deliver(app)
        with Receiver() as newcomer:
            newcomer_id = subscribe(operator, newcomer.url)["id"]
            operator.post(f"/endpoints/{newcomer_id}/replays/", since=EARLY)
            replay(app)
            deliver(app)

            assert (len(receiver.received), len(newcomer.received)) == (1, 1)

    def test_exhausted_delivery_comes_with_a_replay(self, operator, bank, app, clock, receiver, endpoint_id):
        receiver.answer = always(500)
        bank.send()
        deliver(app)
        while (due_at := only_delivery(operator)["due_at"]) is not None:
            clock.moment = moment(due_at)
            deliver(app)
        receiver.answer = always(200)

        operator.post(f"/endpoints/{endpoint_id}/replays/", since=EARLY)
        replay(app)
        deliver(app)

        delivery = only_delivery(operator)
        assert (delivery["status"], statuses(delivery)[-1]) == ("delivered", (11, "replay", 200))

    def test_disabled_endpoint_has_no_replay(self, operator, database, endpoint_id):
        operator.post(f"/endpoints/{endpoint_id}/disable/")

        answer = operator.post(f"/endpoints/{endpoint_id}/replays/", since=EARLY)

        assert (answer.status_code, answer.json["type"]) == (409, "urn:kopeck:problem:endpoint-disabled")
        assert database.count("replays") == 0

    def test_endpoint_that_is_deleted_meanwhile_holds_up_no_other_replay(
        self, operator, bank, app, receiver, endpoint_id
    ):
        bank.send()
        deleted = subscribe(operator, NOBODY)["id"]
        operator.post(f"/endpoints/{deleted}/replays/", since=EARLY)
        operator.delete(f"/endpoints/{deleted}/")
        operator.post(f"/endpoints/{endpoint_id}/replays/", since=EARLY)

        replay(app)
        deliver(app)

        assert members(deliveries(operator, endpoint=endpoint_id), "status") == [("delivered",)]

    def test_replay_is_found_under_its_own_endpoint_alone(self, operator, endpoint_id):
        started = operator.post(f"/endpoints/{endpoint_id}/replays/", since=EARLY).json
        other = subscribe(operator, NOBODY)["id"]

        answer = operator.get(f"/endpoints/{other}/replays/{started['id']}/")

        assert (answer.status_code, answer.json["type"]) == (404, "urn:kopeck:problem:replay-unknown")
        assert operator.get(f"/endpoints/{endpoint_id}/replays/{started['id']}/").status_code == 200

    def test_moment_of_the_wrong_shape_is_pointed_at(self, operator, endpoint_id):
        for since in (None, "yesterday", "2026-03-01T12:00:00", 7):
            answer = operator.post(f"/endpoints/{endpoint_id}/replays/", since=since)
            assert answer.status_code == 400, since
            assert [error["pointer"] for error in answer.json["errors"]] == ["#/since"]

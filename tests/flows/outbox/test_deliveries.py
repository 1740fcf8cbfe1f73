"""Every event is tried until it is taken: what each answer leads to, and what is written down of it."""

from datetime import timedelta
from email.utils import format_datetime

import pytest

from tests.factories import INN, START
from tests.listeners import (
    always,
    amounts,
    answering,
    deliver,
    deliveries,
    moment,
    only_delivery,
    replay,
    statuses,
    subscribe,
)
from tests.receivers import Receiver


class TestAnswers:
    @pytest.mark.parametrize("status", [200, 204])
    def test_any_2xx_delivers(self, operator, bank, app, receiver, endpoint_id, status):
        receiver.answer = always(status)
        bank.send()
        deliver(app)

        delivery = only_delivery(operator)
        assert (delivery["status"], delivery["due_at"], delivery["settled_at"]) == (
            "delivered",
            None,
            "2026-03-01T12:00:00Z",
        )
        assert statuses(delivery) == [(1, "schedule", status)]
        assert deliver(app) == 0

    def test_event_keeps_its_id_and_body_however_often_it_is_sent(
        self, operator, bank, app, clock, receiver, endpoint_id
    ):
        receiver.answer = answering(500, 404, 302)
        bank.send()
        for _ in range(4):
            deliver(app)
            clock.move(hours=1)

        assert len(receiver.received) == 4
        assert len({request.body for request in receiver.received}) == 1
        (event,) = operator.get("/events/", organization=INN).json["items"]
        assert {request.headers["webhook-id"] for request in receiver.received} == {event["id"]}
        # The time and the signature are those of the request.
        assert len({request.headers["webhook-timestamp"] for request in receiver.received}) == 4
        assert len({request.headers["webhook-signature"] for request in receiver.received}) == 4

    def test_410_disables_and_an_incident_says_so(self, operator, bank, app, receiver, database, endpoint_id):
        receiver.answer = always(410)
        bank.send()
        deliver(app)

        endpoint = operator.get(f"/endpoints/{endpoint_id}/").json
        assert (endpoint["disabled_at"], endpoint["disabled_because"]) == ("2026-03-01T12:00:00Z", "gone")
        (incident,) = operator.get("/incidents/").json["items"]
        assert (incident["kind"], incident["facts"]) == (
            "endpoint_disabled",
            {"endpoint_id": endpoint_id, "because": "gone", "disabled_at": "2026-03-01T12:00:00Z"},
        )
        bank.send()
        assert database.count("deliveries") == 1

    def test_endpoint_that_was_gone_can_be_enabled_and_hears_what_it_missed(
        self, operator, bank, app, clock, receiver, endpoint_id
    ):
        receiver.answer = answering(410)
        bank.send()
        deliver(app)
        clock.move(minutes=1)
        deliver(app)
        assert only_delivery(operator)["status"] == "paused"

        operator.post(f"/endpoints/{endpoint_id}/enable/")
        deliver(app)

        assert statuses(only_delivery(operator)) == [(1, "schedule", 410), (2, "schedule", 200)]

    @pytest.mark.parametrize(
        ("status", "asked", "seconds"),
        [
            (429, "120", 120),
            (503, "120", 120),
            (503, "0", 5),
            (429, "999999", 24 * 3600),
            (503, format_datetime(START + timedelta(hours=2), usegmt=True), 7200),
        ],
    )
    def test_endpoint_that_asks_to_wait_is_left_alone_until_then(
        self, operator, bank, app, clock, receiver, endpoint_id, status, asked, seconds
    ):
        receiver.answer = answering(status, headers={"Retry-After": asked})
        bank.send()
        deliver(app)

        assert moment(only_delivery(operator)["due_at"]) == clock() + timedelta(seconds=seconds)
        clock.move(seconds=seconds - 1)
        deliver(app)
        assert len(receiver.received) == 1
        clock.move(seconds=1)
        deliver(app)
        assert statuses(only_delivery(operator)) == [(1, "schedule", status), (2, "schedule", 200)]

    def test_retry_after_of_any_other_answer_is_ignored(self, operator, bank, app, clock, receiver, endpoint_id):
        receiver.answer = answering(500, headers={"Retry-After": "3600"})
        bank.send()
        deliver(app)

        assert moment(only_delivery(operator)["due_at"]) < clock() + timedelta(seconds=6)

    def test_redirect_is_not_followed(self, operator, bank, app, receiver, endpoint_id):
        with Receiver() as elsewhere:
            receiver.answer = always(307, {"Location": elsewhere.url})
            bank.send()
            deliver(app)

            assert elsewhere.received == []
        delivery = only_delivery(operator)
        assert (delivery["status"], len(receiver.received)) == ("pending", 1)
        assert statuses(delivery) == [(1, "schedule", 307)]

    def test_endpoint_where_nobody_answers_is_tried_again(self, operator, bank, app):
        with Receiver() as receiver:
            url = receiver.url
        subscribe(operator, url)
        bank.send()
        deliver(app)

        (attempt,) = only_delivery(operator)["attempts"]
        assert (attempt["status_code"], attempt["error"], attempt["excerpt"]) == (
            None,
            "Nothing answers at this address.",
            "",
        )

    def test_beginning_of_the_answer_is_kept_whatever_it_holds(self, operator, bank, app, receiver, endpoint_id):
        receiver.answer = always(500, body=b"a\x00b\x1b[31m\xff\r\n" + "щ".encode() * 2000)
        bank.send()
        deliver(app)

        (attempt,) = only_delivery(operator)["attempts"]
        # 2048 bytes are read: 11 before the letters, of two bytes each, and half of the last one.
        assert attempt["excerpt"] == "a\ufffdb\ufffd[31m\ufffd\n" + "щ" * 1018 + "\ufffd"
        assert (attempt["status_code"], attempt["error"]) == (500, None)

    def test_long_answer_is_cut_and_delivers(self, operator, bank, app, receiver, endpoint_id):
        receiver.answer = always(200, body=b"x" * 100_000)
        bank.send()
        deliver(app)

        delivery = only_delivery(operator)
        assert (delivery["status"], delivery["attempts"][0]["excerpt"]) == ("delivered", "x" * 2048)


def test_worker_that_has_nothing_to_do_does_nothing(app, operator, endpoint_id, receiver):
    assert (deliver(app), replay(app)) == (0, 0)
    assert receiver.received == []


def test_many_events_arrive_once_each(operator, bank, app, receiver, check_ledger, endpoint_id):
    for amount in range(1, 41):
        bank.send(amount=amount)

    deliver(app)

    assert sorted(amounts(receiver)) == list(range(1, 41))
    assert {row["status"] for row in deliveries(operator)} == {"delivered"}
    check_ledger()

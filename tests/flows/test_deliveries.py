"""One credit, one event, every endpoint that listens: tried until it is taken, and every attempt written down."""

import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from email.utils import format_datetime
from itertools import pairwise

import pytest
from flask import Flask
from sqlalchemy import text
from werkzeug.serving import make_server

from app import create_app
from database.extension import db
from database.session import transaction
from ledger import audit
from outbox import retry
from tests.callers import Bank
from tests.databases import Database
from tests.factories import INN, START, make_body, make_config, make_org
from tests.listeners import (
    PATIENCE_SECONDS,
    always,
    answering,
    deliver,
    deliveries,
    members,
    moment,
    only_delivery,
    replay,
    subscribe,
    told,
)
from tests.receivers import Answer, ReceivedRequest, Receiver

OTHER_INN = "7707083893"
NOBODY = "http://127.0.0.1:9/"
EARLY = "2026-01-01T00:00:00Z"


@pytest.fixture
def app(loopback_app) -> Flask:
    return loopback_app


@pytest.fixture
def endpoint_id(operator, receiver) -> int:
    return subscribe(operator, receiver.url)["id"]


def amounts(receiver: Receiver) -> list[int]:
    return [body["data"]["amount"] for body in told(receiver)]


def statuses(delivery) -> list[tuple[object, ...]]:
    return members(delivery["attempts"], "number", "cause", "status_code")


class TestAnnouncing:
    def test_one_credit_is_one_event_for_each_endpoint_that_listens(self, operator, bank, database, check_ledger):
        everybody = [subscribe(operator, NOBODY)["id"] for _ in range(2)]

        bank.send()

        assert members(deliveries(operator), "endpoint_id", "status", "attempt_count", "version") == [
            (everybody[0], "pending", 0, 1),
            (everybody[1], "pending", 0, 1),
        ]
        assert (database.count("events"), database.count("deliveries")) == (1, 2)
        check_ledger()

    def test_nothing_is_written_when_nobody_listens(self, operator, bank, database, context, check_ledger):
        make_org(OTHER_INN)
        subscribe(operator, NOBODY, organization=OTHER_INN)
        disabled = subscribe(operator, NOBODY)["id"]
        operator.post(f"/endpoints/{disabled}/disable/")

        assert bank.send(payer_inn=INN).json["status"] == "credited"

        assert (database.count("events"), database.count("deliveries")) == (0, 0)
        check_ledger()

    def test_duplicate_and_conflict_announce_nothing(self, operator, bank, database, check_ledger, endpoint_id):
        body = make_body(amount=1000)
        bank.push(body)

        assert bank.push(body).json["status"] == "duplicate"
        assert bank.push(body.replace(b"1000", b"2000")).json["status"] == "conflict"

        assert (database.count("events"), database.count("deliveries")) == (1, 1)
        check_ledger()

    def test_money_that_is_held_or_cannot_be_used_announces_nothing(
        self, make_app, operator, bank, database, check_ledger, endpoint_id
    ):
        holding = Bank(make_app(UNKNOWN_INN="hold").test_client())

        assert holding.send(payer_inn=OTHER_INN).json["status"] == "held"
        assert bank.send(amount=0).status_code == 400
        bank.send(amount=2**63 - 1)
        assert bank.send(amount=1).json["status"] == "held"

        assert (database.count("events"), database.count("deliveries")) == (1, 1)
        check_ledger()

    def test_money_that_a_person_assigned_is_announced_too(
        self, make_app, operator, app, receiver, context, check_ledger, endpoint_id
    ):
        held = Bank(make_app(UNKNOWN_INN="hold").test_client()).send(amount=7).json
        make_org(OTHER_INN)
        assert operator.post(f"/incidents/{held['incident_id']}/assign/", inn=OTHER_INN).status_code == 200

        deliver(app)

        (body,) = told(receiver)
        assert (body["data"]["organization"], body["data"]["payer_inn"], body["data"]["amount"]) == (OTHER_INN, INN, 7)
        assert body["data"]["operation_id"] == held["operation_id"]
        (listed,) = operator.get("/events/", organization=OTHER_INN).json["items"]
        assert listed == body
        check_ledger()

    def test_body_is_what_the_document_says(self, operator, bank, app, receiver, endpoint_id):
        operation_id = "ccf0a86d-041b-4991-bcf7-e2352f7b8a4a"
        credited = bank.send(operation_id=operation_id, document_number="ПЛ «7» \u2028").json

        deliver(app)

        (received,) = receiver.received
        assert received.headers["content-type"] == "application/json"
        body = json.loads(received.body)
        assert body == {
            "id": received.headers["webhook-id"],
            "type": "balance.credited",
            "timestamp": "2026-03-01T12:00:00Z",
            "data": {
                "organization": INN,
                "payment_id": credited["payment_id"],
                "operation_id": operation_id,
                "amount": 145000,
                "delta": 145000,
                "balance_before": 0,
                "balance_after": 145000,
                "version": 1,
                "currency": "RUB",
                "payer_inn": INN,
                "document_number": "ПЛ «7» \u2028",
                "document_date": "2024-04-27T21:00:00Z",
                "source": "plain",
            },
        }
        assert int(received.headers["webhook-timestamp"]) == START.timestamp()

    def test_versions_have_no_gap_and_balances_join_up(self, operator, bank, app, receiver, check_ledger, endpoint_id):
        for amount in (5, 1, 2**62, 7):
            bank.send(amount=amount)
        deliver(app)

        moves = sorted((body["data"] for body in told(receiver)), key=lambda data: data["version"])
        assert [data["version"] for data in moves] == [1, 2, 3, 4]
        assert [data["delta"] for data in moves] == [5, 1, 2**62, 7]
        afters = [data["balance_after"] for data in moves]
        assert [data["balance_before"] for data in moves] == [0, *afters[:-1]]
        assert afters == [5, 6, 2**62 + 6, 2**62 + 13]
        check_ledger()


class TestListOfEvents:
    def test_event_in_the_list_is_the_one_that_was_sent(self, operator, bank, app, receiver, endpoint_id):
        bank.send()
        deliver(app)

        page = operator.get("/events/", organization=INN).json

        assert page == {"items": told(receiver), "next": None}

    def test_events_that_nobody_listened_to_are_listed_and_keep_their_ids(self, operator, bank, app, receiver):
        bank.send(amount=1)
        before = operator.get("/events/", organization=INN).json["items"]
        endpoint_id = subscribe(operator, receiver.url)["id"]
        operator.post(f"/endpoints/{endpoint_id}/replays/", since=EARLY)
        replay(app)
        deliver(app)

        assert told(receiver) == before
        assert operator.get("/events/", organization=INN).json["items"] == before

    def test_gap_is_filled_page_by_page_from_a_version_on(self, operator, bank, endpoint_id):
        for amount in range(1, 8):
            bank.send(amount=amount)
        bank.send(amount=99, payer_inn=OTHER_INN)

        pages, cursor = [], {}
        while cursor is not None:
            page = operator.get("/events/", organization=INN, after_version=2, limit=2, **cursor).json
            pages.append([event["data"]["version"] for event in page["items"]])
            cursor = {"cursor": page["next"]} if page["next"] else None

        assert pages == [[3, 4], [5, 6], [7]]
        assert operator.get("/events/", organization=INN, after_version=7).json == {"items": [], "next": None}

    @pytest.mark.parametrize(
        ("query", "parameter"),
        [
            ({}, "organization"),
            ({"organization": "123"}, "organization"),
            ({"organization": INN, "after_version": "-1"}, "after_version"),
            ({"organization": INN, "after_version": str(2**63)}, "after_version"),
            ({"organization": INN, "after": "1"}, "#"),
        ],
    )
    def test_query_of_the_wrong_shape_is_pointed_at(self, operator, query, parameter):
        answer = operator.get("/events/", **query)

        assert answer.status_code == 400
        assert [error["parameter"] for error in answer.json["errors"]] == [parameter]

    def test_unknown_organisation_is_not_found(self, operator):
        answer = operator.get("/events/", organization=OTHER_INN)

        assert (answer.status_code, answer.json["type"]) == (404, "urn:kopeck:problem:organization-unknown")


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
        assert len({received.body for received in receiver.received}) == 1
        (event,) = operator.get("/events/", organization=INN).json["items"]
        assert {received.headers["webhook-id"] for received in receiver.received} == {event["id"]}
        # The time and the signature are those of the request.
        assert len({received.headers["webhook-timestamp"] for received in receiver.received}) == 4
        assert len({received.headers["webhook-signature"] for received in receiver.received}) == 4

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

    def test_retry_after_of_any_other_answer_is_not_heard(self, operator, bank, app, clock, receiver, endpoint_id):
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


class TestRetryByAPerson:
    @pytest.fixture
    def failed(self, operator, bank, app, receiver, endpoint_id):
        """A delivery that has failed once, and is due again in five seconds or so."""
        receiver.answer = answering(500)
        bank.send()
        deliver(app)
        return only_delivery(operator)

    def test_delivery_is_tried_at_once(self, operator, app, receiver, failed):
        answer = operator.post(f"/deliveries/{failed['id']}/retry/")
        deliver(app)

        assert (answer.status_code, answer.json) == (202, {"id": failed["id"]})
        delivery = only_delivery(operator)
        assert (delivery["status"], delivery["due_at"]) == ("delivered", None)
        assert statuses(delivery) == [(1, "schedule", 500), (2, "manual", 200)]

    def test_failure_does_not_shift_the_schedule_of_a_pending_delivery(self, operator, app, clock, receiver, failed):
        receiver.answer = answering(500, 500)
        clock.move(seconds=1)
        operator.post(f"/deliveries/{failed['id']}/retry/")
        deliver(app)
        assert only_delivery(operator)["due_at"] == failed["due_at"]

        clock.moment = moment(failed["due_at"])
        deliver(app)

        delivery = only_delivery(operator)
        assert statuses(delivery) == [(1, "schedule", 500), (2, "manual", 500), (3, "schedule", 500)]
        # The second failure of the schedule, not the third: 5 minutes, a tenth more or less.
        assert timedelta(seconds=270) <= moment(delivery["due_at"]) - clock() <= timedelta(seconds=330)

    def test_asking_to_wait_does_not_shift_the_schedule_when_a_person_asked(self, operator, app, receiver, failed):
        receiver.answer = always(429, {"Retry-After": "3600"})
        operator.post(f"/deliveries/{failed['id']}/retry/")
        deliver(app)

        assert only_delivery(operator)["due_at"] == failed["due_at"]

    def test_exhausted_delivery_stays_exhausted_when_it_fails_and_is_delivered_when_not(
        self, operator, app, clock, receiver, failed
    ):
        receiver.answer = always(500)
        while (due_at := only_delivery(operator)["due_at"]) is not None:
            clock.moment = moment(due_at)
            deliver(app)
        settled_at = only_delivery(operator)["settled_at"]
        clock.move(hours=1)

        operator.post(f"/deliveries/{failed['id']}/retry/")
        deliver(app)
        delivery = only_delivery(operator)
        assert (delivery["status"], delivery["due_at"], delivery["settled_at"]) == ("exhausted", None, settled_at)
        assert statuses(delivery)[-2:] == [(10, "schedule", 500), (11, "manual", 500)]
        clock.move(days=30)
        assert deliver(app) == 0

        receiver.answer = always(200)
        operator.post(f"/deliveries/{failed['id']}/retry/")
        deliver(app)
        assert only_delivery(operator)["status"] == "delivered"

    def test_delivered_stays_delivered_whatever_comes_back_now(self, operator, app, clock, receiver, failed):
        clock.moment = moment(failed["due_at"])
        deliver(app)
        settled_at = only_delivery(operator)["settled_at"]
        clock.move(hours=1)
        receiver.answer = always(500)

        assert operator.post(f"/deliveries/{failed['id']}/retry/").status_code == 202
        deliver(app)

        delivery = only_delivery(operator)
        assert (delivery["status"], delivery["due_at"], delivery["settled_at"]) == ("delivered", None, settled_at)
        assert statuses(delivery)[-1] == (3, "manual", 500)
        clock.move(days=30)
        assert deliver(app) == 0

    def test_event_that_comes_again_has_the_id_that_it_had(self, operator, app, receiver, failed):
        operator.post(f"/deliveries/{failed['id']}/retry/")
        deliver(app)
        operator.post(f"/deliveries/{failed['id']}/retry/")
        deliver(app)

        assert len(receiver.received) == 3
        assert {body["id"] for body in told(receiver)} == {failed["event_id"]}

    def test_delivery_that_is_being_tried_is_not_tried_beside_that(self, operator, app, receiver, failed):
        path, answers = f"/deliveries/{failed['id']}/retry/", []

        def answer(_received: ReceivedRequest) -> Answer:
            answers.append(operator.post(path))
            return 500, {}, b""

        receiver.answer = answer
        assert operator.post(path).status_code == 202
        deliver(app)

        (refused,) = answers
        assert (refused.status_code, refused.json["type"]) == (409, "urn:kopeck:problem:delivery-under-way")
        assert len(receiver.received) == 2
        assert operator.post(path).status_code == 202

    def test_delivery_to_a_disabled_endpoint_is_refused(self, operator, app, receiver, failed, endpoint_id):
        operator.post(f"/endpoints/{endpoint_id}/disable/")

        answer = operator.post(f"/deliveries/{failed['id']}/retry/")
        deliver(app)

        assert (answer.status_code, answer.json["type"]) == (409, "urn:kopeck:problem:endpoint-disabled")
        assert len(receiver.received) == 1

    def test_delivery_to_an_endpoint_that_was_deleted_is_refused(self, operator, failed, endpoint_id):
        operator.delete(f"/endpoints/{endpoint_id}/")

        assert operator.post(f"/deliveries/{failed['id']}/retry/").status_code == 409

    def test_unknown_delivery_is_not_found(self, operator):
        for answer in (operator.post("/deliveries/999/retry/"), operator.get("/deliveries/999/")):
            assert (answer.status_code, answer.json["type"]) == (404, "urn:kopeck:problem:delivery-unknown")


class TestList:
    @pytest.fixture
    def told_apart(self, operator, bank, app, receiver, endpoint_id):
        """Four deliveries: two organisations, two endpoints, one delivered and one failed at each."""
        broken = subscribe(operator, NOBODY)["id"]
        bank.send(payer_inn=INN)
        bank.send(payer_inn=OTHER_INN)
        deliver(app)
        return endpoint_id, broken

    def test_each_filter_narrows_the_list(self, operator, told_apart):
        well, broken = told_apart
        everything = deliveries(operator)
        event_id = everything[0]["event_id"]

        assert len(everything) == 4
        assert {row["endpoint_id"] for row in deliveries(operator, endpoint=well)} == {well}
        assert members(deliveries(operator, status="pending"), "endpoint_id") == [(broken,), (broken,)]
        assert members(deliveries(operator, status="delivered"), "endpoint_id") == [(well,), (well,)]
        assert members(deliveries(operator, event=event_id), "event_id") == [(event_id,), (event_id,)]
        assert members(deliveries(operator, organization=OTHER_INN), "organization") == [(OTHER_INN,), (OTHER_INN,)]
        assert len(deliveries(operator, organization=INN, status="delivered", endpoint=well)) == 1
        assert deliveries(operator, organization=INN, status="exhausted") == []
        assert deliveries(operator, organization="500100732259") == []
        assert deliveries(operator, endpoint=999) == []

    def test_deliveries_come_newest_first_in_pages(self, operator, told_apart):
        ids = [row["id"] for row in deliveries(operator)]

        first = operator.get("/deliveries/", limit=3).json
        second = operator.get("/deliveries/", limit=3, cursor=first["next"]).json

        assert [row["id"] for row in first["items"] + second["items"]] == sorted(ids, reverse=True)
        assert (len(first["items"]), second["next"]) == (3, None)

    @pytest.mark.parametrize(
        ("query", "parameter"),
        [
            ({"status": "failed"}, "status"),
            ({"endpoint": "one"}, "endpoint"),
            ({"endpoint": str(2**63)}, "endpoint"),
            ({"event": "7"}, "event"),
            ({"organization": "123"}, "organization"),
            ({"limit": "501"}, "limit"),
            ({"state": "pending"}, "#"),
        ],
    )
    def test_query_of_the_wrong_shape_is_pointed_at(self, operator, query, parameter):
        answer = operator.get("/deliveries/", **query)

        assert answer.status_code == 400
        assert [error["parameter"] for error in answer.json["errors"]] == [parameter]

    def test_made_up_cursor_is_refused(self, operator):
        for path in ("/deliveries/", "/endpoints/"):
            for cursor in ("!", "x", "LTE", "é", "AA"):
                answer = operator.get(path, cursor=cursor)
                assert (answer.status_code, answer.json["type"]) == (404, "urn:kopeck:problem:page-unknown"), cursor


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
            "asked_by": "operator",
            "created_at": "2026-03-01T14:00:00Z",
            "finished_at": None,
            "queued": 0,
            "open": 0,
        }
        assert (queued["queued"], queued["open"], queued["finished_at"]) == (3, 3, "2026-03-01T14:00:00Z")
        assert (after["queued"], after["open"]) == (3, 0)
        assert sorted(amounts(receiver)) == [1, 2, 3, 3]
        assert {body["id"] for body in told(receiver)} == {
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

        assert [body["data"]["organization"] for body in told(receiver)] == [OTHER_INN]

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


class TestOrdered:
    def test_order_of_versions_is_kept_when_the_first_one_fails(self, operator, bank, app, clock, receiver):
        subscribe(operator, receiver.url, ordered=True)
        receiver.answer = answering(500)
        for amount in (1, 2, 3):
            bank.send(amount=amount)

        deliver(app)
        assert amounts(receiver) == [1]
        clock.move(seconds=6)
        deliver(app)

        assert amounts(receiver) == [1, 1, 2, 3]
        assert members(deliveries(operator), "version", "status", "attempt_count") == [
            (1, "delivered", 2),
            (2, "delivered", 1),
            (3, "delivered", 1),
        ]

    def test_one_organisation_does_not_hold_up_another(self, operator, bank, app, receiver):
        subscribe(operator, receiver.url, ordered=True)

        def answer(received: ReceivedRequest) -> Answer:
            return (500 if json.loads(received.body)["data"]["organization"] == INN else 200), {}, b""

        receiver.answer = answer
        for inn in (INN, INN, OTHER_INN, OTHER_INN):
            bank.send(payer_inn=inn)
        deliver(app)

        received = [(body["data"]["organization"], body["data"]["version"]) for body in told(receiver)]
        assert [version for inn, version in received if inn == INN] == [1]
        assert [version for inn, version in received if inn == OTHER_INN] == [1, 2]

    def test_one_that_is_exhausted_lets_the_next_one_go(self, operator, bank, app, clock, receiver):
        subscribe(operator, receiver.url, ordered=True)

        def answer(received: ReceivedRequest) -> Answer:
            return (500 if json.loads(received.body)["data"]["version"] == 1 else 200), {}, b""

        receiver.answer = answer
        bank.send()
        bank.send()
        deliver(app)
        while (due_at := deliveries(operator)[0]["due_at"]) is not None:
            assert len(receiver.received) == deliveries(operator)[0]["attempt_count"]
            clock.moment = moment(due_at)
            deliver(app)

        assert members(deliveries(operator), "version", "status", "attempt_count") == [
            (1, "exhausted", 10),
            (2, "delivered", 1),
        ]

    def test_ping_waits_for_no_organisation(self, operator, bank, app, receiver):
        endpoint_id = subscribe(operator, receiver.url, ordered=True)["id"]
        receiver.answer = answering(500)
        bank.send()
        deliver(app)

        operator.post(f"/endpoints/{endpoint_id}/ping/")
        deliver(app)

        assert told(receiver)[-1]["type"] == "ping"


@contextmanager
def another_kopeck(secret: str, clock) -> Iterator[tuple[Flask, str]]:
    """Serve a second Kopeck on a database of its own, whose bank signs with this secret; give it and its bank door."""
    database = Database("sqlite")
    database.create()
    app = create_app(make_config(database.url, BANK_WEBHOOK_SECRETS=secret), clock)
    database.migrate(app)
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield app, f"http://127.0.0.1:{server.port}/api/v1/webhook/bank/"
    finally:
        server.shutdown()
        thread.join(PATIENCE_SECONDS)
        server.server_close()
        with app.app_context():
            db.engine.dispose()
        database.drop()


class TestOtherReceivers:
    def test_another_kopeck_credits_once_what_is_delivered_twice(self, operator, bank, app, clock, check_ledger):
        with Receiver() as placeholder:
            created = subscribe(operator, placeholder.url, scheme="x-signature")
        with another_kopeck(created["secret"], clock) as (other, door):
            with app.app_context(), transaction() as session:
                # Its secret had to be known before it could be started, and its address only afterwards.
                session.execute(text("UPDATE endpoints SET url = :url"), {"url": door})
            bank.send(amount=700)
            deliver(app)
            delivery = only_delivery(operator)
            operator.post(f"/deliveries/{delivery['id']}/retry/")
            deliver(app)

            answers = [json.loads(attempt["excerpt"])["status"] for attempt in only_delivery(operator)["attempts"]]
            balance = other.test_client().get(f"/api/v1/organizations/{INN}/balance/").json
            with other.app_context():
                findings = [step for step in audit.verify() if isinstance(step, audit.Finding)]
        assert answers == ["credited", "duplicate"]
        assert (balance["balance"], balance["version"], findings) == (700, 1, [])
        check_ledger()

    def test_receiver_that_writes_the_members_again_finds_the_signature_good(self, operator, bank, app, receiver):
        secret = subscribe(operator, receiver.url, scheme="acquiremock")["secret"]
        bank.send(document_number="ПЛ «7» \u2028", amount=2**63 - 1)
        deliver(app)

        (received,) = receiver.received
        read = json.loads(received.body)
        written = json.dumps(read, sort_keys=True).encode()
        assert hmac.new(secret.encode(), written, hashlib.sha256).hexdigest() == received.headers["x-signature"]
        assert received.headers["x-payment-id"] == read["payment_id"]
        assert (read["type"], read["amount"], read["document_number"]) == (
            "balance.credited",
            2**63 - 1,
            "ПЛ «7» \u2028",
        )


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

"""Endpoints: who may register what, whose secret it is, and what becomes of events while one is away or changes."""

import base64
import hashlib
import hmac
import json
import logging
from datetime import UTC, datetime, timedelta

import pytest
from flask import Flask
from sqlalchemy import make_url
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

import signing
from auth import api_keys
from config import ConfigError
from limits import CLAIM_ENDPOINTS_MAX
from outbox import claims
from tests.callers import Operator
from tests.factories import INN, START, make_config, make_org
from tests.listeners import answering, deliver, deliveries, members, moment, only_delivery, replay, subscribe, told
from tests.receivers import ReceivedRequest, Receiver

OTHER_INN = "7707083893"
ELSEWHERE = "https://billing.example.com/kopeck"
SCHEMES = ("standard", "x-signature", "acquiremock")


@pytest.fixture
def app(loopback_app) -> Flask:
    return loopback_app


class TestCreate:
    def test_endpoint_is_registered_with_what_was_asked_for(self, operator, context):
        make_org()

        answer = operator.post(
            "/endpoints/",
            url=ELSEWHERE,
            scheme="x-signature",
            organization=INN,
            event_types=["balance.credited"],
            ordered=True,
            description="Billing «2»",
        )

        assert answer.status_code == 201
        assert operator.get(f"/endpoints/{answer.json['id']}/").json == {
            "id": answer.json["id"],
            "url": ELSEWHERE,
            "description": "Billing «2»",
            "scheme": "x-signature",
            "organization": INN,
            "event_types": ["balance.credited"],
            "ordered": True,
            "created_at": "2026-03-01T12:00:00Z",
            "failing_since": None,
            "disabled_at": None,
            "disabled_because": None,
        }

    def test_only_the_address_is_required(self, operator):
        created = subscribe(operator, ELSEWHERE)

        shown = operator.get(f"/endpoints/{created['id']}/").json
        assert (shown["scheme"], shown["organization"], shown["event_types"]) == ("standard", None, ["*"])
        assert (shown["ordered"], shown["description"]) == (False, "")

    @pytest.mark.parametrize(
        ("scheme", "prefix", "has_public_key"),
        [("standard", "whsec_", True), ("x-signature", "", False), ("acquiremock", "", False)],
    )
    def test_secret_is_shown_once_and_is_nowhere_in_clear(
        self, operator, bank, app, database, receiver, caplog, scheme, prefix, has_public_key
    ):
        caplog.set_level(logging.DEBUG)
        created = subscribe(operator, receiver.url, scheme=scheme)
        bank.send()
        deliver(app)

        secret = created["secret"]
        assert secret.startswith(prefix)
        assert (created["public_key"] or "").startswith("whpk_") is has_public_key
        later = [
            operator.get("/endpoints/").text,
            operator.get(f"/endpoints/{created['id']}/").text,
            operator.get("/deliveries/").text,
            operator.get("/events/", organization=INN).text,
            str(only_delivery(operator)),
            str(database.rows()),
            caplog.text,
            str(receiver.received),
        ]
        for text in later:
            assert secret.removeprefix(prefix) not in text
            assert "whsk_" not in text
        raw = base64.b64decode(secret.removeprefix(prefix)) if prefix else secret.encode()
        for rows in database.rows().values():
            for row in rows:
                assert all(raw not in bytes(cell) for cell in row if isinstance(cell, bytes | memoryview))

    def test_two_endpoints_never_share_a_secret(self, operator):
        for scheme in SCHEMES:
            assert (
                subscribe(operator, ELSEWHERE, scheme=scheme)["secret"]
                != (subscribe(operator, ELSEWHERE, scheme=scheme)["secret"])
            )

    def test_unknown_organisation_is_not_found(self, operator, database):
        answer = operator.post("/endpoints/", url=ELSEWHERE, organization=OTHER_INN)

        assert (answer.status_code, answer.json["type"]) == (404, "urn:kopeck:problem:organization-unknown")
        assert database.count("endpoints") == 0

    @pytest.mark.parametrize(
        ("body", "pointer"),
        [
            ({}, "#/url"),
            ({"url": ""}, "#/url"),
            ({"url": "https://example.com/" + "x" * 2000}, "#/url"),
            ({"url": "https://example.com/\n"}, "#/url"),
            ({"url": ELSEWHERE, "scheme": "md5"}, "#/scheme"),
            ({"url": ELSEWHERE, "organization": "123"}, "#/organization"),
            ({"url": ELSEWHERE, "event_types": []}, "#/event_types"),
            ({"url": ELSEWHERE, "event_types": ["balance.debited"]}, "#/event_types/0"),
            ({"url": ELSEWHERE, "ordered": "true"}, "#/ordered"),
            ({"url": ELSEWHERE, "description": "x" * 256}, "#/description"),
            ({"url": ELSEWHERE, "secret": "mine"}, "#"),
        ],
    )
    def test_registration_of_the_wrong_shape_is_pointed_at(self, operator, database, body, pointer):
        answer = operator.post("/endpoints/", **body)

        assert answer.status_code == 400
        assert [error["pointer"] for error in answer.json["errors"]] == [pointer]
        assert database.count("endpoints") == 0

    def test_longest_address_and_description_are_kept_whole(self, operator):
        url = "https://example.com/".ljust(2000, "x")
        created = subscribe(operator, url, description="щ" * 255, event_types=["balance.credited"] * 10)

        shown = operator.get(f"/endpoints/{created['id']}/").json
        assert (shown["url"], shown["description"]) == (url, "щ" * 255)

    @pytest.mark.parametrize(
        "url",
        [
            "http://10.0.0.1/",
            "http://192.168.1.1:8080/hook",
            "https://169.254.169.254/latest/meta-data/",
            "http://[fd00::1]/",
            "http://[::ffff:10.0.0.1]/",
            "http://0x0a000001/",
            "http://printer.local/",
            "http://database/",
            "https://user:password@example.com/",
            "ftp://example.com/",
            "example.com/hook",
        ],
    )
    def test_address_that_is_not_public_is_refused_although_loopback_is_allowed(self, operator, database, url):
        answer = operator.post("/endpoints/", url=url)

        assert (answer.status_code, answer.json["type"]) == (403, "urn:kopeck:problem:endpoint-refused")
        assert url not in answer.text
        assert database.count("endpoints") == 0

    @pytest.mark.parametrize("url", ["http://127.0.0.1:9/", "http://localhost:9/", "http://[::1]/", "http://127.1/"])
    def test_loopback_is_refused_unless_a_setting_allows_it(self, make_app, operator, url):
        strict = Operator(make_app().test_client(), operator.key)

        refused = strict.post("/endpoints/", url=url)

        assert (refused.status_code, refused.json["type"]) == (403, "urn:kopeck:problem:endpoint-refused")
        assert operator.post("/endpoints/", url=url).status_code == 201

    def test_address_that_is_loopback_later_is_not_sent_to(self, make_app, operator, bank, receiver):
        subscribe(operator, receiver.url)
        bank.send()

        deliver(make_app())

        (attempt,) = only_delivery(operator)["attempts"]
        assert (attempt["status_code"], receiver.received) == (None, [])
        assert "not on the public internet" in attempt["error"]

    def test_production_sends_to_https_only(self, make_app, operator):
        production = Operator(make_app(KOPECK_ENV="production").test_client(), operator.key)

        refused = production.post("/endpoints/", url=ELSEWHERE.replace("https", "http"))

        assert (refused.status_code, refused.json["type"]) == (403, "urn:kopeck:problem:endpoint-refused")
        assert production.post("/endpoints/", url=ELSEWHERE).status_code == 201


def test_production_refuses_to_start_with_endpoints_on_loopback():
    url = make_url("postgresql://kopeck@db/kopeck")

    with pytest.raises(ConfigError, match="ENDPOINTS_ON_LOOPBACK"):
        make_config(url, KOPECK_ENV="production", ENDPOINTS_ON_LOOPBACK="allow")
    assert not make_config(url, KOPECK_ENV="production").loopback_endpoints


class TestWhoHears:
    def test_endpoint_of_an_organisation_hears_of_that_one_alone(self, operator, bank, app, context, receiver):
        make_org(OTHER_INN)
        everything = subscribe(operator, receiver.url)
        mine = subscribe(operator, receiver.url, organization=OTHER_INN)

        bank.send(payer_inn=INN)
        bank.send(payer_inn=OTHER_INN)

        assert members(deliveries(operator), "endpoint_id", "organization") == [
            (everything["id"], INN),
            (everything["id"], OTHER_INN),
            (mine["id"], OTHER_INN),
        ]

    def test_filter_that_names_the_event_lets_it_through(self, operator, bank, app, receiver):
        subscribe(operator, receiver.url, event_types=["balance.credited"])

        bank.send()
        deliver(app)

        assert [body["type"] for body in told(receiver)] == ["balance.credited"]

    def test_endpoint_hears_of_nothing_that_came_before_it(self, operator, bank, database, receiver):
        bank.send()
        subscribe(operator, receiver.url)

        assert database.count("deliveries") == 0


class TestListAndDelete:
    def test_endpoints_come_in_pages_the_oldest_first(self, operator):
        ids = [subscribe(operator, ELSEWHERE)["id"] for _ in range(3)]

        first = operator.get("/endpoints/", limit=2).json
        second = operator.get("/endpoints/", limit=2, cursor=first["next"]).json

        assert [row["id"] for row in first["items"]] == ids[:2]
        assert ([row["id"] for row in second["items"]], second["next"]) == (ids[2:], None)

    def test_endpoint_that_was_deleted_is_gone_and_its_deliveries_are_readable(
        self, operator, bank, app, database, receiver
    ):
        endpoint_id = subscribe(operator, receiver.url)["id"]
        bank.send()
        deliver(app)
        bank.send()

        deleted = operator.delete(f"/endpoints/{endpoint_id}/")

        assert (deleted.status_code, deleted.data) == (204, b"")
        assert operator.get("/endpoints/").json == {"items": [], "next": None}
        deliver(app)
        assert len(receiver.received) == 1
        assert members(deliveries(operator, endpoint=endpoint_id), "status", "attempt_count") == [
            ("delivered", 1),
            ("paused", 0),
        ]
        delivered = operator.get(f"/deliveries/{deliveries(operator)[0]['id']}/").json
        assert members(delivered["attempts"], "number", "status_code") == [(1, 200)]

    def test_endpoint_that_was_deleted_answers_404_everywhere(self, operator, receiver):
        endpoint_id = subscribe(operator, receiver.url)["id"]
        operator.delete(f"/endpoints/{endpoint_id}/")

        answers = [
            operator.get(f"/endpoints/{endpoint_id}/"),
            operator.delete(f"/endpoints/{endpoint_id}/"),
            *(operator.post(f"/endpoints/{endpoint_id}/{verb}/") for verb in ("ping", "disable", "enable", "rotate")),
            operator.post(f"/endpoints/{endpoint_id}/replays/", since="2026-01-01T00:00:00Z"),
        ]

        for answer in answers:
            assert (answer.status_code, answer.json["type"]) == (404, "urn:kopeck:problem:endpoint-unknown")

    def test_endpoint_that_never_was_answers_404_everywhere(self, operator):
        assert operator.get("/endpoints/999/").status_code == 404
        assert operator.delete("/endpoints/999/").status_code == 404
        for verb in ("ping", "disable", "enable", "rotate"):
            assert operator.post(f"/endpoints/999/{verb}/").status_code == 404
        assert operator.post("/endpoints/999/replays/", since="2026-01-01T00:00:00Z").status_code == 404
        assert operator.get("/endpoints/999/replays/1/").status_code == 404

    def test_secrets_of_an_endpoint_that_was_deleted_are_wiped(self, operator, database):
        endpoint_id = subscribe(operator, ELSEWHERE)["id"]
        locked = [cell for row in database.rows()["endpoints"] for cell in row if str(cell).startswith("gAAAA")]
        assert len(locked) == 1

        operator.delete(f"/endpoints/{endpoint_id}/")

        assert "gAAAA" not in str(database.rows())

    def test_money_goes_on_when_the_only_endpoint_was_deleted(self, operator, bank, database, check_ledger):
        operator.delete(f"/endpoints/{subscribe(operator, ELSEWHERE)['id']}/")

        assert bank.send().json["status"] == "credited"
        assert (database.count("events"), database.count("deliveries")) == (0, 0)
        check_ledger()


class TestDisable:
    @pytest.fixture
    def endpoint_id(self, operator, receiver) -> int:
        return subscribe(operator, receiver.url)["id"]

    def test_disabled_endpoint_hears_nothing_until_it_is_enabled(self, operator, bank, app, receiver, endpoint_id):
        bank.send(amount=1)

        disabled = operator.post(f"/endpoints/{endpoint_id}/disable/")
        deliver(app)

        assert disabled.status_code == 200
        assert (disabled.json["disabled_at"], disabled.json["disabled_because"]) == ("2026-03-01T12:00:00Z", "manual")
        assert receiver.received == []
        assert members(deliveries(operator), "status", "due_at", "attempt_count") == [("paused", None, 0)]

        enabled = operator.post(f"/endpoints/{endpoint_id}/enable/")
        deliver(app)

        assert (enabled.status_code, enabled.json["disabled_at"], enabled.json["disabled_because"]) == (200, None, None)
        assert [body["data"]["amount"] for body in told(receiver)] == [1]
        assert members(deliveries(operator), "status", "attempt_count") == [("delivered", 1)]

    def test_what_happens_meanwhile_comes_with_a_replay_only(
        self, operator, bank, app, database, receiver, endpoint_id
    ):
        operator.post(f"/endpoints/{endpoint_id}/disable/")
        bank.send(amount=2)
        assert (database.count("events"), database.count("deliveries")) == (0, 0)
        operator.post(f"/endpoints/{endpoint_id}/enable/")
        deliver(app)
        assert receiver.received == []

        operator.post(f"/endpoints/{endpoint_id}/replays/", since="2026-03-01T12:00:00Z")
        replay(app)
        deliver(app)

        assert [body["data"]["amount"] for body in told(receiver)] == [2]

    def test_parked_delivery_goes_on_with_its_schedule_where_it_was(
        self, operator, bank, app, clock, receiver, endpoint_id
    ):
        receiver.answer = answering(500, 500, 500)
        bank.send()
        deliver(app)
        clock.move(seconds=6)
        deliver(app)
        operator.post(f"/endpoints/{endpoint_id}/disable/")
        clock.move(hours=1)
        deliver(app)
        assert only_delivery(operator)["status"] == "paused"
        operator.post(f"/endpoints/{endpoint_id}/enable/")

        deliver(app)

        delivery = only_delivery(operator)
        assert (delivery["status"], delivery["attempt_count"]) == ("pending", 3)
        # The third failure: 30 minutes, a tenth more or less.
        wait = moment(delivery["due_at"]) - clock()
        assert timedelta(minutes=27) <= wait <= timedelta(minutes=33)

    def test_delivery_under_way_when_the_endpoint_is_disabled_is_still_counted(
        self, operator, bank, app, receiver, endpoint_id
    ):
        def answer(_received: ReceivedRequest):
            assert operator.post(f"/endpoints/{endpoint_id}/disable/").status_code == 200
            return 200, {}, b""

        receiver.answer = answer
        bank.send()
        deliver(app)

        assert members(deliveries(operator), "status", "attempt_count") == [("delivered", 1)]
        assert operator.get(f"/endpoints/{endpoint_id}/").json["disabled_because"] == "manual"

    def test_disabling_and_enabling_twice_changes_nothing_more(self, operator, clock, endpoint_id):
        first = operator.post(f"/endpoints/{endpoint_id}/disable/").json
        clock.move(hours=1)
        assert operator.post(f"/endpoints/{endpoint_id}/disable/").json == first

        enabled = operator.post(f"/endpoints/{endpoint_id}/enable/").json
        assert operator.post(f"/endpoints/{endpoint_id}/enable/").json == enabled

    def test_person_who_disables_opens_no_incident(self, operator, endpoint_id):
        operator.post(f"/endpoints/{endpoint_id}/disable/")

        assert operator.get("/incidents/", state="all").json["items"] == []


class TestPing:
    def test_ping_is_queued_delivered_and_to_be_looked_at(self, operator, app, receiver):
        endpoint_id = subscribe(operator, receiver.url, event_types=["balance.credited"])["id"]

        queued = operator.post(f"/endpoints/{endpoint_id}/ping/")
        deliver(app)

        assert queued.status_code == 202
        delivery = operator.get(f"/deliveries/{queued.json['id']}/").json
        (body,) = told(receiver)
        assert body == {
            "id": delivery["event_id"],
            "type": "ping",
            "timestamp": "2026-03-01T12:00:00Z",
            "data": {"endpoint": endpoint_id},
        }
        assert (delivery["event_type"], delivery["organization"], delivery["version"]) == ("ping", None, None)
        assert members(delivery["attempts"], "number", "cause", "status_code", "excerpt") == [(1, "manual", 200, "ok")]

    def test_ping_that_fails_is_tried_again_by_the_schedule_and_not_at_once(self, operator, app, clock, receiver):
        receiver.answer = answering(500)
        endpoint_id = subscribe(operator, receiver.url)["id"]
        operator.post(f"/endpoints/{endpoint_id}/ping/")

        deliver(app)
        deliver(app)
        assert len(receiver.received) == 1
        clock.move(seconds=6)
        deliver(app)

        (delivery,) = deliveries(operator)
        assert (delivery["status"], delivery["attempt_count"]) == ("delivered", 2)

    def test_ping_goes_to_its_own_endpoint_alone(self, operator, app, receiver):
        pinged = subscribe(operator, receiver.url)["id"]
        with Receiver() as another:
            subscribe(operator, another.url)
            operator.post(f"/endpoints/{pinged}/ping/")
            deliver(app)

            assert (len(receiver.received), len(another.received)) == (1, 0)

    def test_disabled_endpoint_is_not_pinged(self, operator, database, receiver):
        endpoint_id = subscribe(operator, receiver.url)["id"]
        operator.post(f"/endpoints/{endpoint_id}/disable/")

        answer = operator.post(f"/endpoints/{endpoint_id}/ping/")

        assert (answer.status_code, answer.json["type"]) == (409, "urn:kopeck:problem:endpoint-disabled")
        assert database.count("events") == 0

    def test_ping_is_in_no_list_of_an_organisation(self, operator, bank, app, receiver):
        endpoint_id = subscribe(operator, receiver.url)["id"]
        bank.send()
        operator.post(f"/endpoints/{endpoint_id}/ping/")
        deliver(app)

        assert len(deliveries(operator)) == 2
        assert len(deliveries(operator, organization=INN)) == 1
        assert len(operator.get("/events/", organization=INN).json["items"]) == 1


class TestRotate:
    def test_standard_holds_with_both_secrets_during_the_overlap_and_with_the_new_one_afterwards(
        self, operator, bank, app, clock, receiver
    ):
        # The library looks at the time of this machine, and takes what is less than five minutes off.
        clock.moment = datetime.now(UTC)
        created = subscribe(operator, receiver.url)
        rotated = operator.post(f"/endpoints/{created['id']}/rotate/", overlap_seconds=60)
        assert (rotated.status_code, rotated.json["id"]) == (200, created["id"])
        old, new = Webhook(created["secret"]), Webhook(rotated.json["secret"])

        bank.send(amount=1)
        deliver(app)
        clock.move(seconds=59)
        bank.send(amount=2)
        deliver(app)
        clock.move(seconds=1)
        bank.send(amount=3)
        deliver(app)

        *during, after = receiver.received
        assert [new.verify(received.body, received.headers)["data"]["amount"] for received in receiver.received] == [
            1,
            2,
            3,
        ]
        assert [old.verify(received.body, received.headers)["data"]["amount"] for received in during] == [1, 2]
        with pytest.raises(WebhookVerificationError):
            old.verify(after.body, after.headers)

    @pytest.mark.parametrize("scheme", ["x-signature", "acquiremock"])
    def test_scheme_with_one_signature_changes_the_secret_when_the_overlap_ends(
        self, operator, bank, app, clock, receiver, scheme
    ):
        created = subscribe(operator, receiver.url, scheme=scheme)
        new = operator.post(f"/endpoints/{created['id']}/rotate/", overlap_seconds=3600).json["secret"]

        bank.send()
        deliver(app)
        clock.move(hours=1)
        bank.send()
        deliver(app)

        during, after = receiver.received
        assert during.headers["x-signature"] == signing.sign(during.body, created["secret"])
        assert after.headers["x-signature"] == signing.sign(after.body, new)

    def test_overlap_is_a_day_unless_said_otherwise(self, operator, bank, app, clock, receiver):
        created = subscribe(operator, receiver.url, scheme="x-signature")
        new = operator.post(f"/endpoints/{created['id']}/rotate/").json["secret"]

        clock.move(days=1, seconds=-1)
        bank.send()
        deliver(app)
        clock.move(seconds=1)
        bank.send()
        deliver(app)

        signatures = [received.headers["x-signature"] for received in receiver.received]
        assert signatures == [
            signing.sign(received.body, secret)
            for received, secret in zip(receiver.received, (created["secret"], new), strict=True)
        ]

    def test_rotation_without_overlap_ends_every_old_secret_at_once(self, operator, bank, app, clock, receiver):
        clock.moment = datetime.now(UTC)
        created = subscribe(operator, receiver.url)
        second = operator.post(f"/endpoints/{created['id']}/rotate/", overlap_seconds=3600).json["secret"]
        third = operator.post(f"/endpoints/{created['id']}/rotate/", overlap_seconds=0).json["secret"]

        bank.send()
        deliver(app)

        (received,) = receiver.received
        Webhook(third).verify(received.body, received.headers)
        for ended in (created["secret"], second):
            with pytest.raises(WebhookVerificationError):
                Webhook(ended).verify(received.body, received.headers)

    def test_second_rotation_does_not_prolong_the_first_secret(self, operator, bank, app, clock, receiver):
        clock.moment = datetime.now(UTC)
        created = subscribe(operator, receiver.url)
        second = operator.post(f"/endpoints/{created['id']}/rotate/", overlap_seconds=60).json["secret"]
        operator.post(f"/endpoints/{created['id']}/rotate/", overlap_seconds=120)

        clock.move(seconds=60)
        bank.send()
        deliver(app)

        (received,) = receiver.received
        Webhook(second).verify(received.body, received.headers)
        with pytest.raises(WebhookVerificationError):
            Webhook(created["secret"]).verify(received.body, received.headers)

    def test_overlap_out_of_bounds_is_pointed_at(self, operator):
        created = subscribe(operator, ELSEWHERE)

        for overlap in (-1, 30 * 24 * 3600 + 1, "60", 1.5, True, None):
            answer = operator.post(f"/endpoints/{created['id']}/rotate/", overlap_seconds=overlap)
            assert answer.status_code == 400, overlap
            assert [error["pointer"] for error in answer.json["errors"]] == ["#/overlap_seconds"]
        longest = operator.post(f"/endpoints/{created['id']}/rotate/", overlap_seconds=30 * 24 * 3600)
        assert longest.status_code == 200

    def test_new_secret_is_nowhere_in_clear(self, operator, database):
        created = subscribe(operator, ELSEWHERE)
        rotated = operator.post(f"/endpoints/{created['id']}/rotate/").json

        assert rotated["secret"] != created["secret"]
        assert rotated["public_key"] != created["public_key"]
        for secret in (rotated["secret"], created["secret"]):
            assert secret.removeprefix("whsec_") not in str(database.rows()) + operator.get("/endpoints/").text


class TestSecretsAtRest:
    """An app whose SECRETS_KEYS do not fit what an endpoint is signed with."""

    OTHER_KEY = "another-key-that-locks-secrets-0123456789abcdef"

    @pytest.fixture
    def stranger(self, make_app) -> Flask:
        # As in a process of its own, which says it once.
        claims._log_unreadable.cache_clear()
        return make_app(ENDPOINTS_ON_LOOPBACK="allow", SECRETS_KEYS=self.OTHER_KEY)

    def test_worker_without_the_key_says_so_and_serves_the_others(
        self, stranger, app, operator, bank, receiver, caplog
    ):
        locked = subscribe(operator, receiver.url)["id"]
        fine = subscribe(Operator(stranger.test_client(), operator.key), receiver.url)["id"]
        bank.send()

        deliver(stranger)
        deliver(stranger)

        assert caplog.text.count(f"endpoint {locked} cannot be signed for") == 1
        assert "SECRETS_KEYS" in caplog.text
        assert f"endpoint {fine} " not in caplog.text
        assert members(deliveries(operator), "endpoint_id", "status", "attempt_count") == [
            (locked, "pending", 0),
            (fine, "delivered", 1),
        ]

    def test_endpoints_that_cannot_be_signed_for_do_not_starve_those_behind_them(
        self, stranger, operator, bank, receiver
    ):
        for _ in range(CLAIM_ENDPOINTS_MAX + 1):
            subscribe(operator, receiver.url)
        fine = subscribe(Operator(stranger.test_client(), operator.key), receiver.url)["id"]
        bank.send()

        deliver(stranger)

        delivered = operator.get("/deliveries/", status="delivered").json["items"]
        assert [delivery["endpoint_id"] for delivery in delivered] == [fine]

    def test_rotation_with_an_overlap_needs_the_key_and_says_so(self, stranger, operator, receiver):
        endpoint_id = subscribe(operator, receiver.url)["id"]

        answer = Operator(stranger.test_client(), operator.key).post(f"/endpoints/{endpoint_id}/rotate/")

        assert (answer.status_code, answer.json["type"]) == (409, "urn:kopeck:problem:secret-unreadable")
        assert "SECRETS_KEYS" in answer.json["detail"]

    def test_deliveries_wait_until_the_key_is_back(self, stranger, app, operator, bank, clock, receiver):
        subscribe(operator, receiver.url)
        bank.send()
        deliver(stranger)
        clock.move(hours=1)
        deliver(stranger)
        assert members(deliveries(operator), "status", "attempt_count", "due_at") == [
            ("pending", 0, "2026-03-01T12:00:00Z")
        ]

        deliver(app)

        assert members(deliveries(operator), "status", "attempt_count") == [("delivered", 1)]
        assert operator.get("/endpoints/").json["items"][0]["disabled_at"] is None

    def test_money_is_credited_whatever_the_key(self, stranger, operator, check_ledger):
        subscribe(operator, ELSEWHERE)
        body = b'{"operation_id": "ccf0a86d-041b-4991-bcf7-e2352f7b8a4a", "amount": 1, "payer_inn": "1234567890", '
        body += b'"document_number": "1", "document_date": "2024-04-27T21:00:00Z"}'
        headers = {"X-Signature": signing.sign(body, stranger.extensions["kopeck"].settings.bank_secrets["plain"][0])}

        answer = stranger.test_client().post(
            "/api/v1/webhook/bank/", data=body, headers=headers, content_type="application/json"
        )

        assert answer.json["status"] == "credited"
        assert len(deliveries(operator)) == 1
        check_ledger()

    def test_new_secret_without_overlap_is_the_way_out_when_the_key_is_lost(
        self, stranger, app, operator, bank, clock, receiver
    ):
        clock.moment = datetime.now(UTC)
        endpoint_id = subscribe(operator, receiver.url)["id"]
        bank.send()

        rotated = Operator(stranger.test_client(), operator.key).post(
            f"/endpoints/{endpoint_id}/rotate/", overlap_seconds=0
        )
        deliver(stranger)

        assert rotated.status_code == 200
        (received,) = receiver.received
        Webhook(rotated.json["secret"]).verify(received.body, received.headers)

    def test_key_that_is_listed_second_still_unlocks(self, make_app, app, operator, bank, receiver):
        subscribe(operator, receiver.url)
        old_key = app.extensions["kopeck"].settings.secrets_keys[0]
        bank.send()

        deliver(make_app(ENDPOINTS_ON_LOOPBACK="allow", SECRETS_KEYS=f"{self.OTHER_KEY},{old_key}"))

        assert members(deliveries(operator), "status") == [("delivered",)]


class TestAccess:
    """Every call about endpoints, events and deliveries asks for its scope."""

    READ = (
        ("GET", "/api/v1/endpoints/"),
        ("GET", "/api/v1/endpoints/1/"),
        ("GET", "/api/v1/endpoints/1/replays/1/"),
        ("GET", f"/api/v1/events/?organization={INN}"),
        ("GET", "/api/v1/deliveries/"),
        ("GET", "/api/v1/deliveries/1/"),
    )
    WRITE = (
        ("POST", "/api/v1/endpoints/"),
        ("DELETE", "/api/v1/endpoints/1/"),
        ("POST", "/api/v1/endpoints/1/ping/"),
        ("POST", "/api/v1/endpoints/1/rotate/"),
        ("POST", "/api/v1/endpoints/1/disable/"),
        ("POST", "/api/v1/endpoints/1/enable/"),
        ("POST", "/api/v1/endpoints/1/replays/"),
        ("POST", "/api/v1/deliveries/1/retry/"),
    )

    @pytest.fixture
    def production(self, make_app):
        return make_app(KOPECK_ENV="production").test_client()

    def test_list_of_routes_is_complete(self, app):
        rules = {
            (method, rule.rule.replace("<number:", "<").split("?")[0])
            for rule in app.url_map.iter_rules()
            for method in rule.methods - {"OPTIONS", "HEAD"}
            if rule.rule.startswith(("/api/v1/endpoints/", "/api/v1/events/", "/api/v1/deliveries/"))
        }

        adapter = app.url_map.bind("localhost")
        named = {
            (method, adapter.match(path.split("?")[0], method, return_rule=True)[0].rule.replace("<number:", "<"))
            for method, path in self.READ + self.WRITE
        }
        assert named == rules

    def test_production_asks_for_a_key_before_it_reads_anything(self, production, context):
        revoked = api_keys.create(name="revoked", scopes=list(api_keys.SCOPES), now=START)
        api_keys.revoke("revoked", now=START)

        for method, path in self.READ + self.WRITE:
            for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Bearer {revoked}"}):
                answer = production.open(path, method=method, headers=headers, data=b"{not even JSON")
                assert (answer.status_code, answer.json["type"]) == (401, "urn:kopeck:problem:key-refused"), path

    def test_key_with_every_other_scope_is_refused(self, production, context):
        for scope, routes in (("endpoints:read", self.READ), ("endpoints:write", self.WRITE)):
            others = [name for name in api_keys.SCOPES if name != scope]
            token = api_keys.create(name=f"not {scope}", scopes=others, now=START)
            for method, path in routes:
                answer = production.open(path, method=method, headers={"Authorization": f"Bearer {token}"})
                assert (answer.status_code, answer.json["type"]) == (403, "urn:kopeck:problem:scope-missing"), path

    def test_key_with_the_one_scope_goes_through(self, production, context):
        for scope, routes in (("endpoints:read", self.READ), ("endpoints:write", self.WRITE)):
            token = api_keys.create(name=scope, scopes=[scope], now=START)
            for method, path in routes:
                answer = production.open(path, method=method, headers={"Authorization": f"Bearer {token}"}, json={})
                assert answer.status_code in (200, 400, 404), path

    def test_development_reads_are_open_and_writes_are_not(self, client, database):
        for method, path in self.READ:
            assert client.open(path, method=method).status_code in (200, 404), path
        for method, path in self.WRITE:
            assert client.open(path, method=method, json={}).status_code == 401, path


def test_every_scheme_is_signed_with_the_secret_that_was_shown(operator, bank, app, clock):
    clock.moment = datetime.now(UTC)
    secrets, received = {}, {}
    for scheme in SCHEMES:
        with Receiver() as receiver:
            created = subscribe(operator, receiver.url, scheme=scheme)
            bank.send(document_number="№ 7")
            deliver(app)
            operator.delete(f"/endpoints/{created['id']}/")
            secrets[scheme], (received[scheme],) = created["secret"], receiver.received

    Webhook(secrets["standard"]).verify(received["standard"].body, received["standard"].headers)
    flat = received["x-signature"]
    assert flat.headers["x-signature"] == signing.sign(flat.body, secrets["x-signature"])
    # Such a receiver has only the members that it read, and writes them again to verify them.
    mocked = received["acquiremock"]
    written = json.dumps(json.loads(mocked.body), sort_keys=True).encode()
    expected = hmac.new(secrets["acquiremock"].encode(), written, hashlib.sha256).hexdigest()
    assert mocked.headers["x-signature"] == expected
    assert mocked.headers["x-payment-id"] == json.loads(mocked.body)["payment_id"]
    assert "whsec" not in str(received)

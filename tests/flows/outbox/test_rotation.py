"""A secret is changed for a new one, and the old one holds for the overlap."""

from datetime import UTC, datetime

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

import signing
from tests.listeners import ELSEWHERE, deliver, subscribe


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
        assert [new.verify(request.body, request.headers)["data"]["amount"] for request in receiver.received] == [
            1,
            2,
            3,
        ]
        assert [old.verify(request.body, request.headers)["data"]["amount"] for request in during] == [1, 2]
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

        signatures = [request.headers["x-signature"] for request in receiver.received]
        assert signatures == [
            signing.sign(request.body, secret)
            for request, secret in zip(receiver.received, (created["secret"], new), strict=True)
        ]

    def test_rotation_without_overlap_ends_every_old_secret_at_once(self, operator, bank, app, clock, receiver):
        clock.moment = datetime.now(UTC)
        created = subscribe(operator, receiver.url)
        second = operator.post(f"/endpoints/{created['id']}/rotate/", overlap_seconds=3600).json["secret"]
        third = operator.post(f"/endpoints/{created['id']}/rotate/", overlap_seconds=0).json["secret"]

        bank.send()
        deliver(app)

        (request,) = receiver.received
        Webhook(third).verify(request.body, request.headers)
        for ended in (created["secret"], second):
            with pytest.raises(WebhookVerificationError):
                Webhook(ended).verify(request.body, request.headers)

    def test_second_rotation_does_not_prolong_the_first_secret(self, operator, bank, app, clock, receiver):
        clock.moment = datetime.now(UTC)
        created = subscribe(operator, receiver.url)
        second = operator.post(f"/endpoints/{created['id']}/rotate/", overlap_seconds=60).json["secret"]
        operator.post(f"/endpoints/{created['id']}/rotate/", overlap_seconds=120)

        clock.move(seconds=60)
        bank.send()
        deliver(app)

        (request,) = receiver.received
        Webhook(second).verify(request.body, request.headers)
        with pytest.raises(WebhookVerificationError):
            Webhook(created["secret"]).verify(request.body, request.headers)

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

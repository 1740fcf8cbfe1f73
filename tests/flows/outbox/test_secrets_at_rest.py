"""What happens, and what does not, when the keys that encrypt secrets do not fit."""

from datetime import UTC, datetime

import pytest
from flask import Flask
from standardwebhooks.webhooks import Webhook

import signing
from limits import CLAIM_ENDPOINTS_MAX
from outbox import claims
from tests.callers import Operator
from tests.factories import SECRET
from tests.listeners import ELSEWHERE, deliver, deliveries, members, subscribe


class TestSecretsAtRest:
    """An app whose SECRETS_KEYS do not fit what an endpoint is signed with."""

    OTHER_KEY = "another-key-that-encrypts-secrets-0123456789abcdef"

    @pytest.fixture
    def app_with_another_key(self, make_app) -> Flask:
        # As in a process of its own, which says it once.
        claims._log_unreadable.cache_clear()
        return make_app(ENDPOINTS_ON_LOOPBACK="allow", SECRETS_KEYS=self.OTHER_KEY)

    def test_worker_without_the_key_says_so_and_serves_the_others(
        self, app_with_another_key, app, operator, bank, receiver, caplog
    ):
        unreadable = subscribe(operator, receiver.url)["id"]
        fine = subscribe(Operator(app_with_another_key.test_client(), operator.key), receiver.url)["id"]
        bank.send()

        deliver(app_with_another_key)
        deliver(app_with_another_key)

        assert caplog.text.count(f"endpoint {unreadable} cannot be signed for") == 1
        assert "SECRETS_KEYS" in caplog.text
        assert f"endpoint {fine} " not in caplog.text
        assert members(deliveries(operator), "endpoint_id", "status", "attempt_count") == [
            (unreadable, "pending", 0),
            (fine, "delivered", 1),
        ]

    def test_endpoints_that_cannot_be_signed_for_do_not_starve_those_behind_them(
        self, app_with_another_key, operator, bank, receiver
    ):
        for _ in range(CLAIM_ENDPOINTS_MAX + 1):
            subscribe(operator, receiver.url)
        fine = subscribe(Operator(app_with_another_key.test_client(), operator.key), receiver.url)["id"]
        bank.send()

        deliver(app_with_another_key)

        delivered = operator.get("/deliveries/", status="delivered").json["items"]
        assert [delivery["endpoint_id"] for delivery in delivered] == [fine]

    def test_rotation_with_an_overlap_needs_the_key_and_says_so(self, app_with_another_key, operator, receiver):
        endpoint_id = subscribe(operator, receiver.url)["id"]

        answer = Operator(app_with_another_key.test_client(), operator.key).post(f"/endpoints/{endpoint_id}/rotate/")

        assert (answer.status_code, answer.json["type"]) == (409, "urn:kopeck:problem:secret-unreadable")
        assert "SECRETS_KEYS" in answer.json["detail"]

    def test_deliveries_wait_until_the_key_is_back(self, app_with_another_key, app, operator, bank, clock, receiver):
        subscribe(operator, receiver.url)
        bank.send()
        deliver(app_with_another_key)
        clock.move(hours=1)
        deliver(app_with_another_key)
        assert members(deliveries(operator), "status", "attempt_count", "due_at") == [
            ("pending", 0, "2026-03-01T12:00:00Z")
        ]

        deliver(app)

        assert members(deliveries(operator), "status", "attempt_count") == [("delivered", 1)]
        assert operator.get("/endpoints/").json["items"][0]["disabled_at"] is None

    def test_money_is_credited_whatever_the_key(self, app_with_another_key, operator, check_ledger):
        subscribe(operator, ELSEWHERE)
        body = b'{"operation_id": "ccf0a86d-041b-4991-bcf7-e2352f7b8a4a", "amount": 1, "payer_inn": "1234567890", '
        body += b'"document_number": "1", "document_date": "2024-04-27T21:00:00Z"}'
        headers = {"X-Signature": signing.sign(body, SECRET)}

        answer = app_with_another_key.test_client().post(
            "/api/v1/webhook/bank/", data=body, headers=headers, content_type="application/json"
        )

        assert answer.json["status"] == "credited"
        assert len(deliveries(operator)) == 1
        check_ledger()

    def test_new_secret_without_overlap_is_the_way_out_when_the_key_is_lost(
        self, app_with_another_key, app, operator, bank, clock, receiver
    ):
        clock.moment = datetime.now(UTC)
        endpoint_id = subscribe(operator, receiver.url)["id"]
        bank.send()

        rotated = Operator(app_with_another_key.test_client(), operator.key).post(
            f"/endpoints/{endpoint_id}/rotate/", overlap_seconds=0
        )
        deliver(app_with_another_key)

        assert rotated.status_code == 200
        (request,) = receiver.received
        Webhook(rotated.json["secret"]).verify(request.body, request.headers)

    def test_key_that_is_listed_second_still_decrypts(self, make_app, app, operator, bank, receiver):
        subscribe(operator, receiver.url)
        old_key = app.extensions["kopeck"].settings.secrets_keys[0]
        bank.send()

        deliver(make_app(ENDPOINTS_ON_LOOPBACK="allow", SECRETS_KEYS=f"{self.OTHER_KEY},{old_key}"))

        assert members(deliveries(operator), "status") == [("delivered",)]

"""What happens, and what does not, when the keys that encrypt secrets do not fit."""

import threading
from datetime import UTC, datetime

import pytest
from flask import Flask
from sqlalchemy import select, text
from standardwebhooks.webhooks import Webhook

import signing
from context import cipher
from database.session import look_up
from encryption import SecretCipher
from limits import CLAIM_ENDPOINTS_MAX
from models import Endpoint
from tests.callers import Operator
from tests.factories import SECRET
from tests.listeners import ELSEWHERE, deliver, deliveries, members, subscribe
from worker import loop


class TestSecretsAtRest:
    """An app whose SECRETS_KEYS do not fit what an endpoint is signed with."""

    OTHER_KEY = "another-key-that-encrypts-secrets-0123456789abcdef"

    @pytest.fixture
    def app_with_another_key(self, make_app) -> Flask:
        return make_app(ENDPOINTS_ON_LOOPBACK="allow", SECRETS_KEYS=self.OTHER_KEY)

    def test_worker_without_the_key_says_so_and_serves_the_others(
        self, app_with_another_key, app, operator, bank, receiver, caplog
    ):
        unreadable = subscribe(operator, receiver.url)["id"]
        fine = subscribe(Operator(app_with_another_key.test_client(), operator.key), receiver.url)["id"]
        bank.send()

        deliver(app_with_another_key)
        deliver(app_with_another_key)

        assert caplog.text.count(f"endpoints {unreadable} cannot be signed for") == 1
        assert "SECRETS_KEYS" in caplog.text
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


def move_secrets(database, *, source: int, to: int) -> None:
    """Copy the stored secrets of one endpoint to the row of another, as somebody can who writes to the table."""
    with database.unguarded() as connection:
        secrets = connection.scalar(text("SELECT secrets FROM endpoints WHERE id = :id"), {"id": source})
        connection.execute(
            text("UPDATE endpoints SET secrets = :secrets WHERE id = :id"), {"secrets": secrets, "id": to}
        )


def store_unbound(app, database, endpoint_id: int) -> None:
    """Store the secrets of an endpoint as an earlier version did."""
    with app.app_context():
        (stored,) = look_up(select(Endpoint.secrets).where(Endpoint.id == endpoint_id))[0]
        plain = cipher().decrypt(stored, bound_to=f"endpoints.secrets/{endpoint_id}")
        unbound = cipher().encrypt_unbound(plain)
    with database.unguarded() as connection:
        values = {"secrets": unbound, "id": endpoint_id}
        connection.execute(text("UPDATE endpoints SET secrets = :secrets WHERE id = :id"), values)


class TestBoundToTheirRow:
    def test_secrets_copied_from_another_endpoint_sign_nothing(self, app, operator, bank, database, receiver):
        theirs, ours = (subscribe(operator, receiver.url)["id"] for _ in range(2))
        bank.send()
        move_secrets(database, source=theirs, to=ours)

        deliver(app)

        assert members(deliveries(operator), "endpoint_id", "status", "attempt_count") == [
            (theirs, "delivered", 1),
            (ours, "pending", 0),
        ]
        assert len(receiver.received) == 1

    def test_secrets_that_an_earlier_version_stored_sign_nothing(self, app, operator, bank, database, receiver):
        endpoint_id = subscribe(operator, receiver.url)["id"]
        bank.send()
        store_unbound(app, database, endpoint_id)

        deliver(app)

        assert members(deliveries(operator), "status", "attempt_count") == [("pending", 0)]

    def test_rotation_with_an_overlap_does_not_take_copied_secrets_over(self, operator, database, receiver):
        theirs, ours = (subscribe(operator, receiver.url)["id"] for _ in range(2))
        move_secrets(database, source=theirs, to=ours)

        answer = operator.post(f"/endpoints/{ours}/rotate/", overlap_seconds=60)

        assert (answer.status_code, answer.json["type"]) == (409, "urn:kopeck:problem:secret-unreadable")

    def test_new_secrets_are_bound_too(self, app, operator, bank, database, receiver):
        theirs, ours = (subscribe(operator, receiver.url)["id"] for _ in range(2))
        operator.post(f"/endpoints/{theirs}/rotate/", overlap_seconds=60)
        move_secrets(database, source=theirs, to=ours)
        bank.send()

        deliver(app)

        assert members(deliveries(operator), "status") == [("delivered",), ("pending",)]


class TestReencryption:
    NEW_KEY = "a-new-key-that-encrypts-secrets-0123456789abcdef"

    @pytest.fixture
    def rotated(self, make_app, app) -> Flask:
        (old,) = app.extensions["kopeck"].settings.secrets_keys
        return make_app(ENDPOINTS_ON_LOOPBACK="allow", SECRETS_KEYS=f"{self.NEW_KEY},{old}")

    @pytest.fixture
    def new_key_alone(self, make_app) -> Flask:
        return make_app(ENDPOINTS_ON_LOOPBACK="allow", SECRETS_KEYS=self.NEW_KEY)

    def test_old_key_can_be_taken_out_afterwards(self, rotated, new_key_alone, operator, bank, clock, receiver):
        clock.moment = datetime.now(UTC)
        secret = subscribe(operator, receiver.url)["secret"]
        operator.delete(f"/endpoints/{subscribe(operator, receiver.url)['id']}/")
        bank.send()

        result = rotated.test_cli_runner().invoke(args=["endpoints", "reencrypt"])
        deliver(new_key_alone)

        assert (result.exit_code, result.output) == (0, "1 encrypted with the newest key.\n")
        (request,) = receiver.received
        Webhook(secret).verify(request.body, request.headers)

    def test_what_cannot_be_read_is_named_and_left_as_it_is(self, app, new_key_alone, operator, database):
        endpoint_ids = [subscribe(operator, ELSEWHERE)["id"] for _ in range(2)]
        before = database.rows()["endpoints"]

        result = new_key_alone.test_cli_runner().invoke(args=["endpoints", "reencrypt"])

        assert result.exit_code == 1
        assert f"cannot be read: {endpoint_ids[0]}, {endpoint_ids[1]}." in result.output
        assert database.rows()["endpoints"] == before

    def test_what_the_upgrade_could_not_read_is_bound_when_a_person_vouches_for_it(
        self, app, operator, bank, database, receiver
    ):
        vouched, other = (subscribe(operator, receiver.url)["id"] for _ in range(2))
        for endpoint_id in (vouched, other):
            store_unbound(app, database, endpoint_id)
        bank.send()

        result = app.test_cli_runner().invoke(args=["endpoints", "reencrypt", "--unbound", str(vouched)])
        deliver(app)

        assert result.exit_code == 1
        assert f"cannot be read: {other}." in result.output
        assert members(deliveries(operator), "endpoint_id", "status") == [(vouched, "delivered"), (other, "pending")]

    def test_copied_secrets_are_not_bound_even_when_asked_for(self, app, operator, database):
        theirs, ours = (subscribe(operator, ELSEWHERE)["id"] for _ in range(2))
        move_secrets(database, source=theirs, to=ours)

        result = app.test_cli_runner().invoke(args=["endpoints", "reencrypt", "--unbound", str(ours)])

        assert f"cannot be read: {ours}." in result.output


class TestUnreadableSecretsAreSeen:
    OTHER_KEY = "another-key-that-encrypts-secrets-0123456789abcdef"

    @pytest.fixture
    def with_another_key(self, make_app) -> Flask:
        return make_app(ENDPOINTS_ON_LOOPBACK="allow", SECRETS_KEYS=self.OTHER_KEY)

    def test_server_whose_keys_read_nothing_that_is_stored_is_not_ready(self, app, with_another_key, operator):
        endpoint_id = subscribe(operator, ELSEWHERE)["id"]

        answer = with_another_key.test_client().get("/readyz")

        assert (answer.status_code, answer.json["type"]) == (503, "urn:kopeck:problem:secrets-unreadable")
        assert "SECRETS_KEYS" in answer.json["detail"]
        assert app.test_client().get("/readyz").json == {"status": "ok"}
        operator.post(f"/endpoints/{endpoint_id}/disable/")
        assert with_another_key.test_client().get("/readyz").status_code == 200

    def test_server_without_endpoints_is_ready_with_any_keys(self, with_another_key, database):
        assert with_another_key.test_client().get("/readyz").json == {"status": "ok"}

    def test_what_could_be_read_is_not_decrypted_again_at_each_look(self, app, operator, database, monkeypatch):
        theirs, ours = (subscribe(operator, ELSEWHERE)["id"] for _ in range(2))
        decrypted = []
        decrypt = SecretCipher.decrypt

        def counting(self, text, *, bound_to):
            decrypted.append(bound_to)
            return decrypt(self, text, bound_to=bound_to)

        monkeypatch.setattr(SecretCipher, "decrypt", counting)

        client = app.test_client()
        client.get("/readyz")
        decrypted.clear()
        assert client.get("/readyz").json == {"status": "ok"}
        assert decrypted == []

        move_secrets(database, source=theirs, to=ours)
        for _ in range(2):
            decrypted.clear()
            assert client.get("/readyz").json["warnings"][0].startswith(f"The secrets of endpoints {ours} cannot")
            assert decrypted == [f"endpoints.secrets/{ours}"]

    def test_one_that_cannot_be_read_is_named_and_money_goes_on(self, app, operator, database):
        theirs, ours = (subscribe(operator, ELSEWHERE)["id"] for _ in range(2))
        move_secrets(database, source=theirs, to=ours)

        answer = app.test_client().get("/readyz")

        assert answer.status_code == 200
        assert answer.json["warnings"] == [f"The secrets of endpoints {ours} cannot be read; their events wait."]

    @pytest.mark.parametrize("damage", ["", "a1.", "a1.AAAA", "whsec_plain", "gAAAAA=="])
    def test_one_damaged_ciphertext_stops_nobody_else(self, make_app, operator, bank, database, receiver, damage):
        damaged, fine = (subscribe(operator, receiver.url)["id"] for _ in range(2))
        with database.unguarded() as connection:
            values = {"secrets": damage, "id": damaged}
            connection.execute(text("UPDATE endpoints SET secrets = :secrets WHERE id = :id"), values)
        bank.send()

        deliver(make_app(ENDPOINTS_ON_LOOPBACK="allow"))

        assert members(deliveries(operator), "endpoint_id", "status") == [(damaged, "pending"), (fine, "delivered")]
        (incident,) = operator.get("/incidents/").json["items"]
        assert incident["facts"] == {"endpoint_ids": [damaged]}

    def test_incident_names_all_once_however_often_a_worker_looks(
        self, with_another_key, operator, bank, clock, receiver
    ):
        endpoint_ids = [subscribe(operator, receiver.url)["id"] for _ in range(CLAIM_ENDPOINTS_MAX + 3)]
        bank.send()
        for _ in range(3):
            deliver(with_another_key)
            clock.move(minutes=5)

        (incident,) = operator.get("/incidents/").json["items"]
        assert (incident["kind"], incident["seen_count"]) == ("unreadable_keys", 1)
        assert incident["facts"] == {"endpoint_ids": endpoint_ids}
        assert all(delivery["attempt_count"] == 0 for delivery in deliveries(operator, limit=100))

    def test_worker_says_so_when_it_begins_and_nothing_is_due(self, with_another_key, operator, caplog):
        endpoint_id = subscribe(operator, ELSEWHERE)["id"]

        begin(with_another_key)

        assert f"endpoints {endpoint_id} cannot be signed for" in caplog.text
        assert members(operator.get("/incidents/").json["items"], "kind") == [("unreadable_keys",)]

    def test_incident_that_was_resolved_too_early_opens_again_with_the_next_worker(self, make_app, operator):
        subscribe(operator, ELSEWHERE)
        for _ in range(2):
            begin(make_app(ENDPOINTS_ON_LOOPBACK="allow", SECRETS_KEYS=self.OTHER_KEY))
            (incident,) = operator.get("/incidents/").json["items"]
            operator.post(f"/incidents/{incident['id']}/resolve/", resolution="looked at")

        begin(make_app(ENDPOINTS_ON_LOOPBACK="allow", SECRETS_KEYS=self.OTHER_KEY))

        assert members(operator.get("/incidents/").json["items"], "seen_count") == [(3,)]

    def test_list_at_the_shell_shows_whose_secrets_can_be_read(self, app, with_another_key, operator):
        subscribe(operator, ELSEWHERE)
        subscribe(Operator(with_another_key.test_client(), operator.key), ELSEWHERE)

        ours, theirs = (
            [line.split()[3] for line in each.test_cli_runner().invoke(args=["endpoints", "list"]).stdout.splitlines()]
            for each in (app, with_another_key)
        )

        assert ours == ["SECRET", "readable", "unreadable"]
        assert theirs == ["SECRET", "unreadable", "readable"]


def begin(app: Flask) -> None:
    """Let a worker begin, and end at once."""
    stop = threading.Event()
    stop.set()
    with app.app_context():
        loop.run(stop)

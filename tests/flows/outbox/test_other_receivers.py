"""Receivers that are not ours verify what they receive, each in the way of its scheme."""

import hashlib
import hmac
import json
from datetime import UTC, datetime

from sqlalchemy import text
from standardwebhooks.webhooks import Webhook

import signing
from database.session import transaction
from enums import Scheme
from ledger import audit
from ledger.findings import Finding
from tests.chain import another_kopeck
from tests.factories import INN
from tests.listeners import deliver, only_delivery, subscribe
from tests.receivers import Receiver


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
                findings = [step for step in audit.verify() if isinstance(step, Finding)]
        assert answers == ["credited", "duplicate"]
        assert (balance["balance"], balance["version"], findings) == (700, 1, [])
        check_ledger()

    def test_receiver_that_writes_the_members_again_finds_the_signature_good(self, operator, bank, app, receiver):
        secret = subscribe(operator, receiver.url, scheme="acquiremock")["secret"]
        bank.send(document_number="ПЛ «7» \u2028", amount=2**63 - 1)
        deliver(app)

        (request,) = receiver.received
        read = json.loads(request.body)
        written = json.dumps(read, sort_keys=True).encode()
        assert hmac.new(secret.encode(), written, hashlib.sha256).hexdigest() == request.headers["x-signature"]
        assert request.headers["x-payment-id"] == read["payment_id"]
        assert (read["type"], read["amount"], read["document_number"]) == (
            "balance.credited",
            2**63 - 1,
            "ПЛ «7» \u2028",
        )


def test_every_scheme_is_signed_with_the_secret_that_was_shown(operator, bank, app, clock):
    clock.moment = datetime.now(UTC)
    secrets, received = {}, {}
    for scheme in Scheme:
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

"""Webhooks: stored with the change, sent as they were signed, tried five times; only 200, 201, 202 and 204 count."""

import hashlib
import hmac
import json
import socket
import threading
from datetime import UTC, datetime, timedelta

import pytest

from sandbox import context, store, worker
from sandbox.gateway import webhooks
from sandbox.gateway.webhooks import RETRY_SECONDS, build_request
from tests.sandbox.factories import NO_3DS, SECRET, START, UNKNOWN
from tests.sandbox.payer import Payer

MEMBERS = {
    "payment_id": "550e8400-e29b-41d4-a716-446655440000",
    "reference": "ORDER-123",
    "amount": 25000,
    "status": "paid",
    "card_mask": "**** 4444",
}
MOMENT = datetime(2025, 1, 15, 10, 30, tzinfo=UTC)


def documented_check(body: bytes, signature: str, secret: str) -> bool:
    """The code of AcquireMock's documentation: HMAC over json.dumps(payload, sort_keys=True)."""
    message = json.dumps(json.loads(body), sort_keys=True)
    expected = hmac.new(secret.encode("utf-8"), message.encode("utf-8"), hashlib.sha256).hexdigest()
    return hmac.compare_digest(expected, signature)


def raw_check(body: bytes, signature: str, secret: str) -> bool:
    return hmac.compare_digest(hmac.new(secret.encode(), body, hashlib.sha256).hexdigest(), signature)


@pytest.mark.parametrize(
    ("members", "timestamp", "form", "signature"),
    [
        (MEMBERS, None, "float", "64ac93839ec379f80776639f0c992c95ef3a0a66677d29c356b6efc83cac1f5f"),
        (MEMBERS, None, "int", "f26174f1e95af695582c408947e7108ace950895de63f2aa6434bf5a98af8ec1"),
        (
            {**MEMBERS, "reference": "Замовлення 5"},
            None,
            "float",
            "653c3ce79ea069977a03f173bdab08b699a06f844c2c283f8bcf0796eed6b5e1",
        ),
    ],
)
def test_vectors_of_the_sheet(members, timestamp, form, signature):
    # The sheet's vectors have a fraction of .000000, which isoformat() writes only when there is one to write.
    body, headers = build_request(members, secret=SECRET, form=form, now=MOMENT + timedelta(microseconds=1))
    vector = body.replace(b".000001", b".000000")

    assert hmac.new(SECRET.encode(), vector, hashlib.sha256).hexdigest() == signature
    assert raw_check(body, headers["X-Signature"], SECRET)


def test_the_body_begins_as_on_the_sheet_and_a_whole_second_has_no_fraction():
    body, _ = build_request(MEMBERS, secret=SECRET, form="float", now=MOMENT)

    assert body.startswith(b'{"amount": 25000.0, "card_mask": "**** 4444", "payment_id": ')
    assert json.loads(body)["timestamp"] == "2025-01-15T10:30:00"


@pytest.fixture(params=["ORDER-1", "Замовлення №5", 'a"b\\c\u2028', "A & <B>", "'"])
def reference(request) -> str:
    return request.param


@pytest.mark.parametrize("form", ["float", "int"])
def test_both_checks_accept_every_webhook(make_app, shop, reference, form):
    app = make_app(SANDBOX_AMOUNT_FORM=form)
    payer = Payer(app, app.test_client())
    payment_id = payer.create(webhookUrl=shop.url, reference=reference)
    payer.pay_through(payment_id)
    payer.work()

    (request,) = shop.received
    signature = request.headers["x-signature"]
    assert documented_check(request.body, signature, SECRET)
    assert raw_check(request.body, signature, SECRET)
    assert not raw_check(request.body, signature, "another secret")
    assert request.headers["content-type"] == "application/json"
    assert request.headers["x-payment-id"] == payment_id
    assert json.loads(request.body) == {
        "payment_id": payment_id,
        "reference": webhooks.escaped_reference(reference),
        "amount": 25000,
        "status": "paid",
        "timestamp": START.replace(tzinfo=None).isoformat(),
        "card_mask": "**** 4444",
    }
    assert (b'"amount": 25000.0,' in request.body) == (form == "float")


def test_the_reference_is_escaped_as_upstream_does():
    assert webhooks.escaped_reference(' <a href="javascript:x">&\' ') == "&lt;a href=&quot;x&quot;&gt;&amp;&#x27;"


def test_failed_and_expired_are_sent_too(payer, shop, clock):
    failed, expired, waiting = (payer.create(webhookUrl=shop.url) for _ in range(3))
    payer.pay(failed, UNKNOWN)
    payer.pay(waiting)
    clock.move(minutes=16)
    payer.work()

    statuses = {json.loads(request.body)["payment_id"]: json.loads(request.body)["status"] for request in shop.received}
    assert statuses == {failed: "failed", expired: "expired", waiting: "expired"}


def test_webhooks_about_failures_can_be_turned_off_as_upstream(make_app, shop, clock):
    app = make_app(SANDBOX_ANNOUNCE="paid")
    payer = Payer(app, app.test_client())
    paid = payer.create(webhookUrl=shop.url)
    payer.pay_through(paid)
    payer.pay(payer.create(webhookUrl=shop.url), UNKNOWN)
    payer.create(webhookUrl=shop.url)
    clock.move(minutes=16)
    payer.work()

    assert [json.loads(request.body)["payment_id"] for request in shop.received] == [paid]


@pytest.mark.parametrize(
    ("status", "state"),
    [
        *((status, "delivered") for status in (200, 201, 202, 204)),
        *((status, "pending") for status in (203, 206, 301, 302, 307, 400, 401, 404, 429, 500, 503)),
    ],
)
def test_only_four_statuses_are_a_success(payer, shop, status, state):
    shop.answer = lambda request: (status, {"Location": shop.url.replace("/hook", "/elsewhere")}, b"said")
    if status == 204:
        shop.answer = lambda request: (204, {}, b"")
    payment_id = payer.create(webhookUrl=shop.url)
    payer.pay_through(payment_id, NO_3DS)
    payer.work()

    (webhook,) = payer.webhooks(payment_id)
    (attempt,) = webhook.attempts
    assert webhook.state == state
    assert (attempt.answer_status, attempt.succeeded) == (status, state == "delivered")
    assert [request.path for request in shop.received] == ["/hook"], "a redirect is not followed"


def test_five_attempts_each_with_a_fresh_timestamp_and_signature(payer, shop, clock):
    shop.answer = lambda request: (500, {}, b"no " * 1000)
    payment_id = payer.create(webhookUrl=shop.url)
    payer.pay_through(payment_id)
    payer.work()
    for seconds in RETRY_SECONDS:
        clock.move(seconds=seconds - 1)
        payer.work()
        clock.move(seconds=1)
        payer.work()
    clock.move(days=1)
    payer.work()

    (webhook,) = payer.webhooks(payment_id)
    assert (webhook.state, webhook.due_at) == ("failed", None)
    assert [attempt.number for attempt in webhook.attempts] == [1, 2, 3, 4, 5]
    assert len(shop.received) == 5
    assert len({request.headers["x-signature"] for request in shop.received}) == 5
    assert len({json.loads(request.body)["timestamp"] for request in shop.received}) == 5
    assert all(documented_check(request.body, request.headers["x-signature"], SECRET) for request in shop.received)
    # What the dashboard shows is what went out.
    assert [attempt.body.encode() for attempt in webhook.attempts] == [request.body for request in shop.received]
    assert all(len(attempt.answer_body) == 1000 for attempt in webhook.attempts)


def test_a_shop_that_recovers_gets_it(payer, shop, clock):
    shop.answer = lambda request: (500 if len(shop.received) < 3 else 200, {}, b"")
    payment_id = payer.create(webhookUrl=shop.url)
    payer.pay_through(payment_id)
    for _ in range(5):
        payer.work()
        clock.move(minutes=5)

    (webhook,) = payer.webhooks(payment_id)
    assert webhook.state == "delivered"
    assert [attempt.answer_status for attempt in webhook.attempts] == [500, 500, 200]


def test_a_name_that_leads_to_a_private_address_is_not_asked(payer, monkeypatch):
    link_local = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("169.254.169.254", 80))
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: [link_local])
    payment_id = payer.create(webhookUrl="http://metadata.example/hook")
    payer.pay_through(payment_id)
    payer.work()

    (attempt,) = payer.webhooks(payment_id)[0].attempts
    assert attempt.answer_status is None
    assert "SANDBOX_NETWORKS" in attempt.error


@pytest.mark.parametrize("state", ["delivered", "failed"])
def test_resend_sends_once_more(payer, shop, clock, state):
    shop.answer = lambda request: (200 if state == "delivered" else 500, {}, b"")
    payment_id = payer.create(webhookUrl=shop.url)
    payer.pay_through(payment_id)
    for _ in range(6):
        payer.work()
        clock.move(minutes=5)
    (webhook,) = payer.webhooks(payment_id)
    assert webhook.state == state

    before = len(shop.received)
    answer = payer.client.post(f"/sandbox/api/webhooks/{webhook.id}/resend", json={})
    payer.work()
    clock.move(minutes=10)
    payer.work()

    assert answer.status_code == 202
    assert len(shop.received) == before + 1
    assert payer.webhooks(payment_id)[0].state == state
    assert payer.client.post("/sandbox/api/webhooks/999/resend", json={}).status_code == 404


def test_a_change_and_its_webhook_are_one_transaction(payer):
    payment_id = payer.create()
    token = payer.open(payment_id)
    payer.app.config["PROPAGATE_EXCEPTIONS"] = False
    with payer.app.app_context(), context.store().writing() as connection:
        connection.execute("CREATE TRIGGER broken BEFORE INSERT ON webhooks BEGIN SELECT raise(ABORT, 'broken'); END")

    assert payer.submit(payment_id, token, NO_3DS).status_code == 500
    assert payer.invoice(payment_id).status == "pending"
    with payer.app.app_context(), context.store().writing() as connection:
        connection.execute("DROP TRIGGER broken")
    assert payer.submit(payment_id, token, NO_3DS).status_code == 303
    assert [webhook.status for webhook in payer.webhooks(payment_id)] == ["paid"]


def test_what_one_worker_has_claimed_no_other_gets_until_its_lease_ends(payer, clock, shop):
    payment_id = payer.create(webhookUrl=shop.url)
    payer.pay_through(payment_id)
    with payer.app.app_context():
        held = webhooks.claim(context.store(), now=clock(), limit=10)
        assert worker.deliver_due() == 0
        clock.move(seconds=webhooks.LEASE.seconds)
        assert worker.deliver_due() == 1

    assert len(held) == len(shop.received) == 1


def test_a_failure_that_comes_after_the_lease_changes_nothing_and_a_success_still_counts(payer, clock, shop):
    first, second = payer.create(webhookUrl=shop.url), payer.create(webhookUrl=shop.url)
    payer.pay_through(first)
    payer.pay_through(second)
    client = webhooks.new_client(payer.app.extensions["sandbox"].settings)
    with payer.app.app_context():
        kept = context.store()

        def send(claimed):
            for webhook in claimed:
                webhooks.send(kept, client, webhook, secret=SECRET, form="float", clock=clock)

        late = webhooks.claim(kept, now=clock(), limit=10)
        clock.move(seconds=webhooks.LEASE.seconds)
        in_time = webhooks.claim(kept, now=clock(), limit=10)
        shop.answer = lambda request: (500, {}, b"")
        send(late)
        assert [payer.webhooks(payment_id)[0].attempts_left for payment_id in (first, second)] == [5, 5]
        send(in_time[:1])
        shop.answer = lambda request: (200, {}, b"")
        send(late)
        send(in_time)
    client.close()

    assert {payer.webhooks(payment_id)[0].state for payment_id in (first, second)} == {"delivered"}


def test_a_reset_during_an_attempt_does_no_harm(payer, shop):
    payment_id = payer.create(webhookUrl=shop.url)
    payer.pay_through(payment_id)

    def answer(request):
        payer.client.post("/sandbox/api/reset", json={})
        return 200, {}, b""

    shop.answer = answer
    payer.work()

    assert len(shop.received) == 1
    assert payer.webhooks(payment_id) == []


def test_a_worker_thread_sends_without_being_asked_and_one_slow_shop_holds_up_nobody(make_app, shop, clock):
    app = make_app()
    payer, released = Payer(app, app.test_client()), threading.Event()
    slow, quick = payer.create(webhookUrl=f"{shop.url}?slow"), payer.create(webhookUrl=shop.url)
    quick_received = threading.Event()

    def answer(request):
        if request.path.endswith("?slow"):
            released.wait(30)
        else:
            quick_received.set()
        return 200, {}, b""

    shop.answer = answer
    stop = threading.Event()
    thread = threading.Thread(target=worker.run, args=(app, stop))
    thread.start()
    try:
        payer.pay(slow, NO_3DS)
        payer.pay(quick, NO_3DS)
        assert quick_received.wait(30)
    finally:
        released.set()
        stop.set()
        thread.join(30)

    assert payer.webhooks(quick)[0].state == "delivered"
    assert payer.webhooks(slow)[0].state == "delivered"


def test_the_secret_is_made_at_the_first_start_and_stays(make_app):
    secrets = []
    for _ in range(2):
        app = make_app(SANDBOX_WEBHOOK_SECRET="")
        with app.app_context():
            secrets.append(context.webhook_secret())
            context.store().reset()

    assert secrets[0] == secrets[1]
    assert len(secrets[0]) == 64


def test_moments_are_kept_to_the_microsecond():
    assert store.moment(store.written(START)) == START

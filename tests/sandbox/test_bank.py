"""The mock bank: one signed webhook to the configured shop, by the API or from the page."""

import json
import re
from collections.abc import Callable, Iterator
from uuid import UUID

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

import signing
from sandbox import context
from sandbox.bank import store
from sandbox.bank.store import Exchange
from tests.receivers import ReceivedRequest, Receiver
from tests.sandbox.factories import SECRET

IMITATION = "/api/v1/webhook/bank/imitation/"


def answer(_request: ReceivedRequest) -> tuple[int, dict[str, str], bytes]:
    return 200, {"Content-Type": "application/json"}, b'{"status": "credited"}'


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver(answer) as receiver:
        yield receiver


@pytest.fixture
def app(make_app: Callable[..., Flask], receiver: Receiver) -> Flask:
    return make_app(SANDBOX_SHOP_URL=receiver.url, SANDBOX_BANK_SECRET=SECRET)


def imitate(client: FlaskClient, body: object = None, **query: str) -> TestResponse:
    return client.post(IMITATION, json=body, query_string=query)


def received_members(receiver: Receiver) -> dict[str, object]:
    members: dict[str, object] = json.loads(receiver.received[-1].body)
    return members


def test_without_a_body_it_sends_the_sample(client, receiver):
    answered = client.post(IMITATION)

    assert answered.status_code == 200
    sent = answered.json["sent_data"]
    assert list(sent) == ["operation_id", "amount", "payer_inn", "document_number", "document_date"]
    assert (sent["amount"], sent["payer_inn"], sent["document_number"]) == (145000, "1234567890", "PAY-328")
    assert sent["document_date"] == "2026-03-01T12:00:00Z"
    assert UUID(sent["operation_id"]).version == 4
    assert answered.json == {
        "sent_data": sent,
        "webhook_url": receiver.url,
        "bank_webhook_status_code": 200,
        "bank_webhook_response": {"status": "credited"},
    }
    assert received_members(receiver) == sent


@pytest.mark.parametrize("path", [IMITATION, IMITATION.rstrip("/")])
def test_the_last_slash_may_be_left_out(client, receiver, path):
    assert client.post(path, json={}).status_code == 200
    assert len(receiver.received) == 1


def test_each_time_is_another_operation(client):
    ids = {imitate(client).json["sent_data"]["operation_id"] for _ in range(3)}

    assert len(ids) == 3


def test_the_bytes_sent_are_the_bytes_signed(client, receiver):
    imitate(client, {"document_number": "Счёт № 7"})
    request = receiver.received[0]

    assert request.headers["x-signature"] == signing.sign(request.body, SECRET)
    assert request.headers["content-type"] == "application/json"
    assert "Счёт № 7".encode() in request.body


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("operation_id", "5c0e2f0a-8d3b-4c53-9d0b-2f6a7c1e9b44", "328"),
        ("operation_id", "5C0E2F0A8D3B4C539D0B2F6A7C1E9B44", None),
        ("amount", 1, 0),
        ("amount", 2**63 - 1, 2**63),
        ("amount", 7, "7"),
        ("amount", 7, 7.5),
        ("amount", 7, True),
        ("payer_inn", "123456789012", "12345678901"),
        ("payer_inn", "7707083893", 7707083893),
        ("document_number", "x" * 50, "x" * 51),
        ("document_number", "№ 1", "a\nb"),
        ("document_date", "2024-04-27T21:00:00+03:00", "2024-04-27T21:00:00"),
        ("document_date", "2024-04-27T21:00:00.5Z", "2024-13-27T21:00:00Z"),
    ],
)
def test_each_field_is_checked_and_sent_as_given(client, receiver, name, good, bad):
    assert imitate(client, {name: good}).json["sent_data"][name] == good
    assert received_members(receiver)[name] == good

    refused = imitate(client, {name: bad})
    assert refused.status_code == 400
    assert list(refused.json) == [name]
    assert len(receiver.received) == 1


@pytest.mark.parametrize("body", [b"[]", b"null", b"{", b'"text"', b"\xff", b"[" * 100_000])
def test_what_is_no_object_is_refused(client, receiver, body):
    refused = client.post(IMITATION, data=body, content_type="application/json")

    assert refused.status_code == 400
    assert list(refused.json) in (["body"], ["detail"])
    assert receiver.received == []


@pytest.mark.parametrize("depth", [33, 975, 100_000])
def test_what_is_nested_too_deeply_is_refused_also_if_nothing_is_checked(client, receiver, depth):
    body = b'{"amount": ' + b"[" * depth + b"]" * depth + b"}"
    refused = client.post(f"{IMITATION}?check=no", data=body, content_type="application/json")

    assert (refused.status_code, list(refused.json)) == (400, ["detail"])
    assert receiver.received == []


def test_an_answer_that_is_nested_too_deeply_is_shown_as_text(client, receiver):
    receiver.answer = lambda _request: (200, {}, b"[" * 975 + b"]" * 975)

    assert imitate(client, {}).json["bank_webhook_response"].startswith("[[[")


def test_the_form_takes_no_amount_that_is_nested_too_deeply_for_json(client, receiver):
    token = re.search(r'name="csrf_token" value="([^"]+)"', client.get("/bank/").text)[1]
    form = {"csrf_token": token, "unchecked": "1", "amount": "[" * 5000}

    assert client.post("/bank/", data=form).status_code == 303
    assert len(receiver.received) == 1


def test_unknown_members_are_refused_unless_nothing_is_checked(client, receiver):
    assert imitate(client, {"url": "http://evil.example/"}).status_code == 400
    assert receiver.received == []

    assert imitate(client, {"url": "http://evil.example/"}, check="no").json["webhook_url"] == receiver.url
    assert received_members(receiver)["url"] == "http://evil.example/"


@pytest.mark.parametrize("value", [-5, "many", None, [1], {"a": 1}, 1e30, True])
def test_wrong_values_can_be_sent_on_purpose(client, receiver, value):
    answered = imitate(client, {"amount": value}, check="no")

    assert answered.status_code == 200
    assert received_members(receiver)["amount"] == value
    assert signing.sign(receiver.received[0].body, SECRET) == receiver.received[0].headers["x-signature"]


def test_signatures_can_be_wrong_on_purpose(client, receiver):
    for how in ("right", "wrong", "truncated", "missing"):
        assert imitate(client, signature=how).status_code == 200
    right, wrong, truncated, missing = [request.headers.get("x-signature") for request in receiver.received]
    good = [signing.sign(request.body, SECRET) for request in receiver.received]

    assert right == good[0]
    assert len(wrong) == 64
    assert wrong != good[1]
    assert truncated == good[2][:32]
    assert missing is None


@pytest.mark.parametrize("query", [{"signature": "odd"}, {"check": "perhaps"}])
def test_other_ways_are_refused(client, receiver, query):
    refused = imitate(client, **query)

    assert refused.status_code == 400
    assert list(refused.json) == list(query)
    assert receiver.received == []


def test_the_target_is_never_taken_from_the_request(client, receiver):
    answered = client.post(
        IMITATION,
        json={},
        query_string={"url": "http://evil.example/", "webhook_url": "http://evil.example/"},
    )

    assert answered.json["webhook_url"] == receiver.url
    assert len(receiver.received) == 1
    assert client.post(IMITATION, json={}, headers={"Host": "evil.example"}).status_code == 403
    assert len(receiver.received) == 1


def test_what_the_shop_answers_is_passed_on_as_it_is(client, receiver):
    receiver.answer = lambda _: (401, {}, b"<h1>no</h1>")

    answered = imitate(client)
    assert answered.status_code == 200
    assert answered.json["bank_webhook_status_code"] == 401
    assert answered.json["bank_webhook_response"] == "<h1>no</h1>"


def test_a_shop_that_is_not_there_is_no_failure_of_the_sandbox(make_app):
    client = make_app(SANDBOX_SHOP_URL="http://127.0.0.1:9/hook", SANDBOX_BANK_SECRET=SECRET).test_client()

    answered = client.post(IMITATION)
    assert answered.status_code == 200
    assert answered.json["bank_webhook_status_code"] is None
    assert "Nothing answers" in answered.json["bank_webhook_response"]["detail"]


def test_without_a_secret_nothing_is_signed(make_app, receiver):
    make_app(SANDBOX_SHOP_URL=receiver.url).test_client().post(IMITATION)

    assert "x-signature" not in receiver.received[0].headers


# ---- The page


def post_form(client: FlaskClient, **fields: str) -> TestResponse:
    shown = client.get("/bank/").get_data(as_text=True)
    token = re.search(r'name="csrf_token" value="([^"]+)"', shown)
    assert token
    return client.post("/bank/", data={"csrf_token": token[1], **fields}, headers={"Accept": "text/html"})


def test_the_page_sends_and_shows_the_exchange(client, receiver):
    assert "Nothing was sent yet." in client.get("/bank/").get_data(as_text=True)

    assert post_form(client, amount="700", payer_inn="").status_code == 303
    assert received_members(receiver)["amount"] == 700
    assert received_members(receiver)["payer_inn"] == "1234567890"
    shown = client.get("/bank/").get_data(as_text=True)
    request = receiver.received[0]
    assert f"POST {receiver.url}" in shown
    assert f"X-Signature: {request.headers['x-signature']}" in shown
    assert "&#34;amount&#34;: 700" in shown
    assert "{&#34;status&#34;: &#34;credited&#34;}" in shown


def test_the_page_says_at_each_field_what_is_wrong(client, receiver):
    refused = post_form(client, amount="many", payer_inn="<b>")

    assert refused.status_code == 400
    shown = refused.get_data(as_text=True)
    assert 'id="amount-problem"' in shown
    assert 'value="&lt;b&gt;"' in shown
    assert receiver.received == []

    assert post_form(client, amount="many", payer_inn="<b>", unchecked="on", signature="wrong").status_code == 303
    assert received_members(receiver)["amount"] == "many"
    assert receiver.received[0].headers["x-signature"] != signing.sign(receiver.received[0].body, SECRET)


def test_the_page_sends_nothing_for_another_site(client, receiver):
    assert client.post("/bank/", data={}).status_code == 403
    assert client.post(IMITATION, json={}, headers={"Origin": "http://evil.example"}).status_code == 403
    assert receiver.received == []


def test_what_a_shop_answers_is_shown_and_never_run(client, receiver):
    receiver.answer = lambda _: (200, {"X-Odd": "<i>"}, b"<script>alert(1)</script>")
    post_form(client)

    shown = client.get("/bank/").get_data(as_text=True)
    assert "<script>alert" not in shown
    assert "&lt;script&gt;alert(1)" in shown


def test_only_the_last_exchanges_are_kept(app, clock):
    exchange = Exchange(
        url="http://127.0.0.1:9/",
        headers={},
        body="{}",
        answer_status=None,
        answer_headers={},
        answer_body="",
        duration_ms=1,
        sent_at=clock(),
    )
    with app.app_context():
        for _ in range(store.EXCHANGES_MAX + 2):
            store.save(context.store(), exchange)
        kept = store.latest(context.store(), store.EXCHANGES_MAX + 2)

    assert [exchange.id for exchange in kept] == list(range(store.EXCHANGES_MAX + 2, 2, -1))

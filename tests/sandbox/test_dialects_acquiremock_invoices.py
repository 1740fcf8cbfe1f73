"""AcquireMock v2, create-invoice: members, amounts, addresses."""

import json
import re
import uuid

import pytest

from sandbox.gateway.model import AMOUNT_MAX
from tests.sandbox.factories import WEBHOOK_URL, order


def test_page_url_is_the_checkout_of_a_uuid4(client):
    answer = client.post("/api/create-invoice", json=order())

    assert answer.status_code == 200
    assert list(answer.json) == ["pageUrl"]
    base, _, payment_id = answer.json["pageUrl"].rpartition("/")
    assert base == "http://127.0.0.1:8001/checkout"
    assert uuid.UUID(payment_id).version == 4


@pytest.mark.parametrize(
    ("webhook", "redirect"),
    [
        ("webhookUrl", "redirectUrl"),
        ("webhook_url", "redirect_url"),
        ("webhookUrl", "redirect_url"),
        ("webhook_url", "redirectUrl"),
    ],
)
def test_both_spellings_of_the_members_are_taken_also_mixed(payer, webhook, redirect):
    body = {"amount": 1, "reference": "a", webhook: WEBHOOK_URL, redirect: "http://shop.example/"}

    answer = payer.client.post("/api/create-invoice", json=body)

    invoice = payer.invoice(answer.json["pageUrl"].split("/")[-1])
    assert (invoice.webhook_url, invoice.redirect_url) == (WEBHOOK_URL, "http://shop.example/")


@pytest.mark.parametrize(
    ("given", "amount"), [(25000, 25000), (25000.0, 25000), ("25000", 25000), ("1.0", 1), (1e3, 1000)]
)
def test_whole_amounts_are_taken_in_each_form(payer, given, amount):
    assert payer.invoice(payer.create(amount=given)).amount == amount


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        (250.5, "int_from_float"),
        ("250.5", "int_parsing"),
        ("x", "int_parsing"),
        (None, "int_type"),
        ([1], "int_type"),
        (0, "greater_than"),
        (-1, "greater_than"),
        (AMOUNT_MAX + 1, "less_than_equal"),
        (10**400, "less_than_equal"),
    ],
)
def test_other_amounts_are_422_in_the_words_of_the_framework(client, given, kind):
    answer = client.post("/api/create-invoice", json=order(amount=given))

    (problem,) = answer.json["detail"]
    assert answer.status_code == 422
    assert (problem["type"], problem["loc"]) == (kind, ["body", "amount"])
    assert problem["msg"]


def test_an_amount_beyond_all_numbers_is_422(client):
    body = b'{"amount": 1e999, "reference": "a", "webhookUrl": "http://a.example", "redirectUrl": "http://a.example"}'

    answer = client.post("/api/create-invoice", data=body)

    assert (answer.status_code, answer.json["detail"][0]["type"]) == (422, "finite_number")


def test_the_largest_amount_is_taken(payer):
    assert payer.invoice(payer.create(amount=AMOUNT_MAX)).amount == AMOUNT_MAX


@pytest.mark.parametrize("member", ["amount", "reference", "webhookUrl", "redirectUrl"])
def test_a_missing_member_is_422(client, member):
    body = {name: value for name, value in order().items() if name != member}

    answer = client.post("/api/create-invoice", json=body)

    (problem,) = answer.json["detail"]
    assert (answer.status_code, problem["type"], problem["loc"]) == (422, "missing", ["body", member])


@pytest.mark.parametrize("member", ["reference", "webhookUrl", "redirectUrl"])
@pytest.mark.parametrize("given", [1, None, ["a"], "\ud800", "x" * 5000])
def test_texts_must_be_texts(client, member, given):
    answer = client.post("/api/create-invoice", json=order(**{member: given}))

    assert (answer.status_code, answer.json["detail"][0]["loc"]) == (422, ["body", member])


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b"null", b'"x"', b"\xff"])
def test_what_is_no_json_object_is_422(client, body):
    assert client.post("/api/create-invoice", data=body).status_code == 422


JSON_DOORS = (
    "/api/create-invoice",
    "/webhooks/verify",
    "/api/auth/send-code",
    "/api/auth/verify-code",
    "/sandbox/api/reset",
    "/sandbox/api/invoices/x/script",
    "/sandbox/api/invoices/x/capture",
    "/sandbox/api/invoices/x/cancel",
    "/sandbox/api/invoices/x/refund",
    "/sandbox/api/invoices/x/otp/resend",
    "/sandbox/api/webhooks/1/resend",
)


def test_the_list_of_json_doors_is_whole(app):
    forms = {"pay", "verify_otp"}
    posts = {
        re.sub("<int:[^>]*>", "1", re.sub("<[a-z_]+>", "x", rule.rule))
        for rule in app.url_map.iter_rules()
        if "POST" in rule.methods
        and rule.endpoint.split(".")[0] in ("acquiremock", "control_api")
        and rule.endpoint.split(".")[1] not in forms
    }

    assert posts == set(JSON_DOORS)


@pytest.mark.parametrize("path", JSON_DOORS)
@pytest.mark.parametrize("depth", [33, 975, 10_000])
@pytest.mark.parametrize("brackets", ["[]", "{}"])
def test_what_is_nested_too_deeply_is_400_at_every_door(client, path, depth, brackets):
    inner = "[" * depth + "]" * depth if brackets == "[]" else '{"a":' * depth + "1" + "}" * depth
    body = f'{{"amount": {inner}, "email": {inner}, "chain": {inner}}}'

    answer = client.post(path, data=body, content_type="application/json", headers={"X-Signature": "0"})

    assert (answer.status_code, answer.json) == (400, {"detail": "There was an error parsing the body"})


def test_what_is_nested_as_deeply_as_allowed_is_read(client):
    body = order(extra=json.loads("[" * 30 + "]" * 30))

    assert client.post("/api/create-invoice", json=body).status_code == 200


@pytest.mark.parametrize("member", ["webhookUrl", "webhook_url"])
def test_an_empty_webhook_address_means_that_none_is_wanted(payer, shop, member):
    body = {name: value for name, value in order().items() if name != "webhookUrl"}
    payment_id = payer.client.post("/api/create-invoice", json={**body, member: ""}).json["pageUrl"].split("/")[-1]

    payer.pay_through(payment_id)
    payer.work()

    assert payer.invoice(payment_id).status == "paid"
    assert payer.webhooks(payment_id) == []
    assert "none wanted" in payer.client.get(f"/sandbox/invoices/{payment_id}").text


@pytest.mark.parametrize("given", [" ", "none"])
def test_other_texts_are_no_webhook_address(client, given):
    assert client.post("/api/create-invoice", json=order(webhookUrl=given)).status_code == 422


def test_unknown_members_are_ignored_and_a_reference_may_come_twice(payer):
    first, second = payer.create(extra=1), payer.create()

    assert first != second


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "JavaScript:alert(1)",
        "data:text/html,x",
        "//a.example",
        "/thanks",
        "",
        "http://",
        "ftp://a",
    ],
)
def test_a_redirect_leads_to_http_only(client, url):
    answer = client.post("/api/create-invoice", json=order(redirectUrl=url))

    assert (answer.status_code, answer.json["detail"][0]["loc"]) == (422, ["body", "redirectUrl"])


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://[fe80::1]/",
        "http://[fd00:ec2::254]/",
        "http://0xa9fea9fe/",
        "http://10.0.0.1/",
        "http://0.0.0.0/",
        "file:///etc/passwd",
        "gopher://127.0.0.1/",
        "http://user:secret@shop.example/",
    ],
)
def test_webhooks_to_metadata_private_networks_and_other_schemes_are_refused(client, url):
    answer = client.post("/api/create-invoice", json=order(webhookUrl=url))

    assert (answer.status_code, answer.json["detail"][0]["loc"]) == (422, ["body", "webhookUrl"])


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:9000/hook", "http://localhost:9000/hook", "http://[::1]:9000/", "https://shop.example/hook"],
)
def test_webhooks_to_this_machine_and_the_internet_are_taken(payer, url):
    assert payer.invoice(payer.create(webhookUrl=url)).webhook_url == url

"""The fact sheet of AcquireMock v2, row by row: endpoints, create-invoice, states, the card form, errors, headers."""

import re
import uuid

import pytest

from sandbox.gateway.model import AMOUNT_MAX
from tests.sandbox.factories import EMAIL, GOOD, NO_3DS, START, UNKNOWN, WEBHOOK_URL, order
from tests.sandbox.payer import Payer

NOWHERE = "00000000-0000-4000-8000-000000000000"
CHROMIUM = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


def error(answer) -> tuple[int, str, str | None]:
    assert set(answer.json) == {"error", "message", "payment_id"}
    assert answer.json["message"]
    return answer.status_code, answer.json["error"], answer.json["payment_id"]


# ---- create-invoice


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


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b"null", b'"x"', b"[" * 100_000, b"\xff"])
def test_what_is_no_json_object_is_422(client, body):
    assert client.post("/api/create-invoice", data=body).status_code == 422


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


# ---- checkout, pay, otp, success


def test_checkout_shows_the_reference_a_hidden_token_and_sets_it_as_a_cookie(payer):
    payment_id = payer.create(reference="ORDER-7")

    page = payer.client.get(f"/checkout/{payment_id}")

    assert page.status_code == 200
    assert page.mimetype == "text/html"
    assert "ORDER-7" in page.text
    (cookie,) = [line for line in page.headers.getlist("Set-Cookie") if line.startswith("csrf_token=")]
    assert "HttpOnly" in cookie
    assert "Secure" not in cookie
    assert cookie.split("=")[1].split(";")[0] in page.text


def test_cookies_are_secure_behind_https_alone(make_app):
    app = make_app(SANDBOX_BASE_URL="https://pay.example")
    client = app.test_client()
    page_url = client.post("/api/create-invoice", json=order()).json["pageUrl"]

    assert page_url.startswith("https://pay.example/checkout/")
    cookies = client.get(page_url.removeprefix("https://pay.example")).headers.getlist("Set-Cookie")
    assert all("Secure" in line for line in cookies if line.startswith("csrf_token="))


@pytest.mark.parametrize("path", ["/pay", "/api/pay"])
def test_the_good_card_leads_to_the_code_and_the_code_to_success(payer, path):
    payment_id = payer.create()

    paid = payer.pay(payment_id, GOOD, path=path)
    confirmed = payer.enter(payment_id, payer.code(payment_id))

    assert (paid.status_code, paid.location) == (303, f"/otp/{payment_id}")
    assert (confirmed.status_code, confirmed.location) == (303, f"/success/{payment_id}")
    invoice = payer.invoice(payment_id)
    assert (invoice.status, invoice.card_mask, invoice.paid_at) == ("paid", "**** 4444", START)
    assert payer.moves(payment_id) == ["pending", "waiting_for_otp", "paid"]


def test_otp_page_has_the_field_and_its_target(payer):
    payment_id = payer.create()
    payer.pay(payment_id)

    page = payer.client.get(f"/otp/{payment_id}")

    assert page.status_code == 200
    assert 'name="otp_code"' in page.text
    assert f"/otp/verify/{payment_id}" in page.text
    assert payer.code(payment_id) not in re.sub(r"\d{5,}|[0-9a-f-]{36}", "", page.text.split("<main")[1])


def test_success_shows_amount_reference_mask_and_a_bare_link_to_the_shop(payer):
    payment_id = payer.create(reference="<b>7</b>")
    payer.pay_through(payment_id)

    page = payer.client.get(f"/success/{payment_id}")

    assert page.status_code == 200
    assert "250.00" in page.text
    assert "&lt;b&gt;7&lt;/b&gt;" in page.text
    assert "<b>7</b>" not in page.text
    assert "**** 4444" in page.text or "4444" in page.text
    assert 'href="https://shop.example/thanks"' in page.text


def test_success_is_shown_in_any_state(payer):
    assert payer.client.get(f"/success/{payer.create()}").status_code == 200


@pytest.mark.parametrize("card", [UNKNOWN, "", "1", "٤٤٤٤444444444444", "x" * 5000])
def test_any_other_card_or_none_fails_for_good(payer, card):
    payment_id = payer.create()

    answer = payer.pay(payment_id, card)

    assert error(answer) == (402, "INSUFFICIENT_FUNDS", payment_id)
    invoice = payer.invoice(payment_id)
    assert (invoice.status, invoice.error_code) == ("failed", "INSUFFICIENT_FUNDS")
    assert invoice.error_message


def test_expiry_and_cvv_may_be_anything(payer):
    assert payer.pay(payer.create(), GOOD, expiry="01/20", cvv="").status_code == 303


def test_email_is_required(payer):
    payment_id = payer.create()
    token = payer.open(payment_id)

    answer = payer.client.post(f"/pay/{payment_id}", data={"card_number": GOOD, "csrf_token": token})

    assert (answer.status_code, answer.json["detail"][0]["loc"]) == (422, ["body", "email"])
    assert payer.pay(payment_id, email="no address").status_code == 422
    assert payer.invoice(payment_id).status == "pending"


# ---- errors


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/checkout/"), ("GET", "/otp/"), ("GET", "/success/"), ("POST", "/otp/verify/")],
)
def test_unknown_payments_are_404(client, method, path):
    answer = client.open(f"{path}{NOWHERE}", method=method, data={"otp_code": "1"} if method == "POST" else None)

    assert error(answer) == (404, "PAYMENT_NOT_FOUND", NOWHERE)


def test_paying_an_unknown_payment_is_404(payer):
    token = payer.open(payer.create())

    assert error(payer.submit(NOWHERE, token)) == (404, "PAYMENT_NOT_FOUND", NOWHERE)


def test_otp_page_in_another_state_is_404(payer):
    payment_id = payer.create()

    assert error(payer.client.get(f"/otp/{payment_id}")) == (404, "PAYMENT_NOT_FOUND", payment_id)


def test_checkout_and_pay_of_what_is_processed_are_409(payer):
    paid, failed = payer.create(), payer.create()
    token = payer.open(paid)
    payer.pay_through(paid)
    payer.pay(failed, UNKNOWN)

    for payment_id in (paid, failed):
        expected = (409, "PAYMENT_ALREADY_PROCESSED", payment_id)
        assert error(payer.client.get(f"/checkout/{payment_id}")) == expected
        assert error(payer.submit(payment_id, token)) == expected


def test_the_view_that_finds_the_time_over_is_410_and_the_next_409(payer, clock):
    payment_id = payer.create()
    clock.move(minutes=15)

    assert error(payer.client.get(f"/checkout/{payment_id}")) == (410, "PAYMENT_EXPIRED", payment_id)
    assert error(payer.client.get(f"/checkout/{payment_id}")) == (409, "PAYMENT_ALREADY_PROCESSED", payment_id)
    assert payer.invoice(payment_id).status == "expired"


def test_a_payment_can_be_opened_until_its_last_moment(payer, clock):
    payment_id = payer.create()
    clock.move(minutes=14, seconds=59)

    assert payer.client.get(f"/checkout/{payment_id}").status_code == 200


def test_wrong_and_used_codes_are_401(payer):
    payment_id = payer.create()
    payer.pay(payment_id)
    code = payer.code(payment_id)

    assert error(payer.enter(payment_id, payer.wrong_code(payment_id))) == (401, "INVALID_OTP", payment_id)
    assert payer.enter(payment_id, code).status_code == 303
    assert error(payer.enter(payment_id, code)) == (401, "INVALID_OTP", payment_id)


def test_the_token_is_checked_before_everything_else(payer):
    payment_id = payer.create()
    payer.open(payment_id)

    assert error(payer.submit(payment_id, "wrong")) == (403, "CSRF_TOKEN_MISMATCH", payment_id)
    assert error(payer.submit(NOWHERE, "wrong")) == (403, "CSRF_TOKEN_MISMATCH", NOWHERE)
    stranger = Payer(payer.app, payer.app.test_client())
    assert error(stranger.submit(payment_id, "")) == (403, "CSRF_TOKEN_MISMATCH", payment_id)
    assert payer.invoice(payment_id).status == "pending"


def test_an_unknown_saved_card_is_404_about_no_payment(payer):
    payment_id = payer.create()

    assert error(payer.pay(payment_id, saved_card_id="77")) == (404, "SAVED_CARD_NOT_FOUND", None)
    assert payer.pay(payment_id, saved_card_id="x").status_code == 422
    assert payer.invoice(payment_id).status == "pending"


def test_the_rate_limit_is_configurable_and_speaks_as_upstream(make_app, clock):
    app = make_app(SANDBOX_PAY_PER_MINUTE="2")
    payer = Payer(app, app.test_client())
    payment_id = payer.create()
    assert [payer.submit(payment_id, "wrong").status_code for _ in range(2)] == [403, 403]

    limited = payer.submit(payment_id, "wrong")
    assert (limited.status_code, limited.json) == (429, {"error": "Rate limit exceeded: 2 per 1 minute"})
    clock.move(minutes=1)
    assert payer.submit(payment_id, "wrong").status_code == 403


def test_an_unknown_path_is_a_page_whoever_asks(client):
    answer = client.get("/nothing/here")

    assert (answer.status_code, answer.mimetype) == (404, "text/html")


def test_a_wrong_method_is_405(client):
    answer = client.get("/api/create-invoice")

    assert (answer.status_code, answer.json) == (405, {"detail": "Method Not Allowed"})
    assert "POST" in answer.headers["Allow"]


@pytest.mark.parametrize(
    "path",
    ["/checkout/", "/otp/", "/success/"],
)
def test_errors_in_a_browser_are_pages(client, path):
    answer = client.get(f"{path}{NOWHERE}", headers=CHROMIUM)

    assert (answer.status_code, answer.mimetype) == (404, "text/html")
    assert "PAYMENT_NOT_FOUND" in answer.text or "<main" in answer.text


def test_a_decline_in_a_browser_is_a_page_with_the_status_of_the_api(payer):
    payment_id = payer.create()
    token = payer.open(payment_id)
    data = {"card_number": UNKNOWN, "email": EMAIL, "csrf_token": token}

    answer = payer.client.post(f"/api/pay/{payment_id}", data=data, headers=CHROMIUM)

    assert (answer.status_code, answer.mimetype) == (402, "text/html")


@pytest.mark.parametrize("path", ["/health", "/nothing", "/api/create-invoice", f"/checkout/{NOWHERE}"])
def test_three_headers_are_on_everything(client, path):
    answer = client.get(path)

    assert answer.headers["X-XSS-Protection"] == "1; mode=block"
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_health(client):
    answer = client.get("/health")

    assert answer.json == {
        "status": "ok",
        "timestamp": START.replace(tzinfo=None).isoformat(),
        "version": "2.0.0",
        "currency": "USD",
    }


# ---- Idempotency-Key


def test_a_repeat_with_the_same_key_gets_what_the_first_got(payer):
    payment_id = payer.create()
    token = payer.open(payment_id)
    first = payer.submit(payment_id, token, NO_3DS, key="k")

    again = payer.submit(payment_id, token, NO_3DS, key="k")

    assert (first.status_code, first.location) == (again.status_code, again.location) == (303, f"/success/{payment_id}")
    assert payer.moves(payment_id) == ["pending", "paid"]
    assert payer.submit(payment_id, token, NO_3DS, key="another").status_code == 409
    assert payer.submit(payment_id, token, NO_3DS).status_code == 409


def test_a_key_that_another_payment_used_leads_to_that_one(payer):
    paid, waiting, other = payer.create(), payer.create(), payer.create()
    payer.pay(paid, NO_3DS, key="a")
    payer.pay(waiting, GOOD, key="b")

    assert payer.pay(other, NO_3DS, key="a").location == f"/success/{paid}"
    assert payer.pay(other, NO_3DS, key="b").location == f"/otp/{waiting}"
    assert payer.invoice(other).status == "pending"


def test_a_key_of_a_failed_payment_is_free_for_another(payer):
    failed, other = payer.create(), payer.create()
    token = payer.open(failed)
    assert payer.submit(failed, token, UNKNOWN, key="k").status_code == 402

    assert error(payer.submit(failed, token, UNKNOWN, key="k")) == (402, "INSUFFICIENT_FUNDS", failed)
    assert payer.pay(other, NO_3DS, key="k").location == f"/success/{other}"
    assert payer.submit(other, token, NO_3DS, key="k").location == f"/success/{other}"
    assert error(payer.submit(failed, token, UNKNOWN, key="k")) == (402, "INSUFFICIENT_FUNDS", failed)
    assert payer.pay(payer.create(), NO_3DS, key="k").location == f"/success/{other}"


def test_a_key_plays_one_step_of_a_script_however_often_it_is_sent(payer):
    payment_id = payer.create()
    payer.script(payment_id, "card_expired,ok")

    assert [payer.pay(payment_id, key="a").json["error"] for _ in range(2)] == ["CARD_EXPIRED"] * 2
    assert payer.invoice(payment_id).attempts == 1
    assert payer.pay(payment_id, key="b").location == f"/success/{payment_id}"


# ---- e-mail codes and user-info


def test_auth_answers_as_upstream(payer):
    sent = payer.client.post("/api/auth/send-code", json={"email": EMAIL})
    unknown = payer.client.post("/api/auth/verify-code", json={"email": "other@example.com", "code": "1"})
    wrong = payer.client.post("/api/auth/verify-code", json={"email": EMAIL, "code": "1"})

    assert sent.json == {"status": "sent", "message": "Code sent"}
    assert (unknown.status_code, unknown.json) == (400, {"detail": "Code expired or not found"})
    assert (wrong.status_code, wrong.json) == (400, {"detail": "Invalid code"})
    code = payer.client.get("/sandbox/api/inbox").json["items"][0]["code"]
    right = payer.client.post("/api/auth/verify-code", json={"email": EMAIL, "code": code})
    assert (right.status_code, right.json) == (200, {"status": "ok", "message": "Verified"})


def test_user_info_lists_the_last_five_operations_newest_first(payer, clock):
    payer.prove()
    for number in range(6):
        payer.pay_through(payer.create(reference=f"R{number}&"), NO_3DS)
        clock.move(minutes=1)

    info = payer.client.get(f"/api/user-info?email={EMAIL}").json

    assert [operation["reference"] for operation in info["operations"]] == [f"R{n}&amp;" for n in (5, 4, 3, 2, 1)]
    assert info["operations"][-1] == {
        "reference": "R1&amp;",
        "amount": 25000.0,
        "card_mask": "**** 4444",
        "date": "2026-03-01 12:01",
    }
    assert info["cards"] == []
    assert payer.client.get("/api/user-info").status_code == 422


# ---- /webhooks/verify


def test_webhooks_verify_computes_the_mac_over_whatever_object_is_posted(client):
    signature = "64ac93839ec379f80776639f0c992c95ef3a0a66677d29c356b6efc83cac1f5f"
    body = {
        "payment_id": "550e8400-e29b-41d4-a716-446655440000",
        "reference": "ORDER-123",
        "amount": 25000.0,
        "status": "paid",
        "timestamp": "2025-01-15T10:30:00.000000",
        "card_mask": "**** 4444",
    }

    def answer(headers, changes):
        return client.post("/webhooks/verify", json={**body, **changes}, headers=headers)

    assert answer({"X-Signature": signature}, {}).json == {"valid": True}
    assert answer({"X-Signature": signature}, {"amount": 1.0}).json == {"valid": False}
    assert answer({"X-Signature": "é"}, {}).json == {"valid": False}
    assert (answer({}, {}).status_code, answer({}, {}).json) == (400, {"detail": "Missing signature"})

"""AcquireMock v2, errors and headers: statuses, codes, pages for browsers, the rate limit."""

import pytest

from tests.sandbox.factories import EMAIL, START, UNKNOWN
from tests.sandbox.payer import Payer, error

NOWHERE = "00000000-0000-4000-8000-000000000000"
CHROMIUM = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


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

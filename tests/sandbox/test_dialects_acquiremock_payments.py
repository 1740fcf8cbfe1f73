"""AcquireMock v2, a payment: checkout, card, code, success, Idempotency-Key."""

import re

import pytest

from tests.sandbox.factories import EMAIL, GOOD, NO_3DS, START, UNKNOWN, order
from tests.sandbox.payer import Payer, error


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
    app = make_app(SANDBOX_BASE_URL="https://pay.example", SANDBOX_PUBLIC="yes")
    client = app.test_client()
    page_url = client.post("/api/create-invoice", json=order(webhookUrl="")).json["pageUrl"]

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


def test_a_key_of_another_payer_leads_nowhere(payer, app):
    """Neither the same browser with another address, nor the same address in another browser, is the same payer."""
    paid, waiting = payer.create(), payer.create()
    payer.pay(paid, NO_3DS, key="a")
    payer.pay(waiting, GOOD, key="b")
    stranger = Payer(app, app.test_client())

    for key in ("a", "b"):
        own = stranger.create()
        answer = stranger.pay(own, NO_3DS, key=key)
        assert answer.location == f"/success/{own}"
        other = stranger.create()
        assert stranger.pay(other, NO_3DS, key=key, email="other@example.com").location == f"/success/{other}"
    assert payer.pay(payer.create(), NO_3DS, key="a").location == f"/success/{paid}"


def test_nobody_is_given_the_address_of_another_payer(payer, app):
    """A stranger who knows a payment and its key gets its result, and no cookie of its payer."""
    payment_id = payer.create()
    token = payer.open(payment_id)
    stranger = Payer(app, app.test_client())
    stranger_token = stranger.open(payment_id)
    payer.submit(payment_id, token, NO_3DS, key="k", email="victim@example.com")

    answer = stranger.submit(payment_id, stranger_token, NO_3DS, key="k", email="stranger@example.com")

    assert answer.location == f"/success/{payment_id}"
    assert "victim" not in str(answer.headers)
    assert stranger.client.get_cookie("user_email") is None
    assert payer.client.get_cookie("user_email").value == "victim@example.com"


def test_the_code_of_a_payment_verifies_the_address_in_this_browser(payer, app):
    payer.pay_through(payer.create(), GOOD, save_card="true")

    info = payer.client.get(f"/api/user-info?email={EMAIL}").json
    assert [card["mask"] for card in info["cards"]] == ["**** 4444"]
    assert len(info["operations"]) == 1
    assert "**** 4444" in payer.client.get(f"/checkout/{payer.create()}").text
    stranger = app.test_client()
    stranger.set_cookie("user_email", EMAIL)
    assert stranger.get(f"/api/user-info?email={EMAIL}").json == {"operations": [], "cards": []}


def test_a_payment_without_a_code_verifies_nothing(payer):
    payer.pay_through(payer.create(), NO_3DS, save_card="true")

    assert payer.client.get(f"/api/user-info?email={EMAIL}").json["cards"] == []


def test_a_code_that_was_guessed_pays_and_verifies_nothing(payer, clock):
    """Codes have four digits: who tries them on many payments of one address must not get its cards."""
    for _ in range(2):
        payment_id = payer.create()
        payer.pay(payment_id)
        for _ in range(3):
            assert payer.enter(payment_id, payer.wrong_code(payment_id)).status_code == 401
    assert payer.enter(payment_id, payer.code(payment_id)).status_code == 303

    assert payer.client.get(f"/api/user-info?email={EMAIL}").json["operations"] == []
    clock.move(days=1, seconds=1)
    payer.pay_through(payer.create())
    assert len(payer.client.get(f"/api/user-info?email={EMAIL}").json["operations"]) == 2


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

"""The payer's pages: errors, declines, codes, saved cards."""

import re

import pytest

from tests.sandbox.factories import EMAIL
from tests.sandbox.payer import HIDDEN, Payer
from tests.sandbox.reader import BROWSER, Reader, see
from tests.sandbox.scenes import SHORT_OF_MONEY, SILENT

CLIENT = {"Accept": "*/*"}


def send(payer, payment: str, card: str, **form: str):
    data = {"card_number": card, "expiry": "12/30", "cvv": "123", "email": EMAIL, "csrf_token": payer.open(payment)}
    return payer.client.post(f"/api/pay/{payment}", data={**data, **form}, headers=BROWSER)


@pytest.mark.parametrize(
    ("status", "name", "words"),
    [
        (409, "processed", "already done"),
        (409, "ended", "already ended"),
        (404, "missing", "no such payment"),
        (404, "nowhere", "nothing here"),
    ],
)
def test_an_error_is_a_page_with_a_link_to_go_on(client, scene, status, name, words):
    answer = see(client, scene[name])

    assert answer.status_code == status
    assert words in answer.text
    assert Reader(answer.text).having("a", **{"class": "main"})


def test_the_same_error_is_json_for_a_program(client, scene):
    answer = client.get(scene["processed"], headers=CLIENT)

    assert (answer.status_code, answer.json["error"]) == (409, "PAYMENT_ALREADY_PROCESSED")


def test_the_view_that_finds_the_time_over_says_so(client, payer, clock):
    payment = payer.create()
    clock.move(minutes=15)

    answer = see(client, f"/checkout/{payment}")
    assert answer.status_code == 410
    assert "time to pay is over" in answer.text
    assert "card_number" not in answer.text


def test_a_decline_is_a_page_with_the_reason(payer):
    answer = send(payer, payer.create(), SHORT_OF_MONEY)

    assert answer.status_code == 402
    assert "not enough money" in answer.text
    assert "Try another card" not in answer.text


def test_a_decline_that_is_not_final_leads_to_another_card(payer):
    payment = payer.create()
    payer.script(payment, "card_expired,ok")

    answer = send(payer, payment, "4111111111111111")
    assert "The card has expired." in answer.text
    assert Reader(answer.text).having("a", href=f"/checkout/{payment}", **{"class": "main"})
    assert send(payer, payment, "4111111111111111").status_code == 303


def test_a_page_that_answers_a_form_is_found_in_other_languages(payer):
    payment = payer.create()
    answer = send(payer, payment, SHORT_OF_MONEY)
    (link,) = Reader(answer.text).having("a", hreflang="de")

    page = see(payer.client, link["href"])
    assert page.status_code == 200
    assert "Zahlung abgelehnt" in page.text


def test_a_silent_bank_is_a_page_that_looks_again_by_itself(payer):
    payment = payer.create()

    answer = send(payer, payment, SILENT)
    assert answer.status_code == 504
    assert "Do not pay again" in answer.text
    assert f'data-refresh="/success/{payment}"' in answer.text
    payer.app.extensions["sandbox"].clock.move(seconds=30)
    assert "Payment received" in see(payer.client, f"/success/{payment}").text


def test_a_form_without_its_cookie_is_a_page_that_leads_back(app, payer):
    payment = payer.create()
    answer = app.test_client().post(f"/api/pay/{payment}", data={"csrf_token": "x" * 43}, headers=BROWSER)

    assert answer.status_code == 403
    assert Reader(answer.text).having("a", href=f"/checkout/{payment}")


def test_too_many_attempts_show_a_page_with_a_link_back(make_app):
    app = make_app(SANDBOX_PAY_PER_MINUTE="1")
    payer = Payer(app, app.test_client())
    payment = payer.create()
    payer.script(payment, "fail,fail,ok")
    assert send(payer, payment, "4111111111111111").status_code == 402

    answer = send(payer, payment, "4111111111111111")
    assert answer.status_code == 429
    assert "Too many tries" in answer.text
    assert Reader(answer.text).having("a", href=f"/checkout/{payment}")


def test_an_unusable_form_is_a_page_that_leads_back(payer):
    payment = payer.create()

    answer = send(payer, payment, "4111111111111111", email="nobody")
    assert answer.status_code == 422
    assert "Nothing was changed" in answer.text
    assert Reader(answer.text).having("a", href=f"/checkout/{payment}")


def test_a_wrong_code_shows_the_form_again_with_the_attempts_that_are_left(client, payer):
    payment = payer.create()
    payer.pay(payment)

    answer = client.post(f"/otp/verify/{payment}", data={"otp_code": payer.wrong_code(payment)}, headers=BROWSER)
    assert answer.status_code == 401
    assert "That is not the code" in answer.text
    assert "Tries left: 4" in answer.text
    assert Reader(answer.text).having("form", action=f"/otp/verify/{payment}")


def test_a_code_that_is_too_old_asks_for_a_new_one(client, payer, clock):
    payment = payer.create()
    payer.pay(payment)
    clock.move(minutes=6)

    answer = client.post(f"/otp/verify/{payment}", data={"otp_code": payer.code(payment)}, headers=BROWSER)
    assert "This code is too old" in answer.text


def test_the_last_wrong_code_ends_the_payment(client, payer):
    payment = payer.create()
    payer.pay(payment)
    wrong = payer.wrong_code(payment)

    for _ in range(5):
        answer = client.post(f"/otp/verify/{payment}", data={"otp_code": wrong}, headers=BROWSER)
    assert "entered too often" in answer.text
    assert "otp_code" not in answer.text


def test_another_code_is_sent_when_asked_for_and_not_too_soon(client, payer, clock):
    payment = payer.create()
    payer.pay(payment)
    first = payer.code(payment)
    form = {"csrf_token": HIDDEN.search(see(client, f"/otp/{payment}").text)[1]}

    early = client.post(f"/otp/resend/{payment}", data=form, headers=BROWSER)
    assert (early.status_code, payer.code(payment)) == (429, first)
    assert "Wait a little" in early.text
    clock.move(seconds=31)
    assert client.post(f"/otp/resend/{payment}", data={}, headers=BROWSER).status_code == 403
    answer = client.post(f"/otp/resend/{payment}", data=form, headers=BROWSER)
    assert (answer.status_code, answer.location) == (303, f"/otp/{payment}?sent=again")
    assert "A new code is on its way" in see(client, answer.location).text
    assert len(re.findall("data-code", see(client, f"/sandbox/inbox?invoice={payment}").text)) == 2


def test_a_code_page_that_comes_too_late_says_that_it_was_paid(client, payer):
    payment = payer.create()
    payer.pay_through(payment)

    answer = see(client, f"/otp/{payment}")
    assert answer.status_code == 404
    assert "already done" in answer.text
    assert "otp_code" not in answer.text


def test_saved_cards_are_offered_to_who_proved_to_read_the_mail(payer):
    payer.pay_through(payer.create(), save_card="true")
    payer.prove()
    payment = payer.create()

    page = Reader(see(payer.client, f"/checkout/{payment}").text)
    values = [found["value"] for found in page.having("input", type="radio", name="saved_card_id")]
    assert len(values) == 2
    assert values[1] == ""
    assert send(payer, payment, "", saved_card_id=values[0]).status_code == 303
    assert send(payer, payer.create(), "5555 5555 5555 4444", saved_card_id="").status_code == 303

"""The dashboard: lists, webhooks, reset, new payments."""

import re

import pytest

from tests.receivers import Receiver
from tests.sandbox.factories import SECRET
from tests.sandbox.payer import HIDDEN
from tests.sandbox.reader import BROWSER, PAGE_BYTES_MAX, Reader, see


def test_the_secret_is_not_shown_where_strangers_may_look(make_app, client):
    open_to_all = make_app(SANDBOX_PUBLIC="yes").test_client()

    assert SECRET in see(client, "/sandbox/verify").text
    assert SECRET not in see(open_to_all, "/sandbox/verify").text
    assert "can be reached by others" in see(open_to_all, "/sandbox/verify").text


def test_the_dashboard_lists_filters_and_finds(client, scene):
    assert {"ORDER-100", "ORDER-101", "ORDER-102"} <= set(re.findall(r">([^<>]+)</a></td>", see(client, "/").text))
    assert re.findall(r">([^<>]+)</a></td>", see(client, "/?status=failed").text) == ["ORDER-101"]
    assert re.findall(r">([^<>]+)</a></td>", see(client, "/?text=order-102").text) == ["ORDER-102"]
    assert "Nothing matches" in see(client, "/?status=nonsense").text
    assert see(client, "/merchant/dashboard").location == "/"


def test_a_long_list_is_cut_so_that_its_page_stays_small(client, payer):
    for number in range(55):
        payer.create(reference=f"ORDER-{number:03}")

    answer = see(client, "/")
    assert "Shown: 50" in answer.text
    assert len(answer.data) < PAGE_BYTES_MAX
    assert "ORDER-000" not in answer.text
    assert "ORDER-000" in see(client, "/?text=ORDER-000").text


def test_a_payment_shows_its_webhook_with_body_headers_signature_and_attempts(client, payer):
    with Receiver() as shop:
        payment = payer.create(webhookUrl=shop.url)
        payer.pay_through(payment)
        payer.work()
        page = see(client, f"/sandbox/invoices/{payment}").text
        (request,) = shop.received

    assert request.body.decode() in page.replace("&#34;", '"')
    assert f"X-Signature: {request.headers['x-signature']}" in page
    assert "Attempt 1" in page
    assert "200 ok" in page
    assert ">delivered<" in see(client, "/sandbox/webhooks?state=delivered").text
    assert "Nothing matches" in see(client, "/sandbox/webhooks?state=failed").text


def test_a_webhook_is_sent_again_by_its_button_and_not_by_a_strangers_form(client, payer):
    with Receiver() as shop:
        payment = payer.create(webhookUrl=shop.url)
        payer.pay_through(payment)
        payer.work()
        (form,) = Reader(see(client, f"/sandbox/invoices/{payment}").text).having("form", method="post")
        token = HIDDEN.search(see(client, f"/sandbox/invoices/{payment}").text)[1]

        assert client.post(form["action"], headers=BROWSER).status_code == 403
        assert client.post(form["action"], data={"csrf_token": "x" * 43}, headers=BROWSER).status_code == 403
        answer = client.post(form["action"], data={"csrf_token": token}, headers=BROWSER)
        payer.work()
        assert len(shop.received) == 2
    assert "It is queued" in see(client, answer.location).text
    assert "Attempt 2" in see(client, answer.location).text
    missing = form["action"].replace("/webhooks/1/", "/webhooks/999/")
    assert client.post(missing, data={"csrf_token": token}, headers=BROWSER).status_code == 404


def test_reset_asks_first_and_deletes_everything_but_the_secret(client, scene):
    token = HIDDEN.search(see(client, "/sandbox/reset").text)[1]

    assert client.post("/sandbox/reset", headers=BROWSER).status_code == 403
    assert "ORDER-102" in see(client, "/").text
    answer = client.post("/sandbox/reset", data={"csrf_token": token}, headers=BROWSER)
    assert "Everything was deleted" in see(client, answer.location).text
    assert "ORDER-102" not in see(client, "/").text
    assert SECRET in see(client, "/sandbox/verify").text


def test_a_payment_can_be_made_without_a_shop(client):
    page = see(client, "/test").text
    given = {found["name"]: found["value"] for found in Reader(page).having("input")}

    assert (given["webhook_url"], given["redirect_url"]) == ("", "http://127.0.0.1:8001/")
    answer = client.post("/test", data=given, headers=BROWSER)
    assert answer.status_code == 303
    assert see(client, answer.location).status_code == 200


@pytest.mark.parametrize(
    "wrong",
    [
        {"amount": "0"},
        {"amount": "-5"},
        {"amount": "2.50"},
        {"amount": "9" * 30},
        {"amount": "١٢"},
        {"reference": ""},
        {"reference": "x" * 201},
        {"webhook_url": "javascript:alert(1)"},
        {"redirect_url": "shop.example"},
    ],
)
def test_an_unusable_payment_is_not_made_and_what_was_typed_stays(client, wrong):
    page = see(client, "/test").text
    given = {found["name"]: found["value"] for found in Reader(page).having("input")}

    given["webhook_url"] = "http://127.0.0.1:9000/hook"
    answer = client.post("/test", data={**given, **wrong}, headers=BROWSER)
    assert answer.status_code == 400
    assert "Check the amount" in answer.text
    assert given["webhook_url" if "webhook_url" not in wrong else "redirect_url"] in answer.text
    assert "Shown: 0" in see(client, "/").text


def test_every_test_card_is_listed_and_the_first_ones_stand_beside_the_form(client, payer):
    listed = see(client, "/sandbox/cards").text

    assert "4444 4444 4444 4444" in listed
    assert "3700 000000 00002" in listed
    assert "5555 5555 5555 4600" in listed
    assert 'data-fill="4444 4444 4444 4444"' in see(client, f"/checkout/{payer.create()}").text

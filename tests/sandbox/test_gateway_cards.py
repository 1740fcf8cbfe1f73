"""Saved cards belong to an e-mail, and only a browser that has proven to read its mail sees and uses them."""

import pytest

from sandbox.dialects.acquiremock import SESSION_COOKIE
from sandbox.gateway import saved_cards
from tests.sandbox.factories import EMAIL, GOOD, NO_3DS, UNKNOWN
from tests.sandbox.payer import Payer


@pytest.fixture
def saved(payer) -> int:
    """Keep a card, prove the e-mail, and return the card's number in the list."""
    payer.pay_through(payer.create(), GOOD, save_card="true")
    payer.prove()
    (card,) = cards(payer)
    return int(card["id"])


@pytest.fixture
def stranger(app) -> Payer:
    return Payer(app, app.test_client())


def cards(payer, email: str = EMAIL) -> list[dict[str, object]]:
    return payer.client.get(f"/api/user-info?email={email}").json["cards"]


def test_a_card_is_kept_once_for_each_email(payer, saved):
    payer.pay_through(payer.create(), GOOD, save_card="true", expiry="11/31")

    assert cards(payer) == [{"id": saved, "mask": "**** 4444", "expiry": "11/31"}]


@pytest.mark.parametrize(("card", "save_card"), [(GOOD, "false"), (GOOD, "on"), (GOOD, ""), (UNKNOWN, "true")])
def test_a_card_is_not_kept_without_being_asked_or_without_success(payer, card, save_card):
    answer = payer.pay(payment_id := payer.create(), card, save_card=save_card)
    if answer.status_code == 303:
        payer.enter(payment_id, payer.code(payment_id))
    payer.prove()

    assert cards(payer) == []


def test_a_card_is_kept_only_when_the_payment_succeeds(payer):
    payment_id = payer.create()
    payer.pay(payment_id, GOOD, save_card="true")
    payer.prove()
    assert cards(payer) == []

    payer.enter(payment_id, payer.code(payment_id))
    assert len(cards(payer)) == 1


def test_a_saved_card_pays_and_still_asks_for_the_code(payer, saved):
    payment_id = payer.create()

    answer = payer.pay(payment_id, "", saved_card_id=str(saved))

    assert answer.location == f"/otp/{payment_id}"
    assert payer.invoice(payment_id).card_mask == "**** 4444"
    assert payer.enter(payment_id, payer.code(payment_id)).status_code == 303


def test_a_saved_card_wins_over_a_number(payer, saved):
    payment_id = payer.create()

    assert payer.pay(payment_id, UNKNOWN, saved_card_id=str(saved)).location == f"/otp/{payment_id}"


def test_the_bare_cookie_shows_nothing_uses_nothing_and_skips_no_code(stranger, saved):
    stranger.client.set_cookie("user_email", EMAIL)
    payment_id = stranger.create()

    assert cards(stranger) == []
    assert stranger.client.get(f"/api/user-info?email={EMAIL}").json["operations"] == []
    assert "**** 4444" not in stranger.client.get(f"/checkout/{payment_id}").text
    assert stranger.pay(payment_id, saved_card_id=str(saved)).json["error"] == "SAVED_CARD_NOT_FOUND"
    assert stranger.pay(payment_id, GOOD).location == f"/otp/{payment_id}"


def test_the_cookie_of_an_earlier_success_skips_no_code(payer):
    payer.pay_through(payer.create(), GOOD)
    assert payer.client.get_cookie("user_email").value == EMAIL
    payment_id = payer.create()

    assert payer.pay(payment_id, GOOD).location == f"/otp/{payment_id}"


def test_a_proven_email_opens_no_other_one(stranger, saved):
    stranger.prove("thief@example.com")
    payment_id = stranger.create()

    assert cards(stranger) == []
    for email in (EMAIL, "thief@example.com"):
        answer = stranger.pay(payment_id, saved_card_id=str(saved), email=email)
        assert (answer.status_code, answer.json["error"]) == (404, "SAVED_CARD_NOT_FOUND")


def test_the_checkout_offers_the_cards_of_a_proven_browser(payer, saved):
    page = payer.client.get(f"/checkout/{payer.create()}").text

    assert f'value="{saved}"' in page
    assert EMAIL in page


def test_an_email_is_the_same_in_capitals(payer, saved):
    assert len(cards(payer, EMAIL.upper())) == 1


def test_a_session_ends(payer, saved, clock):
    clock.move(days=saved_cards.SESSION_LIFETIME.days)

    assert cards(payer) == []


def test_a_token_that_is_not_ours_is_never_taken_over(payer):
    payer.client.set_cookie(SESSION_COOKIE, "chosen-by-somebody-else")
    payer.prove()

    assert payer.client.get_cookie(SESSION_COOKIE).value != "chosen-by-somebody-else"


def test_a_session_may_hold_two_emails(payer, saved):
    token = payer.client.get_cookie(SESSION_COOKIE).value
    payer.prove("second@example.com")

    assert payer.client.get_cookie(SESSION_COOKIE).value == token
    assert len(cards(payer)) == 1


def test_email_codes_count_attempts_end_and_work_once(payer, clock):
    def verify(code):
        return payer.client.post("/api/auth/verify-code", json={"email": EMAIL, "code": code})

    def send():
        payer.client.post("/api/auth/send-code", json={"email": EMAIL})
        return payer.client.get("/sandbox/api/inbox").json["items"][0]["code"]

    code = send()
    assert len(code) == 6
    assert [verify("wrong").status_code for _ in range(saved_cards.CODE_ATTEMPTS_MAX)] == [400] * 5
    assert verify(code).json == {"detail": "Code expired or not found"}
    assert send() == code, "another is not sent at once"
    clock.move(seconds=saved_cards.CODE_RESEND_AFTER.seconds)
    fresh = send()
    clock.move(seconds=saved_cards.CODE_LIFETIME.seconds)
    assert verify(fresh).json == {"detail": "Code expired or not found"}
    fresh = send()
    assert verify(fresh).status_code == 200
    assert verify(fresh).status_code == 400


def test_the_once_card_declines_as_a_saved_one_too(payer):
    payer.pay_through(payer.create(), "4000000000000069", save_card="true")
    payer.prove()
    (card,) = cards(payer)

    assert payer.pay(payer.create(), "", saved_card_id=str(card["id"])).json["error"] == "INSUFFICIENT_FUNDS"
    assert payer.pay(payer.create(), NO_3DS).status_code == 303

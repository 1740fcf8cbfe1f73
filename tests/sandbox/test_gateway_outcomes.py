"""What cards and scripts come to: the table row by row, slow and silent issuers, chains."""

import pytest

from sandbox import worker
from sandbox.gateway import cards, model
from sandbox.gateway.cards import Outcome
from sandbox.gateway.model import MOVES, Status
from tests.sandbox.factories import GOOD, NO_3DS, UNKNOWN

SLOW, ONCE, SILENT = "4000000000000051", "4000000000000069", "4000000000000077"
SHEET = {
    "3D_SECURE_FAILED": "5555555555554592 4839665499603842 2200000000000012",
    "CALL_ISSUER": "5555555555554535 4926946416239025 2200000000000020",
    "CARD_EXPIRED": "5555555555554543 4141435412630840 2200000000000038",
    "FRAUD_SUSPECTED": "5555555555554568 4483274282299972 2200000000000046"
    " 5555555555554634 4119098878796485 2201696981989955",
    "GENERAL_DECLINE": "5555555555554527 4889971706588753 2202202212312379",
    "INSUFFICIENT_FUNDS": "5555555555554600 4562265587712390 2200000000000053",
    "INVALID_CARD_NUMBER": "5555555555554618 4951017853630544 2201382000000013",
    "INVALID_CSC": "5555555555554626 4194180666146368 2200770212727079",
    "ISSUER_UNAVAILABLE": "5555555555554501 4654130848359150 2201382000000021",
    "PAYMENT_METHOD_LIMIT_EXCEEDED": "5555555555554576 4565231022577548 2201382000000039",
    "PAYMENT_METHOD_RESTRICTED": "5555555555554550 4233961169071671 2201382000000047",
    "COUNTRY_FORBIDDEN": "5555555555554584 4969751510013864 2201382000000054",
}
WITH_3DS = "4444444444444444 5555555555554477 4793128161644804 2200000000000004"
WITHOUT_3DS = (
    "5555555555554444 4111111111111111 2202474301322987"
    " 6759649826438453 4175001000000017 370000000000002 3528000700000000 36700102000000"
)
DECLINES = [(code, number) for code, numbers in SHEET.items() for number in numbers.split()]


@pytest.mark.parametrize(("code", "number"), DECLINES)
def test_each_decline_has_its_reason(payer, code, number):
    payment_id = payer.create()
    answer = payer.pay(payment_id, number)
    if code == "3D_SECURE_FAILED":
        answer = payer.enter(payment_id, payer.code(payment_id))

    assert (answer.status_code, answer.json["error"]) == (402, code)
    invoice = payer.invoice(payment_id)
    assert (invoice.status, invoice.error_code, invoice.error_message) == ("failed", code, cards.DECLINES[code])


@pytest.mark.parametrize("number", WITH_3DS.split())
def test_success_with_three_ds_asks_for_a_code(payer, number):
    payment_id = payer.create()

    assert payer.pay(payment_id, number).location == f"/otp/{payment_id}"
    assert payer.enter(payment_id, payer.code(payment_id)).location == f"/success/{payment_id}"


@pytest.mark.parametrize("number", WITHOUT_3DS.split())
def test_success_without_three_ds_asks_for_none(payer, number):
    payment_id = payer.create()

    assert payer.pay(payment_id, number).location == f"/success/{payment_id}"
    assert payer.invoice(payment_id).card_mask == f"**** {number[-4:]}"


def test_the_table_holds_the_sheet_and_four_cards_of_other_kinds():
    known = [number for _, number in DECLINES] + f"{WITH_3DS} {WITHOUT_3DS} {SLOW} {ONCE} {SILENT}".split()

    assert sorted(card.number for card in cards.TABLE) == sorted(known)


def test_a_slow_issuer_is_waited_for(payer, clock):
    payment_id = payer.create()
    before = clock()

    answer = payer.pay(payment_id, SLOW)

    assert answer.location == f"/success/{payment_id}"
    assert (clock() - before).total_seconds() == cards.SLOW_SECONDS
    assert payer.moves(payment_id) == ["pending", "processing", "paid"]


def test_a_silent_issuer_is_504_and_the_payment_paid_later(payer, shop, clock):
    payment_id = payer.create(webhookUrl=shop.url)

    answer = payer.pay(payment_id, SILENT)

    assert (answer.status_code, answer.json["error"]) == (504, "ISSUER_TIMEOUT")
    assert payer.invoice(payment_id).status == "processing"
    assert payer.client.get(f"/checkout/{payment_id}").status_code == 409
    payer.work()
    assert shop.received == []
    clock.move(seconds=cards.SILENT_SECONDS - cards.TIMEOUT_SECONDS)
    payer.work()
    assert payer.invoice(payment_id).status == "paid"
    assert len(shop.received) == 1


def test_whoever_pays_again_after_a_timeout_joins_the_payment(payer, clock):
    payment_id = payer.create()
    token = payer.open(payment_id)
    payer.submit(payment_id, token, SILENT, key="k")

    again = payer.submit(payment_id, token, SILENT, key="k")

    assert again.location == f"/success/{payment_id}"
    assert payer.moves(payment_id) == ["pending", "processing", "paid"]


def test_an_issuer_that_was_asked_in_time_may_answer_late(payer, clock):
    payment_id = payer.create()
    token = payer.open(payment_id)
    clock.move(minutes=14, seconds=58)
    payer.submit(payment_id, token, SILENT)
    clock.move(minutes=5)
    with payer.app.app_context():
        assert worker.settle_due() == 1

    assert payer.invoice(payment_id).status == "paid"


def test_once_succeeds_once_for_an_email_then_declines(payer):
    first, second, other = payer.create(), payer.create(), payer.create()

    assert payer.pay(first, ONCE).location == f"/success/{first}"
    assert payer.pay(second, ONCE).json["error"] == "INSUFFICIENT_FUNDS"
    assert payer.pay(other, ONCE, email="another@example.com").location == f"/success/{other}"


# ---- scripts


def test_fail_fail_ok(payer, shop):
    payment_id = payer.create(webhookUrl=shop.url)
    assert payer.script(payment_id, "fail, fail, ok").json["script"] == ["fail", "fail", "ok"]

    answers = [payer.pay(payment_id, UNKNOWN) for _ in range(3)]
    payer.work()

    assert [answer.status_code for answer in answers] == [402, 402, 303]
    assert answers[2].location == f"/success/{payment_id}"
    assert payer.moves(payment_id) == ["pending", "pending", "pending", "paid"]
    assert len(shop.received) == 1, "a decline that is not final is not told"


def test_a_script_that_ends_in_a_decline_is_final(payer):
    payment_id = payer.create()
    payer.script(payment_id, "card_expired,call_issuer")

    assert [payer.pay(payment_id, GOOD).json["error"] for _ in range(2)] == ["CARD_EXPIRED", "CALL_ISSUER"]
    assert payer.invoice(payment_id).status == "failed"


def test_a_script_can_ask_for_a_code_and_be_late(payer):
    with_code, slow, silent = payer.create(), payer.create(), payer.create()
    for payment_id, chain in ((with_code, "fail,otp"), (slow, "slow"), (silent, "timeout")):
        payer.script(payment_id, chain)

    payer.pay(with_code, UNKNOWN)
    assert payer.pay_through(with_code, UNKNOWN).status_code == 303
    assert payer.pay(slow, UNKNOWN).location == f"/success/{slow}"
    assert payer.pay(silent, UNKNOWN).status_code == 504


def test_a_script_can_be_taken_back_before_it_is_played(payer):
    payment_id = payer.create()
    payer.script(payment_id, "fail")
    payer.script(payment_id, "")

    assert payer.pay(payment_id, NO_3DS).status_code == 303


@pytest.mark.parametrize("chain", ["maybe", "ok,,maybe", "otp_attempts_exceeded", "ok," * 21])
def test_a_script_that_cannot_be_played_is_refused(payer, chain):
    answer = payer.script(payer.create(), chain)

    assert (answer.status_code, answer.json["error"]) == (400, "UNUSABLE")


def test_a_payment_that_is_over_takes_no_script(payer):
    payment_id = payer.create()
    payer.pay_through(payment_id)

    assert payer.script(payment_id, "ok").status_code == 409
    assert payer.script("00000000-0000-4000-8000-000000000000", "ok").status_code == 404


def test_of_a_card_outside_the_table_only_the_mask_is_kept(payer, tmp_path):
    payment_id = payer.create()
    payer.script(payment_id, "ok")
    payer.pay(payment_id, "4000 0012 3456 7899", save_card="true")

    assert payer.invoice(payment_id).card_mask == "**** 7899"
    kept = b"".join(file.read_bytes() for file in tmp_path.glob("sandbox.db*"))
    assert b"4000001234567899" not in kept
    assert b"4000 0012" not in kept


# ---- the machine itself


def test_final_states_lead_nowhere():
    final = {status for status, after in MOVES.items() if not after}

    assert final == {Status.REFUNDED, Status.FAILED, Status.EXPIRED, Status.CANCELED}
    assert set(MOVES) == set(Status)


def test_only_a_payable_state_expires_and_only_paid_money_is_refunded():
    assert {before for before, after in MOVES.items() if Status.EXPIRED in after} == model.PAYABLE
    refunding = {before for before, after in MOVES.items() if Status.REFUNDED in after}
    assert refunding == {Status.PAID, Status.PARTIALLY_REFUNDED}


def test_each_decline_has_words_and_a_step():
    used = {card.behaviour.code for card in cards.TABLE if card.behaviour.outcome is Outcome.DECLINE}

    assert used | {"OTP_ATTEMPTS_EXCEEDED"} == set(cards.DECLINES)
    assert {code.lower() for code in used} < set(cards.STEPS)

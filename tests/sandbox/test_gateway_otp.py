"""The code: it ends, counts tries, can be sent again but not too often; and the time to pay ends in every state."""

import pytest

from sandbox import context, worker
from sandbox.gateway.model import OTP_ATTEMPTS_MAX, OTP_LIFETIME, OTP_RESEND_AFTER
from tests.sandbox.factories import EMAIL, GOOD, UNKNOWN

THREE_DS_FAILS = "5555555555554592"


@pytest.fixture
def waiting(payer) -> str:
    payment_id = payer.create()
    assert payer.pay(payment_id).location == f"/otp/{payment_id}"
    return payment_id


def test_a_code_has_four_digits_and_is_mailed_to_the_payer(payer, waiting):
    (mail,) = payer.client.get(f"/sandbox/api/inbox?email={EMAIL}").json["items"]

    assert len(mail["code"]) == 4
    assert mail["code"].isdigit()
    assert mail["code"] in mail["body"]
    assert (mail["to"], mail["kind"], mail["invoice_id"]) == (EMAIL, "otp", waiting)
    assert payer.code(waiting) == mail["code"]


def test_wrong_then_right_is_paid(payer, waiting):
    for _ in range(OTP_ATTEMPTS_MAX - 1):
        assert payer.enter(waiting, payer.wrong_code(waiting)).status_code == 401

    assert payer.enter(waiting, payer.code(waiting)).status_code == 303


def test_the_fifth_wrong_code_fails_the_payment(payer, waiting):
    code, wrong = payer.code(waiting), payer.wrong_code(waiting)
    answers = [payer.enter(waiting, wrong) for _ in range(OTP_ATTEMPTS_MAX)]

    assert {(answer.status_code, answer.json["error"]) for answer in answers} == {(401, "INVALID_OTP")}
    invoice = payer.invoice(waiting)
    assert (invoice.status, invoice.error_code) == ("failed", "OTP_ATTEMPTS_EXCEEDED")
    assert payer.enter(waiting, code).status_code == 401
    assert payer.invoice(waiting).status == "failed"


def test_another_code_does_not_bring_back_attempts(payer, clock, waiting):
    for number in range(OTP_ATTEMPTS_MAX):
        clock.move(seconds=OTP_RESEND_AFTER.seconds)
        payer.act(waiting, "otp/resend")
        assert payer.invoice(waiting).status == "waiting_for_otp", number
        payer.enter(waiting, payer.wrong_code(waiting))

    assert payer.invoice(waiting).status == "failed"


@pytest.mark.parametrize("text", ["", " ", "١٢٣٤", "é", "x" * 5000, "\x00"])
def test_what_is_no_code_is_a_wrong_code(payer, waiting, text):
    assert payer.enter(waiting, text).status_code == 401
    assert payer.client.get(f"/sandbox/api/invoices/{waiting}/otp").json["attempts_left"] == OTP_ATTEMPTS_MAX - 1


def test_a_form_without_a_code_is_422(payer, waiting):
    assert payer.client.post(f"/otp/verify/{waiting}").status_code == 422


def test_a_code_ends_and_another_can_be_had(payer, clock, waiting):
    old = payer.code(waiting)
    clock.move(seconds=OTP_LIFETIME.seconds)

    late = payer.enter(waiting, old)
    assert (late.status_code, late.json["error"]) == (401, "INVALID_OTP")
    assert payer.act(waiting, "otp/resend").status_code == 200
    assert payer.enter(waiting, payer.code(waiting)).status_code == 303


def test_a_code_holds_until_its_last_moment(payer, clock, waiting):
    clock.move(seconds=OTP_LIFETIME.seconds - 1)

    assert payer.enter(waiting, payer.code(waiting)).status_code == 303


def test_resend_mails_a_new_code_and_the_old_one_is_good_no_more(payer, clock, waiting, monkeypatch):
    old = payer.code(waiting)
    monkeypatch.setattr("secrets.randbelow", lambda _: (int(old) + 7) % 10_000)
    clock.move(seconds=OTP_RESEND_AFTER.seconds)

    assert payer.act(waiting, "otp/resend").status_code == 200

    assert len(payer.client.get("/sandbox/api/inbox").json["items"]) == 2
    assert payer.enter(waiting, old).status_code == 401
    assert payer.enter(waiting, payer.code(waiting)).status_code == 303


def test_resend_is_limited(payer, clock, waiting):
    clock.move(seconds=OTP_RESEND_AFTER.seconds - 1)
    early = payer.act(waiting, "otp/resend")
    clock.move(seconds=1)

    assert (early.status_code, early.json["error"]) == (429, "TOO_SOON")
    assert payer.act(waiting, "otp/resend").status_code == 200
    assert payer.act(waiting, "otp/resend").status_code == 429


def test_there_is_nothing_to_resend_before_and_after(payer, waiting):
    fresh = payer.create()
    payer.enter(waiting, payer.code(waiting))

    assert payer.act(fresh, "otp/resend").status_code == 404
    assert payer.act(waiting, "otp/resend").status_code == 404


def test_the_same_card_again_at_once_keeps_the_code_and_later_sends_a_new_one(payer, clock, waiting):
    payer.pay(waiting, GOOD)
    assert len(payer.client.get("/sandbox/api/inbox").json["items"]) == 1

    clock.move(seconds=OTP_RESEND_AFTER.seconds)
    assert payer.pay(waiting, GOOD).location == f"/otp/{waiting}"
    assert len(payer.client.get("/sandbox/api/inbox").json["items"]) == 2


def test_another_card_while_waiting_replaces_the_first(payer, waiting):
    assert payer.pay(waiting, "5555555555554477").location == f"/otp/{waiting}"

    assert payer.invoice(waiting).card_mask == "**** 4477"
    assert payer.enter(waiting, payer.code(waiting)).status_code == 303


def test_a_wrong_card_while_waiting_fails_the_payment(payer, waiting):
    code = payer.code(waiting)

    assert payer.pay(waiting, UNKNOWN).status_code == 402
    assert payer.enter(waiting, code).status_code == 401
    assert payer.invoice(waiting).status == "failed"


def test_three_ds_fails_after_the_right_code_only(payer):
    payment_id = payer.create()
    assert payer.pay(payment_id, THREE_DS_FAILS).location == f"/otp/{payment_id}"
    assert payer.enter(payment_id, payer.wrong_code(payment_id)).json["error"] == "INVALID_OTP"

    answer = payer.enter(payment_id, payer.code(payment_id))
    assert (answer.status_code, answer.json["error"]) == (402, "3D_SECURE_FAILED")
    assert payer.invoice(payment_id).status == "failed"


# ---- the time to pay


def test_the_worker_expires_pending_and_waiting_alike(payer, clock, waiting):
    pending = payer.create()
    clock.move(minutes=14, seconds=59)
    with payer.app.app_context():
        assert worker.settle_due() == 0
        clock.move(seconds=1)
        assert worker.settle_due() == 2
        assert worker.settle_due() == 0

    assert payer.moves(pending) == ["pending", "expired"]
    assert payer.moves(waiting) == ["pending", "waiting_for_otp", "expired"]


def test_neither_card_nor_code_comes_too_late(payer, clock, waiting):
    pending, code = payer.create(), payer.code(waiting)
    token = payer.open(pending)
    clock.move(minutes=15)

    card = payer.submit(pending, token)
    confirmed = payer.enter(waiting, code)

    assert (card.status_code, card.json["error"]) == (410, "PAYMENT_EXPIRED")
    assert (confirmed.status_code, confirmed.json["error"]) == (410, "PAYMENT_EXPIRED")
    assert {payer.invoice(payment_id).status for payment_id in (pending, waiting)} == {"expired"}


def test_paid_and_failed_never_expire(payer, clock):
    paid, failed = payer.create(), payer.create()
    payer.pay_through(paid)
    payer.pay(failed, UNKNOWN)
    clock.move(days=1)
    with payer.app.app_context():
        assert worker.settle_due() == 0

    assert (payer.invoice(paid).status, payer.invoice(failed).status) == ("paid", "failed")


def test_the_database_knows_no_code_of_a_payment_that_waits_for_none(payer, waiting):
    payer.enter(waiting, payer.code(waiting))
    with payer.app.app_context(), context.store().reading() as connection:
        row = connection.execute("SELECT otp_code, otp_expires_at FROM invoices WHERE id = ?", (waiting,)).fetchone()

    assert tuple(row) == (None, None)

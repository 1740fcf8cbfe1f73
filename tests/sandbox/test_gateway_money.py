"""Capture, cancel, refund: 0 ≤ refunded ≤ captured ≤ amount, by the code and by the database."""

import sqlite3

import pytest

from sandbox import context
from tests.sandbox.factories import NO_3DS, UNKNOWN


@pytest.fixture
def paid(payer) -> str:
    payment_id = payer.create(amount=1000)
    payer.pay_through(payment_id, NO_3DS)
    return payment_id


@pytest.fixture
def held(payer) -> str:
    payment_id = payer.create(amount=1000)
    assert payer.act(payment_id, "script", capture="manual").json["capture"] == "manual"
    payer.pay_through(payment_id)
    return payment_id


def money(payer, payment_id) -> tuple[str, int, int]:
    invoice = payer.invoice(payment_id)
    return invoice.status.value, invoice.captured, invoice.refunded


def test_what_is_paid_is_captured(payer, paid):
    assert money(payer, paid) == ("paid", 1000, 0)


def test_partial_refunds_add_up_to_a_full_one(payer, paid):
    assert payer.act(paid, "refund", amount=300).json["status"] == "partially_refunded"
    assert payer.act(paid, "refund", amount=300).json["refunded"] == 600
    assert payer.act(paid, "refund", amount=401).status_code == 400
    assert payer.act(paid, "refund").json["status"] == "refunded"
    assert money(payer, paid) == ("refunded", 1000, 1000)
    assert payer.act(paid, "refund", amount=1).status_code == 409


@pytest.mark.parametrize("amount", [0, -1, 1001, "1", 1.5, True, 10**30])
def test_other_amounts_are_refused(payer, paid, held, amount):
    assert payer.act(paid, "refund", amount=amount).status_code == 400
    assert payer.act(held, "capture", amount=amount).status_code == 400
    assert money(payer, paid) == ("paid", 1000, 0)
    assert money(payer, held) == ("authorized", 0, 0)


def test_the_same_key_refunds_once(payer, paid):
    first = payer.act(paid, "refund", key="k", amount=400)
    again = payer.act(paid, "refund", key="k", amount=400)

    assert first.json == again.json
    assert payer.act(paid, "refund", key="other", amount=400).json["refunded"] == 800


def test_a_hold_is_not_paid_until_it_is_captured(payer, shop):
    payment_id = payer.create(webhookUrl=shop.url)
    payer.act(payment_id, "script", capture="manual")
    payer.pay_through(payment_id)
    payer.work()
    assert (payer.invoice(payment_id).status, shop.received) == ("authorized", [])
    assert payer.invoice(payment_id).paid_at is None

    assert payer.act(payment_id, "capture").json["status"] == "paid"
    payer.work()
    assert len(shop.received) == 1


def test_a_part_can_be_captured_and_no_more_than_that_refunded(payer, held):
    assert payer.act(held, "capture", amount=600).json["captured"] == 600
    assert payer.act(held, "capture").status_code == 409
    assert payer.act(held, "refund", amount=601).status_code == 400
    assert payer.act(held, "refund").json["refunded"] == 600
    assert money(payer, held) == ("refunded", 600, 600)


def test_holds_and_unpaid_payments_can_be_canceled(payer, held):
    fresh = payer.create()
    waiting = payer.create()
    payer.pay(waiting)
    code = payer.code(waiting)

    for payment_id in (fresh, waiting, held):
        assert payer.act(payment_id, "cancel").json["status"] == "canceled"
        assert payer.act(payment_id, "cancel").status_code == 409
    assert payer.enter(waiting, code).status_code == 401
    assert payer.client.get(f"/checkout/{fresh}").status_code == 409
    assert payer.act(held, "capture").status_code == 409


def test_nothing_else_can_be_captured_canceled_or_refunded(payer, paid):
    failed, fresh = payer.create(), payer.create()
    payer.pay(failed, UNKNOWN)

    for payment_id, what in (
        (paid, "cancel"),
        (paid, "capture"),
        (failed, "refund"),
        (failed, "cancel"),
        (fresh, "refund"),
    ):
        answer = payer.act(payment_id, what)
        assert (answer.status_code, answer.json["error"]) == (409, "NOT_POSSIBLE"), what


def test_the_time_that_is_over_is_over_for_the_shop_too(payer, clock):
    payment_id = payer.create()
    clock.move(minutes=15)

    assert payer.act(payment_id, "cancel").status_code == 410
    assert payer.script(payment_id, "ok").status_code == 410


@pytest.mark.parametrize(
    "change",
    [
        "refunded = 1001, status = 'refunded'",
        "captured = 1001",
        "refunded = -1",
        "captured = 0",
        "status = 'pending'",
        "status = 'refunded'",
        "status = 'waiting_for_otp'",
        "status = 'processing'",
        "status = 'lost'",
        "refunded = 1",
        "amount = 0",
    ],
)
def test_the_database_refuses_what_does_not_add_up(payer, paid, change):
    with (
        payer.app.app_context(),
        pytest.raises(sqlite3.IntegrityError),
        context.store().writing() as connection,
    ):
        connection.execute(f"UPDATE invoices SET {change} WHERE id = ?", (paid,))
    assert money(payer, paid) == ("paid", 1000, 0)


def test_the_database_refuses_to_have_a_payment_paid_twice(payer, paid):
    with (
        payer.app.app_context(),
        pytest.raises(sqlite3.IntegrityError),
        context.store().writing() as connection,
    ):
        connection.execute("INSERT INTO moves SELECT NULL, invoice_id, before, after, cause, moved_at FROM moves")
    assert payer.moves(paid) == ["pending", "paid"]

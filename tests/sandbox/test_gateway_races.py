"""Threads let go at the same instant on one real database: two tabs, double clicks, repeats; always one payment."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from sandbox import worker
from tests.sandbox.factories import GOOD, NO_3DS, UNKNOWN
from tests.sandbox.payer import Payer

RIVALS = 8
ROUNDS = 3
ONCE, SLOW = "4000000000000069", "4000000000000051"
PATIENCE_SECONDS = 60


def race(*parts: Callable[[], Any]) -> list[Any]:
    """Run every part in a thread of its own, all of them from the same moment on."""
    start_line = threading.Barrier(len(parts), timeout=PATIENCE_SECONDS)

    def run(part: Callable[[], Any]) -> Any:
        start_line.wait()
        return part()

    with ThreadPoolExecutor(len(parts)) as pool:
        return [future.result(PATIENCE_SECONDS) for future in [pool.submit(run, part) for part in parts]]


@pytest.fixture
def rivals(app) -> list[Payer]:
    return [Payer(app, app.test_client()) for _ in range(RIVALS)]


def tabs(rivals: list[Payer], payment_id: str, card: str, **more: Any) -> list[Callable[[], Any]]:
    """Return a try in each of the rivals' tabs, which have the form open already."""
    tokens = [rival.open(payment_id) for rival in rivals]
    return [
        lambda rival=rival, token=token: rival.submit(payment_id, token, card, **more)
        for rival, token in zip(rivals, tokens, strict=True)
    ]


@pytest.mark.parametrize("_round", range(ROUNDS))
def test_of_many_tabs_one_pays(payer, rivals, _round):
    payment_id = payer.create()

    answers = race(*tabs(rivals, payment_id, NO_3DS))

    assert sorted(answer.status_code for answer in answers) == [303] + [409] * (RIVALS - 1)
    assert payer.moves(payment_id) == ["pending", "paid"]
    assert len(payer.webhooks(payment_id)) == 1
    assert payer.invoice(payment_id).attempts == 1


@pytest.mark.parametrize("_round", range(ROUNDS))
def test_repeats_with_one_key_are_one_payment_and_all_get_its_result(payer, rivals, _round):
    payment_id = payer.create()

    answers = race(*tabs(rivals, payment_id, NO_3DS, key="k"))

    assert {(answer.status_code, answer.location) for answer in answers} == {(303, f"/success/{payment_id}")}
    assert payer.moves(payment_id) == ["pending", "paid"]
    assert len(payer.webhooks(payment_id)) == 1


def test_one_key_on_two_payments_pays_one_of_them(payer, rivals):
    first, second = payer.create(), payer.create()
    half = RIVALS // 2
    payer.open(first)
    for rival in rivals:  # the tabs of one browser
        rival.client.set_cookie("csrf_token", payer.client.get_cookie("csrf_token").value)
    parts = tabs(rivals[:half], first, NO_3DS, key="k") + tabs(rivals[half:], second, NO_3DS, key="k")

    answers = race(*parts)

    places = {answer.location for answer in answers}
    assert len(places) == 1
    assert sorted(payer.invoice(payment_id).status for payment_id in (first, second)) == ["paid", "pending"]


def test_a_double_click_on_the_card_form_sends_one_code(payer, rivals):
    payment_id = payer.create()

    answers = race(*tabs(rivals, payment_id, GOOD))

    assert {answer.location for answer in answers} == {f"/otp/{payment_id}"}
    assert payer.moves(payment_id) == ["pending", "waiting_for_otp"]
    assert len(payer.client.get("/sandbox/api/inbox").json["items"]) == 1


@pytest.mark.parametrize("_round", range(ROUNDS))
def test_a_double_click_on_the_code_pays_once(payer, rivals, _round):
    payment_id = payer.create()
    payer.pay(payment_id)
    code = payer.code(payment_id)

    answers = race(*[lambda rival=rival: rival.enter(payment_id, code) for rival in rivals])

    assert sorted(answer.status_code for answer in answers) == [303] + [401] * (RIVALS - 1)
    assert payer.moves(payment_id) == ["pending", "waiting_for_otp", "paid"]
    assert len(payer.webhooks(payment_id)) == 1


def test_the_form_sent_again_by_the_back_button_changes_nothing(payer):
    payment_id = payer.create()
    token = payer.open(payment_id)
    payer.submit(payment_id, token)
    payer.enter(payment_id, payer.code(payment_id))
    before = payer.invoice(payment_id)

    assert payer.submit(payment_id, token).status_code == 409
    assert payer.submit(payment_id, token, UNKNOWN).status_code == 409
    assert payer.client.get(f"/checkout/{payment_id}").status_code == 409
    assert payer.invoice(payment_id) == before


@pytest.mark.parametrize("_round", range(ROUNDS))
def test_guesses_at_the_same_time_are_all_counted(payer, rivals, _round):
    payment_id = payer.create()
    payer.pay(payment_id)
    wrong = payer.wrong_code(payment_id)

    race(*[lambda rival=rival: rival.enter(payment_id, wrong) for rival in rivals])

    assert payer.invoice(payment_id).status == "failed"
    assert payer.moves(payment_id) == ["pending", "waiting_for_otp", "failed"]


@pytest.mark.parametrize("_round", range(ROUNDS))
def test_paying_declining_canceling_and_confirming_at_once_end_in_one_state(payer, rivals, _round):
    payment_id = payer.create()
    payer.pay(payment_id)
    code = payer.code(payment_id)

    race(
        *tabs(rivals[:2], payment_id, NO_3DS),
        *tabs(rivals[2:4], payment_id, UNKNOWN),
        lambda: rivals[4].enter(payment_id, code),
        lambda: rivals[5].act(payment_id, "cancel"),
    )

    final = payer.moves(payment_id)[2:]
    assert len([status for status in final if status in ("paid", "failed", "canceled")]) == 1
    assert payer.invoice(payment_id).status == final[-1]
    statuses = [webhook.status for webhook in payer.webhooks(payment_id)]
    assert statuses == ([] if final == ["canceled"] else final[-1:])


@pytest.mark.parametrize("_round", range(ROUNDS))
def test_the_last_moment_either_pays_or_expires(payer, rivals, clock, _round):
    payment_id = payer.create()
    payer.pay(payment_id)
    code = payer.code(payment_id)
    clock.move(minutes=4)

    def expire():
        clock.move(minutes=15)
        with payer.app.app_context():
            worker.settle_due()

    race(lambda: rivals[0].enter(payment_id, code), expire)

    final = payer.moves(payment_id)[2:]
    assert final in (["paid"], ["expired"])
    assert [webhook.status for webhook in payer.webhooks(payment_id)] == final


def test_a_slow_issuer_is_asked_once_by_two_tabs(payer, rivals):
    payment_id = payer.create()

    answers = race(*tabs(rivals[:2], payment_id, SLOW))

    assert {answer.location for answer in answers} <= {f"/success/{payment_id}", None}
    assert payer.moves(payment_id) == ["pending", "processing", "paid"]
    assert len(payer.webhooks(payment_id)) == 1


@pytest.mark.parametrize("_round", range(ROUNDS))
def test_the_once_card_succeeds_once_also_for_payments_at_the_same_time(payer, rivals, _round):
    parts = [tabs([rival], payer.create(), ONCE)[0] for rival in rivals]

    assert sorted(answer.status_code for answer in race(*parts)) == [303] + [402] * (RIVALS - 1)


@pytest.mark.parametrize("_round", range(ROUNDS))
def test_refunds_never_pass_what_was_captured(payer, rivals, _round):
    payment_id = payer.create(amount=1000)
    payer.pay(payment_id, NO_3DS)

    answers = race(*[lambda rival=rival: rival.act(payment_id, "refund", amount=400) for rival in rivals])

    assert sorted(answer.status_code for answer in answers) == [200, 200] + [400] * (RIVALS - 2)
    assert payer.invoice(payment_id).refunded == 800


def test_refunds_with_one_key_are_one_refund(payer, rivals):
    payment_id = payer.create(amount=1000)
    payer.pay(payment_id, NO_3DS)

    answers = race(*[lambda rival=rival: rival.act(payment_id, "refund", key="k", amount=100) for rival in rivals])

    assert {answer.json["refunded"] for answer in answers} == {100}


def test_many_workers_send_each_webhook_once(payer, rivals, shop):
    for _ in range(10):
        payer.pay(payer.create(webhookUrl=shop.url), NO_3DS)

    def work():
        with payer.app.app_context():
            return worker.deliver_due()

    assert sum(race(*[work] * 4)) == len(shop.received) == 10
    assert len({request.headers["x-payment-id"] for request in shop.received}) == 10

"""The same operation ids from two sources at the same instant: each source is credited once, and nothing locks up."""

import random
import uuid
from collections import Counter

from flask import Flask
from werkzeug.datastructures import Headers

import services
from banks.base import Message
from banks.plain import PlainBank
from context import now
from enums import UnknownInn
from tests import sources
from tests.factories import INN, OTHER_INN, make_body
from tests.races.rivals import run_rivals
from tests.sources import SecondBank

ROUNDS = 30
NAMESPACE = uuid.UUID("00000000-0000-4000-8000-000000000001")
AMOUNTS = {"plain": 1, "second": 1000}
Answer = tuple[str, int, str]


def announce(app: Flask, bank: PlainBank, number: int, inn: str) -> Answer:
    """Take a webhook of this bank; both banks use the same ids."""
    operation_id = str(uuid.uuid5(NAMESPACE, str(number)))
    body = make_body(operation_id=operation_id, amount=AMOUNTS[bank.name], payer_inn=inn)
    message = Message(headers=Headers(), content_type="application/json", body=body)
    with app.app_context():
        receipt = services.receive_webhook(bank, message, key_id="k", unknown_inn=UnknownInn.CREATE, now=now())
    return bank.name, number, receipt.status


def announce_of_either(app: Flask, number: int) -> Answer:
    return announce(app, random.choice((PlainBank(), SecondBank())), number, INN)


def announce_many_of_both(app: Flask, _number: int) -> list[Answer]:
    """Take every webhook of both banks in an order of this rival's own, for two organisations."""
    work = [(bank, number) for bank in (PlainBank(), SecondBank()) for number in range(15)]
    random.shuffle(work)
    return [announce(app, bank, number, (INN, OTHER_INN)[number % 2]) for bank, number in work]


def test_one_id_of_two_sources_at_the_same_instant_is_credited_once_each(database, client, check_ledger):
    answers = run_rivals(database.url, announce_of_either, processes=2, threads=8, rounds=ROUNDS)

    credited = Counter((source, number) for source, number, status in answers if status == "credited")
    seen = {(source, number) for source, number, _ in answers}
    assert {status for _, _, status in answers} == {"credited", "duplicate"}
    assert credited == dict.fromkeys(seen, 1)
    balance = sum(AMOUNTS[source] for source, _ in seen)
    assert client.get(f"/api/v1/organizations/{INN}/balance/").json["balance"] == balance
    assert database.count("payments") == len(seen)
    with sources.registered():
        check_ledger()


def test_many_of_two_sources_in_any_order_never_lock_up(database, client, check_ledger):
    rivals = run_rivals(database.url, announce_many_of_both, processes=2, threads=8)

    credited = Counter(
        (source, number) for answers in rivals for source, number, status in answers if status == "credited"
    )
    assert credited == dict.fromkeys(((source, number) for source in AMOUNTS for number in range(15)), 1)
    assert {status for answers in rivals for _, _, status in answers} == {"credited", "duplicate"}
    balances = {item["inn"]: item["balance"] for item in client.get("/api/v1/organizations/").json["items"]}
    assert balances == {INN: 8 * sum(AMOUNTS.values()), OTHER_INN: 7 * sum(AMOUNTS.values())}
    with sources.registered():
        check_ledger()

"""Rivals over one balance: debits against credits and debits; nobody gets what is not there, and nothing locks up."""

import random
import uuid
from collections import Counter

from flask import Flask

import services
from context import now
from errors import Overdraft
from ledger import organizations, transfers
from tests.callers import Bank
from tests.factories import INN, OTHER_INN, START, make_debit, make_org
from tests.races.rivals import run_rivals

ROUNDS = 30
NAMESPACE = uuid.UUID("00000000-0000-4000-8000-000000000002")
LIMIT = 500


def debit_the_same(app: Flask, number: int) -> str:
    """Ask for the debit of this round; every rival asks for the same one."""
    entry = make_debit(amount=1, operation_id=uuid.uuid5(NAMESPACE, str(number)))
    with app.app_context():
        return services.debit(entry).status


def test_one_operation_is_debited_once(database, client, context, check_ledger):
    make_org()
    organizations.set_overdraft_limit(INN, ROUNDS, by="test", now=START)

    statuses = run_rivals(database.url, debit_the_same, processes=2, threads=8, rounds=ROUNDS)

    assert Counter(statuses) == {"debited": ROUNDS, "duplicate": 15 * ROUNDS}
    assert client.get(f"/api/v1/organizations/{INN}/balance/").json["balance"] == -ROUNDS
    check_ledger()


def move_at_random(app: Flask, _number: int) -> list[tuple[str, int]]:
    """Credit and debit two organisations at random; return what was granted, each with its amount."""
    bank, dice, granted = Bank(app.test_client()), random.Random(), []
    for _ in range(20):
        inn, amount = dice.choice((INN, OTHER_INN)), dice.randrange(1, 200)
        if dice.random() < 1 / 3:
            assert bank.send(payer_inn=inn, amount=amount).json["status"] == "credited"
            granted.append((inn, amount))
            continue
        outside = dice.random() < 0.1
        try:
            with app.app_context():
                services.debit(make_debit(inn=inn, amount=amount, outside=outside))
            granted.append((inn, -amount))
        except Overdraft:
            assert not outside
    return granted


def test_debits_against_credits_and_debits_never_pass_the_limit(database, client, context, check_ledger):
    for inn in (INN, OTHER_INN):
        make_org(inn)
        organizations.set_overdraft_limit(inn, LIMIT, by="test", now=START)

    granted = [move for rival in run_rivals(database.url, move_at_random, processes=2, threads=8) for move in rival]

    balances = {item["inn"]: item["balance"] for item in client.get("/api/v1/organizations/").json["items"]}
    assert balances == {inn: sum(amount for of, amount in granted if of == inn) for inn in (INN, OTHER_INN)}
    assert database.count("balance_log") == len(granted)
    # Each row is held to its limit by the database, each version to be without a gap by the check.
    check_ledger()


def transfer_the_same(app: Flask, number: int) -> int:
    """Record the transfer of this round; every rival records the same one, and one of his own."""
    with app.app_context():
        for operation_id in (uuid.uuid5(NAMESPACE, str(number)), uuid.uuid4()):
            moved = transfers.transfer(
                operation_id=operation_id,
                debit_account="bank:plain",
                credit_account="transit:yookassa",
                amount=1,
                note="payout",
                by="test",
                now=now(),
            )
    return moved.number


def test_transfers_are_numbered_without_a_gap_and_each_is_there_once(database, context, check_ledger):
    numbers = run_rivals(database.url, transfer_the_same, processes=2, threads=2, rounds=10)

    assert len(set(numbers)) == 40
    assert database.count("transfers") == 50
    check_ledger()

"""Rivals over one operation, over one organisation, over one incident: one wins, nothing is lost, nothing locks up."""

import hashlib
import random
import uuid
from collections import Counter

import pytest
from flask import Flask

from auth import api_keys
from database.session import transaction
from models import ApiKey
from tests.callers import Bank, Operator
from tests.factories import INN, START, make_body, make_org
from tests.races.rivals import run_rivals

ROUNDS = 200
INNS = [f"{7_700_000_000 + number}" for number in range(20)]
NAMESPACE = uuid.UUID("00000000-0000-4000-8000-000000000000")


def announce_the_same(app: Flask, number: int) -> tuple[int, int, str]:
    """Send the operation of this round; every rival sends the same bytes."""
    answer = Bank(app.test_client()).send(operation_id=str(uuid.uuid5(NAMESPACE, str(number))))
    return number, answer.status_code, (answer.json or {}).get("status", answer.text)


def test_one_operation_from_64_threads_in_4_processes_is_credited_once(database, client, check_ledger):
    answers = run_rivals(database.url, announce_the_same, processes=4, threads=16, rounds=ROUNDS)

    assert len(answers) == 64 * ROUNDS
    assert Counter(answers) == {
        **{(number, 200, "credited"): 1 for number in range(ROUNDS)},
        **{(number, 200, "duplicate"): 63 for number in range(ROUNDS)},
    }
    assert (database.count("payments"), database.count("balance_log")) == (ROUNDS, ROUNDS)
    assert client.get(f"/api/v1/organizations/{INN}/balance/").json["balance"] == 145000 * ROUNDS
    check_ledger()


def announce_at_random(app: Flask, number: int) -> list[tuple[str, int, str]]:
    """Send twenty announcements for organisations in random order, a third of them repeats of what others send too."""
    bank, dice, seen = Bank(app.test_client()), random.Random(), []
    for step in range(20):
        shared = dice.random() < 1 / 3
        name = f"shared {dice.randrange(40)}" if shared else f"{uuid.uuid4()} {step}"
        operation_id = uuid.uuid5(NAMESPACE, name)
        inn = INNS[operation_id.int % len(INNS)]
        amount = operation_id.int % 1000 + 1
        answer = bank.send(operation_id=str(operation_id), payer_inn=inn, amount=amount)
        seen.append((str(operation_id), answer.status_code, (answer.json or {}).get("status", answer.text)))
    return seen


def test_50_threads_crediting_at_random_lose_nothing_and_never_lock_up(database, app, client, check_ledger):
    answers = [
        answer for rival in run_rivals(database.url, announce_at_random, processes=5, threads=10) for answer in rival
    ]

    assert len(answers) == 50 * 20
    assert {(status, word) for _, status, word in answers} == {(200, "credited"), (200, "duplicate")}
    credited = Counter(operation for operation, _, word in answers if word == "credited")
    operations = {operation for operation, _, _ in answers}
    assert credited == dict.fromkeys(operations, 1)
    expected: Counter[str] = Counter()
    for operation in operations:
        number = uuid.UUID(operation).int
        expected[INNS[number % len(INNS)]] += number % 1000 + 1
    balances = {item["inn"]: item["balance"] for item in client.get("/api/v1/organizations/").json["items"]}
    assert balances == expected
    assert app.test_cli_runner().invoke(args=["ledger", "verify"]).exit_code == 0
    check_ledger()


def announce_for_two_payers(app: Flask, number: int) -> tuple[int, int, str]:
    """Send the operation of this round for one of two unknown payers."""
    operation_id = str(uuid.uuid5(NAMESPACE, str(number)))
    payer = random.choice(("1000000002", "7812345675"))
    for _ in range(5):  # a 503 says: send the same again
        answer = Bank(app.test_client()).send(operation_id=operation_id, payer_inn=f"{number:03}{payer[3:]}")
        if answer.status_code != 503:
            break
    return number, answer.status_code, (answer.json or {}).get("status", answer.text)


def test_one_operation_for_two_payers_at_once_goes_to_one_and_leaves_no_empty_organisation(
    database, client, check_ledger
):
    rounds = 30
    answers = run_rivals(database.url, announce_for_two_payers, processes=2, threads=4, rounds=rounds)

    assert {status for _, status, _ in answers} == {200}
    assert Counter(number for number, _, word in answers if word == "credited") == dict.fromkeys(range(rounds), 1)
    assert database.count("organizations") == rounds
    assert database.count("payments") == rounds
    check_ledger()


def register_the_same(app: Flask, number: int) -> int:
    return Operator(app.test_client(), KEY).post("/organizations/", inn=INNS[number]).status_code


def assign_the_same(app: Flask, number: int) -> tuple[str, int]:
    """Assign the one incident to an organisation of this rival's choice."""
    inn = random.choice(INNS)
    operator = Operator(app.test_client(), KEY)
    (incident,) = operator.get("/incidents/", state="all").json["items"]
    return inn, operator.post(f"/incidents/{incident['id']}/assign/", inn=inn).status_code


def resolve_or_assign(app: Flask, number: int) -> tuple[str, int]:
    operator = Operator(app.test_client(), KEY)
    (incident,) = operator.get("/incidents/", state="all").json["items"]
    if random.random() < 0.5:
        return "assign", operator.post(f"/incidents/{incident['id']}/assign/", inn=INNS[0]).status_code
    return "resolve", operator.post(f"/incidents/{incident['id']}/resolve/", resolution="x").status_code


def assign_or_repeat(app: Flask, number: int) -> tuple[str, int, str]:
    """Assign the held money, or let the bank repeat it now that its payer is registered."""
    if random.random() < 0.5:
        inn, status = assign_the_same(app, number)
        return inn, status, "credited" if status == 200 else "refused"
    answer = Bank(app.test_client()).push(HELD)
    return INN, answer.status_code, answer.json["status"]


KEY = "kpk_of-the-rivals"
HELD = make_body(operation_id="ccf0a86d-041b-4991-bcf7-e2352f7b8a4a")


@pytest.fixture
def known_key(context, database):
    """A key that processes of their own know too."""
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    with transaction() as session:
        session.add(ApiKey(name="rivals", key_sha256=digest, scopes=" ".join(api_keys.SCOPES), created_at=START))


def test_one_organisation_registered_at_once_is_registered_once(database, known_key):
    answers = run_rivals(database.url, register_the_same, processes=2, threads=4, rounds=len(INNS))

    assert Counter(answers) == {201: len(INNS), 409: 7 * len(INNS)}
    assert database.count("organizations") == len(INNS)


@pytest.fixture
def held(make_app, known_key):
    """One incident that holds money, and organisations that could get it."""
    for inn in INNS:
        make_org(inn)
    assert Bank(make_app(UNKNOWN_INN="hold").test_client()).push(HELD).status_code == 202


def test_one_incident_assigned_at_once_is_credited_once(database, held, check_ledger):
    answers = run_rivals(database.url, assign_the_same, processes=2, threads=8)

    assert sorted(status for _, status in answers) == [200] + [409] * 15
    assert database.count("payments") == 1
    check_ledger()


def test_one_incident_resolved_and_assigned_at_once_has_one_ending(database, held, check_ledger):
    answers = run_rivals(database.url, resolve_or_assign, processes=2, threads=8)

    assert sorted(status for _, status in answers) == [200] + [409] * 15
    assert database.count("payments") == [word for word, status in answers if status == 200].count("assign")
    check_ledger()


def test_held_money_assigned_and_repeated_at_once_is_credited_once(database, held, check_ledger):
    make_org(INN)

    answers = run_rivals(database.url, assign_or_repeat, processes=2, threads=8)

    assert [word for _, _, word in answers].count("credited") == 1
    assert {status for _, status, _ in answers} <= {200, 409}
    assert database.count("payments") == 1
    check_ledger()


def conflict_the_same(app: Flask, number: int) -> int | None:
    body = HELD.replace(b"145000", b"1")
    incident: int | None = Bank(app.test_client()).push(body).json["incident_id"]
    return incident


def test_one_conflict_seen_at_once_is_one_incident_with_every_sight_counted(database, bank, operator, check_ledger):
    bank.push(HELD)

    answers = run_rivals(database.url, conflict_the_same, processes=2, threads=8, rounds=5)

    assert len(set(answers)) == 1
    (incident,) = operator.get("/incidents/").json["items"]
    assert incident["seen_count"] == 80
    check_ledger()

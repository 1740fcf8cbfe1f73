"""Rivals with one Idempotency-Key: the call is carried out once, and all of them hear the same answer."""

import threading
from collections import Counter

import pytest
from flask import Flask
from sqlalchemy import text

from auth import api_keys
from database.extension import db
from tests.callers import Bank, Operator
from tests.databases import FAMILIES
from tests.factories import INN, OTHER_INN, START, make_body, make_org
from tests.races.rivals import run_rivals

TOKEN = "kpk_known-to-every-rival"
ROUNDS = 10


@pytest.fixture(autouse=True)
def shared_key(context, database):
    """An API key whose text every rival knows."""
    api_keys.create(name="rivals", scopes=list(api_keys.SCOPES), now=START)
    with database.connection() as connection:
        connection.execute(text("UPDATE api_keys SET key_sha256 = :hash"), {"hash": api_keys._hash(TOKEN)})


def call(app: Flask, path: str, key: str, **body: object) -> tuple[int, str, bool]:
    headers = {"Authorization": f"Bearer {TOKEN}", "Idempotency-Key": key}
    answer = app.test_client().post(f"/api/v1{path}", json=body, headers=headers)
    return answer.status_code, answer.text, "Idempotent-Replayed" in answer.headers


def create_endpoint(app: Flask, number: int) -> tuple[int, tuple[int, str, bool]]:
    return number, call(app, "/endpoints/", f"round-{number}", url="https://example.com/")


@pytest.mark.parametrize(("processes", "threads"), [(1, 16), (4, 4)])
def test_one_endpoint_of_16_rivals_is_made_once(database, processes, threads):
    answers = run_rivals(database.url, create_endpoint, processes=processes, threads=threads, rounds=ROUNDS)

    assert len(answers) == 16 * ROUNDS
    assert database.count("endpoints") == ROUNDS
    for number in range(ROUNDS):
        of_round = Counter(answer for of, answer in answers if of == number)
        assert len({(status, body) for status, body, _ in of_round}) == 1
        assert sorted((replayed, times) for (_, _, replayed), times in of_round.items()) == [(False, 1), (True, 15)]
        assert {status for status, _, _ in of_round} == {201}


def refused(app: Flask, number: int) -> int:
    return call(app, "/endpoints/", f"round-{number}", url="https://example.com/", organization=OTHER_INN)[0]


def test_refused_call_is_refused_to_all_and_leaves_nothing(database):
    """The first of them rolls back each time, and another takes the key; on MariaDB they lock each other out."""
    statuses = set(run_rivals(database.url, refused, processes=2, threads=8, rounds=ROUNDS))

    assert statuses - ({503} if database.family == "mariadb" else set()) == {404}
    assert (database.count("endpoints"), database.count("idempotency_keys")) == (0, 0)


def different(app: Flask, number: int) -> tuple[int, str]:
    mine = threading.get_ident() % 1000
    return call(app, "/endpoints/", f"round-{number}", url=f"https://example.com/{mine}")[:2]


def test_rivals_with_other_bodies_are_refused(database):
    answers = run_rivals(database.url, different, processes=2, threads=8, rounds=ROUNDS)

    assert {status for status, _ in answers} <= {201, 409}
    assert len({body for status, body in answers if status == 201}) == ROUNDS
    assert database.count("endpoints") == ROUNDS


def assign(app: Flask, number: int) -> tuple[int, str]:
    (incident_id,) = Operator(app.test_client(), TOKEN).get("/incidents/", state="all", limit=1).json["items"]
    return call(app, f"/incidents/{incident_id['id']}/assign/", f"round-{number}", inn=OTHER_INN)[:2]


def test_money_that_16_rivals_assign_is_credited_once_and_all_hear_so(database, make_app, operator, check_ledger):
    make_org(OTHER_INN)
    Bank(make_app(UNKNOWN_INN="hold").test_client()).push(make_body(payer_inn=INN))

    answers = run_rivals(database.url, assign, processes=2, threads=8)

    assert len(set(answers)) == 1
    assert answers[0][0] == 200
    assert operator.get(f"/organizations/{OTHER_INN}/balance/").json["balance"] == 145000
    check_ledger()


@pytest.mark.parametrize("migrated", [name for name in FAMILIES if name != "sqlite"], indirect=True)
def test_call_that_waits_too_long_for_the_first_hears_so(app, context, database):
    """On SQLite everything that writes waits for the file, and says 503."""
    with db.engine.connect() as first:
        caller_id = first.scalar(text("SELECT id FROM api_keys WHERE name = 'rivals'"))
        name = "`key`" if database.family == "mariadb" else '"key"'
        first.execute(
            text(
                f"INSERT INTO idempotency_keys (id, caller_id, {name}, request_sha256, created_at) "
                "VALUES (:id, :caller_id, 'slow', '', :now)"
            ),
            {"id": "01900000000070008000000000000001", "caller_id": caller_id, "now": START.replace(tzinfo=None)},
        )
        headers = {"Authorization": f"Bearer {TOKEN}", "Idempotency-Key": "slow"}
        answer = app.test_client().post("/api/v1/endpoints/", json={"url": "https://example.com/"}, headers=headers)
        first.rollback()

    assert (answer.status_code, answer.json["type"]) == (409, "urn:kopeck:problem:idempotency-key-in-use")
    assert answer.headers["Retry-After"] == "5"
    assert call(app, "/endpoints/", "slow", url="https://example.com/")[0] == 201

"""The process is killed between every two statements of a use case: all of it is there afterwards, or nothing."""

import multiprocessing
import os
import signal
import uuid
from collections.abc import Callable

import pytest
from flask import Flask
from sqlalchemy import event, make_url
from werkzeug.test import TestResponse

import services
from app import create_app
from auth import api_keys
from database.extension import db
from ledger import organizations, transfers
from tests.callers import Bank
from tests.databases import Database
from tests.factories import INN, OTHER_INN, START, make_body, make_config, make_debit, make_org

BODY = make_body(operation_id="ccf0a86d-041b-4991-bcf7-e2352f7b8a4a")
CONFLICTING = BODY.replace(b"145000", b"1")
DEBIT_ID = uuid.UUID("ccf0a86d-041b-4991-bcf7-e2352f7b8a4b")
UNUSABLE = BODY.replace(b"145000", b"0")
STATEMENTS_MAX = 30
"""More than any use case has; the loop ends by itself when nothing was left to kill."""


PROCESSES = multiprocessing.get_context("forkserver")
"""Forked from one that has imported everything and connected to nothing."""

PROCESSES.set_forkserver_preload([__name__])


def kill_before(number: int) -> None:
    """Arrange for this process to die just before the given statement, or just before the commit of the last."""
    count = 0

    def die_in_time(*_: object) -> None:
        nonlocal count
        count += 1
        if count == number:
            os.kill(os.getpid(), signal.SIGKILL)

    event.listen(db.engine, "before_cursor_execute", die_in_time)
    event.listen(db.engine, "commit", die_in_time)


def child(url: str, body: bytes, policy: str, number: int) -> None:
    """Send one webhook in this process and be killed on the way; exit 0 when it went through."""
    app = create_app(make_config(make_url(url), UNKNOWN_INN=policy))
    with app.app_context():
        kill_before(number)
    Bank(app.test_client()).push(body)


def killed(database: Database, body: bytes, number: int, *, policy: str = "create") -> bool:
    """Run child() in a process of its own and return whether it was killed."""
    return was_killed(child, database, body, policy, number)


def was_killed(target: Callable[..., None], database: Database, *args: object) -> bool:
    url = database.url.render_as_string(hide_password=False)
    process = PROCESSES.Process(target=target, args=(url, *args))
    process.start()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL), "the child ended otherwise; what it said is above"
    return process.exitcode != 0


def test_credit_killed_anywhere_is_there_as_a_whole_or_not_at_all(database, bank, client, check_ledger):
    points = 0
    for number in range(1, STATEMENTS_MAX):
        database.clean()
        was_killed = killed(database, BODY, number)
        rows = [database.count(table) for table in ("organizations", "payments", "balance_log")]
        assert rows in ([[0, 0, 0], [1, 1, 1]] if was_killed else [[1, 1, 1]])
        check_ledger()
        if rows == [1, 1, 1]:  # after the commit the server only looks what waits
            break
        points += 1
        assert bank.push(BODY).json["status"] == "credited"
        assert bank.push(BODY).json["status"] == "duplicate"
        assert client.get(f"/api/v1/organizations/{INN}/balance/").json["balance"] == 145000
        check_ledger()
    assert points >= 8


@pytest.mark.parametrize(
    ("body", "policy", "word"),
    [
        (CONFLICTING, "create", "conflict"),
        (UNUSABLE, "create", 400),
        (make_body(payer_inn="7707083893"), "hold", "held"),
    ],
    ids=["conflict", "unusable body", "held money"],
)
def test_incident_killed_anywhere_is_kept_by_the_repeat(
    database, bank, make_app, context, check_ledger, body, policy, word
):
    make_org()
    bank.push(BODY)
    holding = Bank(make_app(UNKNOWN_INN=policy).test_client())
    points = 0
    for number in range(1, STATEMENTS_MAX):
        with database.unguarded() as connection:
            connection.exec_driver_sql("DELETE FROM incidents")
        was_killed = killed(database, body, number, policy=policy)
        kept = database.count("incidents")
        assert kept in ((0, 1) if was_killed else (1,))
        if kept:  # after the commit the server only looks what waits
            break
        points += 1
        assert holding.push(body).json["status"] == word
        assert database.count("incidents") == 1
    assert points >= 3
    check_ledger()


def calling_child(url: str, token: str, path: str, body: dict[str, object], number: int) -> None:
    """Call the API in this process and be killed on the way; exit 0 when it went through."""
    app = create_app(make_config(make_url(url)))
    with app.app_context():
        kill_before(number)
    call(app, token, path, body)


def call(app: Flask, token: str, path: str, body: dict[str, object]) -> TestResponse:
    headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": "k"}
    return app.test_client().post(f"/api/v1{path}", json=body, headers=headers)


def test_endpoint_with_an_idempotency_key_killed_anywhere_is_made_once_by_the_repeat(database, app, context):
    body, points = {"url": "https://example.com/"}, 0
    for number in range(1, STATEMENTS_MAX):
        database.clean()
        token = api_keys.create(name="caller", scopes=["endpoints:write"], now=START)
        killed_here = was_killed(calling_child, database, token, "/endpoints/", body, number)
        made = 0 if killed_here else 1
        assert (database.count("endpoints"), database.count("idempotency_keys")) == (made, made)
        answers = [call(app, token, "/endpoints/", body) for _ in range(2)]
        assert answers[0].json == answers[1].json
        assert ("Idempotent-Replayed" in answers[0].headers, answers[0].status_code) == (not killed_here, 201)
        assert (database.count("endpoints"), database.count("idempotency_keys")) == (1, 1)
        if not killed_here:
            break
        points += 1
    assert points >= 8


def test_money_assigned_with_an_idempotency_key_and_killed_anywhere_is_credited_once(
    database, app, make_app, context, check_ledger
):
    points = 0
    for number in range(1, STATEMENTS_MAX + 10):
        database.clean()
        token = api_keys.create(name="caller", scopes=list(api_keys.SCOPES), now=START)
        make_org(OTHER_INN)
        held = Bank(make_app(UNKNOWN_INN="hold").test_client()).push(BODY).json["incident_id"]
        path, body = f"/incidents/{held}/assign/", {"inn": OTHER_INN}
        killed_here = was_killed(calling_child, database, token, path, body, number)
        rows = [database.count(table) for table in ("payments", "incident_resolutions", "idempotency_keys")]
        assert rows == ([0, 0, 0] if killed_here else [1, 1, 1])
        answers = [call(app, token, path, body) for _ in range(2)]
        assert {answer.status_code for answer in answers} == {200}
        assert answers[0].json == answers[1].json
        assert database.count("payments") == 1
        check_ledger()
        if not killed_here:
            break
        points += 1
    assert points >= 12


def debiting_child(url: str, outside: bool, number: int) -> None:
    """Take money from a balance in this process and be killed on the way; exit 0 when it went through."""
    app = create_app(make_config(make_url(url)))
    with app.app_context():
        kill_before(number)
        services.debit(make_debit(amount=200, outside=outside, operation_id=DEBIT_ID))


@pytest.mark.parametrize("outside", [False, True], ids=["asked for", "outside"])
def test_debit_killed_anywhere_is_there_as_a_whole_or_not_at_all(database, context, check_ledger, outside):
    points = 0
    for number in range(1, STATEMENTS_MAX):
        database.clean()
        make_org()
        organizations.set_overdraft_limit(INN, 0 if outside else 200, by="test", now=START)
        killed_here = was_killed(debiting_child, database, outside, number)
        rows = [database.count(table) for table in ("debits", "balance_log", "incidents")]
        whole = [1, 1, int(outside)]
        assert rows in ([[0, 0, 0], whole] if killed_here else [whole])
        check_ledger()
        status = services.debit(make_debit(amount=200, outside=outside, operation_id=DEBIT_ID)).status
        assert status == ("duplicate" if rows == whole else "debited")
        assert organizations.find(INN).balance == -200
        check_ledger()
        if not killed_here:
            break
        points += 1
    assert points >= 7


def transferring_child(url: str, number: int) -> None:
    """Record a transfer in this process and be killed on the way; exit 0 when it went through."""
    app = create_app(make_config(make_url(url)))
    with app.app_context():
        kill_before(number)
        transfer()


def transfer() -> transfers.Moved:
    return transfers.transfer(
        operation_id=DEBIT_ID,
        debit_account="bank:plain",
        credit_account="transit:yookassa",
        amount=5,
        note="payout",
        by="test",
        now=START,
    )


def test_transfer_killed_anywhere_is_there_once(database, context, check_ledger):
    points = 0
    for number in range(1, STATEMENTS_MAX):
        database.clean()
        killed_here = was_killed(transferring_child, database, number)
        assert database.count("transfers") in ((0, 1) if killed_here else (1,))
        assert transfer().number == 1
        assert database.count("transfers") == 1
        check_ledger()
        if not killed_here:
            break
        points += 1
    assert points >= 4

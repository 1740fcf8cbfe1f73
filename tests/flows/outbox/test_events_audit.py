"""`flask ledger verify` compares each stored event with the move that it tells of: events are signed as they stand."""

import json

import pytest

from ledger.findings import Finding
from outbox import audit
from tests.factories import make_org
from tests.outboxes import open_endpoint, pay


@pytest.fixture
def announced(context, database):
    """Two credits, each with its event."""
    make_org()
    open_endpoint()
    pay(2)
    return database


def problems() -> list[str]:
    return [f"{step.row}: {step.problem}" for step in audit.verify() if isinstance(step, Finding)]


def change(database, statement: str) -> None:
    with database.unguarded() as connection:
        connection.exec_driver_sql(statement)


def changed_data(database, **members: object) -> None:
    with database.unguarded() as connection:
        id_, data = connection.exec_driver_sql("SELECT id, data FROM events ORDER BY id").first()
        mark = "?" if database.family == "sqlite" else "%s"
        connection.exec_driver_sql(
            f"UPDATE events SET data = {mark} WHERE id = {mark}", (json.dumps({**json.loads(data), **members}), id_)
        )


def test_events_as_they_were_written_are_clean(announced, check_ledger):
    assert announced.count("events") == 2
    assert problems() == []
    check_ledger()


@pytest.mark.parametrize(
    "members",
    [
        {"amount": 77000000},
        {"operation_id": "0190f1c2-0000-7000-8000-000000000001"},
        {"forward_id": "0190f1c2-0000-7000-8000-000000000001"},
        {"organization": "7707083893"},
        {"balance_after": 1},
        {"payer_inn": "7707083893"},
        {"source": "another"},
        {"unheard_of": 1},
        {"unheard_of": None},
        {"version": True},
        {"delta": 100.0},
    ],
    ids=str,
)
def test_member_that_says_otherwise_than_the_ledger_is_named(announced, app, members):
    changed_data(announced, **members)

    (problem,) = problems()
    assert problem.endswith(f"it says another {next(iter(members))} than the ledger")
    result = app.test_cli_runner().invoke(args=["ledger", "verify"])
    assert result.exit_code == 1
    assert problem in result.output


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("UPDATE events SET data = 'x' WHERE version = 1", "another amount"),
        ("UPDATE events SET data = '[]' WHERE version = 1", "another operation_id"),
        ("UPDATE events SET type = 'ping' WHERE version = 1", "its type is not that of a move"),
        ("UPDATE events SET type = 'ping', organization_id = NULL WHERE version = 1", "its move is not in the log"),
        ("UPDATE events SET type = 'x', organization_id = NULL, version = NULL", "its move is not in the log"),
        ("UPDATE events SET data = REPLACE(data, '{', '{\"amount\": 1, ') WHERE version = 1", "another amount"),
        ("UPDATE events SET version = 9 WHERE version = 1", "its move is not in the log"),
        ("UPDATE events SET occurred_at = '2020-01-01 00:00:00' WHERE version = 1", "its time is not that of its move"),
    ],
)
def test_event_that_was_changed_otherwise_is_named(announced, statement, words):
    change(announced, statement)

    assert any(words in problem for problem in problems())


def test_ping_is_clean(operator, receiver, loopback_app, check_ledger):
    with loopback_app.app_context():
        number = open_endpoint(receiver.url)
    assert operator.post(f"/endpoints/{number}/ping/").status_code < 300

    check_ledger()


def test_data_that_is_nested_too_deeply_is_named(announced):
    deep = "[" * 30_000 + "]" * 30_000
    change(announced, f"UPDATE events SET data = '{deep}' WHERE version = 1")

    assert any("another amount" in problem for problem in problems())


def test_event_of_a_payment_that_is_gone_is_left_to_the_ledger(announced, run):
    change(announced, "DELETE FROM payments")

    assert problems() == []
    result = run("ledger", "verify")
    status, output = result.exit_code, result.output
    assert (status, output.count("is missing")) == (1, 2)


def test_event_of_an_older_version_with_fewer_members_is_clean(announced):
    with announced.unguarded() as connection:
        for id_, data in connection.exec_driver_sql("SELECT id, data FROM events").all():
            members = json.loads(data)
            del members["source"], members["payer_inn"]
            mark = "?" if announced.family == "sqlite" else "%s"
            connection.exec_driver_sql(f"UPDATE events SET data = {mark} WHERE id = {mark}", (json.dumps(members), id_))

    assert problems() == []

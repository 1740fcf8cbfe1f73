"""The ledger posted again: equal row by row, or each difference named."""

import pytest
from sqlalchemy import text

import services
from database.session import transaction
from ledger import organizations, posting
from tests.factories import INN, OTHER_INN, START, make_body, make_credit, make_debit, make_org


@pytest.fixture
def again(run, tmp_path):
    """Post everything again into a file of SQLite."""
    return lambda: run("ledger", "rebuild", "--into", f"sqlite:///{tmp_path / 'again.db'}")


@pytest.fixture
def filled(context, make_app, bank):
    """Credits, debits of both kinds under several limits, an assignment, a transfer."""
    make_org(OTHER_INN)
    with transaction() as session:
        posting.post(session, [make_credit(amount=100), make_debit(amount=30), make_credit(inn=OTHER_INN, amount=7)])
    organizations.set_overdraft_limit(INN, 500, by="test", now=START)
    services.debit(make_debit(amount=400))
    organizations.set_overdraft_limit(INN, 400, by="test", now=START)
    services.debit(make_debit(amount=900, outside=True, counter_account="disputes:yookassa"))
    holding = type(bank)(make_app(UNKNOWN_INN="hold").test_client())
    incident = holding.push(make_body(payer_inn="7736050003", amount=12)).json["incident_id"]
    services.assign_incident(incident, inn=OTHER_INN, by="test", now=START)
    bank.send(amount=1000)


def test_it_is_equal(filled, again, database):
    before = database.rows()

    result = again()

    assert result.exit_code == 0, result.output
    assert "Equal: 7 rows posted again, every one with the same hash." in result.output
    assert database.rows() == before


def test_limits_may_have_been_equal_before_others(context, again):
    """Each row is posted under its own, and the last one holds in the end."""
    make_org()
    with transaction() as session:
        posting.post(session, [make_credit(amount=10)])
    for limit in (100, 0, 100):
        organizations.set_overdraft_limit(INN, limit, by="test", now=START)
    services.debit(make_debit(amount=110))

    result = again()

    assert result.exit_code == 0, result.output
    assert "Equal: 2 rows" in result.output


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (
            "UPDATE payments SET amount = amount + 1 WHERE amount = 100",
            f"balance_log inn {INN} version 1: posted again",
        ),
        ("UPDATE payments SET key_id = 'other' WHERE amount = 100", f"balance_log inn {INN} version 1: posted again"),
        ("UPDATE debits SET note = 'gift' WHERE amount = 30", f"balance_log inn {INN} version 2: posted again"),
        (
            "UPDATE organizations SET balance = balance + 1",
            f"organizations inn {OTHER_INN}: posted again it has another",
        ),
        ("DELETE FROM incident_resolutions", f"balance_log inn {OTHER_INN} version 2: posted again"),
        ("UPDATE overdraft_limits SET set_by = 'nobody'", f"overdraft_limits inn {INN} number 1: written again"),
        ("DELETE FROM balance_log WHERE version = 4", "debits: has 3 rows, of which 2 could be posted again"),
        (
            f"UPDATE balance_log SET organization_id = 999 WHERE organization_id = (SELECT id FROM organizations "
            f"WHERE inn = '{OTHER_INN}')",
            "balance_log: has 7 rows, of which 5 could be posted again",
        ),
    ],
)
def test_what_was_changed_is_named(filled, again, database, change, named):
    with database.unguarded() as connection:
        connection.execute(text(change))

    result = again()

    assert result.exit_code == 1
    assert named in result.output


def test_nothing_is_written_over_a_database(run, again, context):
    assert again().exit_code == 0
    result = again()

    assert result.exit_code == 1
    assert "not empty" in result.output


def test_password_has_no_place_on_a_command_line(run):
    result = run("ledger", "rebuild", "--into", "postgresql://u:secret@127.0.0.1:1/x")

    assert result.exit_code == 2
    assert "standard input" in result.output
    assert "secret" not in result.output

"""What commands print: nothing stored moves the terminal, and mistakes end in one line and an exit status."""

import json

import pytest
from sqlalchemy import text

from auth import api_keys
from tests.callers import Bank
from tests.databases import only
from tests.factories import INN, START, make_org
from tests.outboxes import open_endpoint, pay
from worker import jobs

EVIL = "a\x1b[2J\x9b31m\u202eb\u2028c\rd\ne\x00f\x7f"


@pytest.mark.parametrize(
    "args",
    [
        ["orgs", "show", "\udcff"],
        ["orgs", "show", "123"],
        ["incidents", "show", "99999999999999999999999"],
        ["incidents", "resolve", "1", ""],
        ["incidents", "resolve", "1", "\x1b[31m"],
        ["incidents", "assign", "1", "x"],
        ["keys", "create", "a\nb", "--all"],
        ["keys", "revoke", "\udcff"],
        ["ledger", "statement", INN, "--from", "0001-01-01T00:00:00+23:59"],
        ["ledger", "statement", INN, "--from", "2024-04-27"],
    ],
)
def test_argument_of_the_wrong_shape_is_a_usage_error(run, database, args):
    result = run(*args)

    assert result.exit_code == 2
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    "args",
    [
        ["orgs", "show", "7707083893"],
        ["ledger", "statement", "7707083893"],
        ["incidents", "show", "99"],
        ["incidents", "resolve", "99", "x"],
        ["incidents", "assign", "99", INN],
        ["keys", "revoke", "nobody"],
    ],
)
def test_what_is_not_there_ends_in_one_line(run, database, args):
    result = run(*args)

    assert result.exit_code == 1
    assert result.output.startswith("Error: ")
    assert "Traceback" not in result.output


def test_nothing_stored_can_move_the_terminal(run, operator):
    operator.post("/organizations/", inn="7707083893", name="a\u202eb\u2028c")

    assert "a\\u202eb\\u2028c" in run("orgs", "list").output
    assert "a\\u202eb\\u2028c" in run("orgs", "show", "7707083893").output


@only("sqlite")
def test_nothing_stored_can_pass_for_a_finding_or_for_none(run, bank, database):
    """SQLite keeps whatever it is given: past its checks any column may hold anything."""
    bank.send()
    evil = "1\x1b]0;title\x07\x1b[31m\nClean: 9 rows"
    with database.unguarded() as connection:
        connection.execute(text("UPDATE organizations SET inn = :evil, balance = 1"), {"evil": evil})

    result = run("ledger", "verify")

    assert result.exit_code == 1
    assert "\x1b" not in result.output
    assert "\x07" not in result.output
    assert not [line for line in result.output.splitlines() if line.startswith("Clean")]
    assert "\\x1b[31m\\nClean: 9 rows" in result.output


@only("sqlite")
@pytest.mark.parametrize(
    "args",
    [
        ["ledger", "statement", INN],
        ["ledger", "payments", INN],
        ["orgs", "list"],
        ["orgs", "show", INN],
        ["incidents", "list", "--state", "all"],
        ["incidents", "show", "1"],
        ["endpoints", "list"],
        ["endpoints", "show", "1"],
        ["deliveries", "list"],
        ["deliveries", "show", "1"],
        ["keys", "list"],
        ["secrets", "rotate"],
    ],
)
def test_no_command_lets_a_stored_text_move_the_terminal(run, loopback_app, database, args):
    Bank(loopback_app.test_client()).send(amount=0)
    with loopback_app.app_context():
        make_org()
        api_keys.create(name="key", scopes=[], now=START)
        open_endpoint()
        pay(1)
        jobs.deliver_one(1)
    columns = {
        "organizations": ("name", "currency"),
        "payments": ("document_number", "source", "key_id", "payer_inn"),
        "incidents": ("source", "key_id", "resolution", "resolved_by", "kind", "facts", "body"),
        "endpoints": ("url", "description", "event_types"),
        "delivery_attempts": ("excerpt", "error", "cause"),
        "api_keys": ("name", "scopes"),
    }
    with database.unguarded() as connection:
        connection.execute(text("PRAGMA ignore_check_constraints = ON"))
        for table, names in columns.items():
            for name in names:
                evil = json.dumps({"\u202e": "\u009b31m"}, ensure_ascii=False) if name == "facts" else EVIL
                value = evil.encode() if name == "body" else evil
                connection.execute(text(f"UPDATE {table} SET {name} = :evil"), {"evil": value})

    output = run(*args).output

    assert len(output.splitlines()) == output.count("\n")
    assert not [character for character in output if character != "\n" and not character.isprintable()]

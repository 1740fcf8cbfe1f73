"""`flask ledger verify` names each row that does not add up; the damage is done past triggers and keys."""

import pytest
from sqlalchemy import text

from tests.databases import only
from tests.factories import INN

SECOND = "SELECT payment_id FROM (SELECT payment_id FROM balance_log WHERE version = 2) AS second"
PAYMENT_2 = f"(SELECT operation_id FROM (SELECT operation_id FROM payments WHERE id = ({SECOND})) AS two)"

DAMAGE = {
    "changed amount in the log": (
        "UPDATE balance_log SET delta = delta + 1, balance_after = balance_after + 1 WHERE version = 2",
        f"balance_log inn {INN} version 2",
    ),
    "changed amount of a payment": (
        f"UPDATE payments SET amount = amount + 1 WHERE id = ({SECOND})",
        f"balance_log inn {INN} version 2",
    ),
    "deleted log row": ("DELETE FROM balance_log WHERE version = 2", f"balance_log inn {INN} version 3"),
    "deleted last log row": ("DELETE FROM balance_log WHERE version = 3", f"organizations inn {INN}"),
    "every log row deleted": ("DELETE FROM balance_log", f"organizations inn {INN}"),
    "deleted payment": (f"DELETE FROM payments WHERE id = ({SECOND})", f"balance_log inn {INN} version 2"),
    "changed balance": ("UPDATE organizations SET balance = balance + 1", f"organizations inn {INN}"),
    "changed version": ("UPDATE organizations SET version = version + 1", f"organizations inn {INN}"),
    "added log row": (
        "INSERT INTO balance_log SELECT organization_id, 4, delta, 6, 6 + delta, "
        "CASE WHEN 1 = 1 THEN id END, reason, created_at FROM balance_log, "
        "(SELECT operation_id AS id FROM payments LIMIT 1) AS other WHERE version = 3",
        f"balance_log inn {INN} version 4",
    ),
    "log row moved to another organisation": (
        "UPDATE balance_log SET organization_id = organization_id + 1000000 WHERE version = 3",
        "balance_log organization_id",
    ),
    "log row of another version": ("UPDATE balance_log SET version = 7 WHERE version = 3", f"inn {INN} version 7"),
    "payment moved to another organisation": (
        f"UPDATE payments SET organization_id = organization_id + 1000000 WHERE id = ({SECOND})",
        f"balance_log inn {INN} version 2",
    ),
    "added payment": (
        "INSERT INTO payments SELECT operation_id, id, external_id, source, organization_id, payer_inn, amount, "
        "currency, document_number, document_date, body, body_sha256, key_id, received_at FROM payments LIMIT 1",
        "payments ",
    ),
    "changed body": ("UPDATE payments SET body = '{}'", "payments "),
    "changed currency of an organisation": ("UPDATE organizations SET currency = 'USD'", f"organizations inn {INN}"),
    "changed currency": ("UPDATE payments SET currency = 'USD'", "payments "),
    "log shifted as a whole": (
        "UPDATE balance_log SET balance_before = balance_before + 5, balance_after = balance_after + 5 "
        "WHERE version > 1",
        f"balance_log inn {INN} version 2",
    ),
}


@pytest.fixture
def runner(app):
    return app.test_cli_runner()


@pytest.fixture
def three_credits(bank):
    for amount in (1, 2, 3):
        bank.send(amount=amount)


def test_sound_ledger_is_clean(three_credits, runner):
    result = runner.invoke(args=["ledger", "verify"])

    assert (result.exit_code, result.output) == (0, "Clean: 6 rows re-added, every balance explained.\n")


def test_empty_ledger_is_clean(runner):
    assert runner.invoke(args=["ledger", "verify"]).exit_code == 0


@pytest.mark.parametrize(("statement", "named"), DAMAGE.values(), ids=DAMAGE)
def test_damage_is_named(three_credits, runner, database, statement, named):
    with database.unguarded() as connection:
        assert connection.execute(text(statement)).rowcount >= 1

    result = runner.invoke(args=["ledger", "verify"])

    assert result.exit_code == 1
    assert named in result.output
    assert "findings in" in result.output


@only("sqlite")  # the others keep no such values in a column of whole numbers
def test_half_kopecks_are_named(three_credits, runner, database):
    with database.unguarded() as connection:
        connection.exec_driver_sql(
            "UPDATE balance_log SET delta = delta + 0.5, balance_after = balance_after + 0.5 WHERE version = 2"
        )

    result = runner.invoke(args=["ledger", "verify"])

    assert result.exit_code == 1
    assert f"balance_log inn {INN} version 2: holds something else than whole kopecks" in result.output


def test_damage_in_one_organisation_is_not_blamed_on_another(bank, runner, database):
    bank.send(payer_inn="7707083893")
    bank.send(payer_inn="7736050003")
    with database.unguarded() as connection:
        connection.execute(text("UPDATE organizations SET balance = 1 WHERE inn = '7736050003'"))

    result = runner.invoke(args=["ledger", "verify"])

    assert "7736050003" in result.output
    assert "7707083893" not in result.output

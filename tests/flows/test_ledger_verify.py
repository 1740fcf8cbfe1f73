"""`flask ledger verify` names each row that does not add up; the damage is done past triggers and keys."""

import hashlib
import json
import re

import pytest
from sqlalchemy import text

import services
from database.session import transaction
from ledger import posting
from tests.callers import Bank
from tests.databases import only
from tests.factories import INN, OTHER_INN, make_body, make_credit, make_debit, make_org
from tests.listeners import ELSEWHERE, subscribe

SECOND = "SELECT payment_id FROM (SELECT payment_id FROM balance_log WHERE version = 2) AS second"
PAYMENT_2 = f"(SELECT operation_id FROM (SELECT operation_id FROM payments WHERE id = ({SECOND})) AS two)"

REST = (
    "source, organization_id, payer_inn, amount, currency, document_number, document_date, body, body_sha256, key_id, "
    "received_at"
)
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
        "INSERT INTO balance_log (organization_id, version, delta, balance_before, balance_after, payment_id, reason, "
        "created_at, counter_account, overdraft_limit, row_sha256) SELECT organization_id, 4, delta, 6, 6 + delta, "
        "CASE WHEN 1 = 1 THEN id END, reason, created_at, counter_account, overdraft_limit, row_sha256 "
        "FROM balance_log, (SELECT operation_id AS id FROM payments LIMIT 1) AS other WHERE version = 3",
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
        f"INSERT INTO payments (id, operation_id, {REST}) SELECT operation_id, id, {REST} FROM payments LIMIT 1",
        "payments ",
    ),
    "changed body": ("UPDATE payments SET body = '{}'", "its body is not the one whose SHA-256 was kept"),
    "another operation": (
        f"UPDATE payments SET operation_id = id WHERE id = ({SECOND})",
        "its body says operation_id",
    ),
    "another payer": (
        f"UPDATE payments SET payer_inn = '{OTHER_INN}' WHERE id = ({SECOND})",
        "its body says payer_inn",
    ),
    "another document": (
        f"UPDATE payments SET document_number = 'PAY-329' WHERE id = ({SECOND})",
        "its body says document_number PAY-328, the row says PAY-329",
    ),
    "another date of the document": (
        f"UPDATE payments SET document_date = '2024-04-28 21:00:00' WHERE id = ({SECOND})",
        "its body says document_date 2024-04-27T21:00:00Z, the row says 2024-04-28T21:00:00Z",
    ),
    "handed on under another id": (
        f"UPDATE payments SET forward_id = id WHERE id = ({SECOND})",
        "its forward_id is not one that a migration has written",
    ),
    "handed on under its own id, which the plain bank's never name": (
        f"UPDATE payments SET forward_id = operation_id WHERE id = ({SECOND})",
        "its forward_id is not one that a migration has written",
    ),
    "an id of another kind": (
        f"UPDATE payments SET external_id = '7' WHERE id = ({SECOND})",
        "its body says external_id",
    ),
    "received at another time": (
        f"UPDATE payments SET received_at = '2026-02-01 12:00:00' WHERE id = ({SECOND})",
        "its id was made at another time",
    ),
    "logged at another time": (
        "UPDATE balance_log SET created_at = '2026-02-01 12:00:00' WHERE version = 2",
        "its row of balance_log has another time",
    ),
    "organisation with another INN": (
        f"UPDATE organizations SET inn = '{OTHER_INN}'",
        f"was credited to inn {OTHER_INN}, its payer is {INN}, and no assignment explains it",
    ),
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
def three_credits(bank, operator):
    """Credit three payments to which somebody listens, so that there are events to compare as well."""
    subscribe(operator, ELSEWHERE)
    for amount in (1, 2, 3):
        bank.send(amount=amount)


def test_sound_ledger_is_clean(three_credits, runner):
    result = runner.invoke(args=["ledger", "verify"])

    assert (result.exit_code, result.output) == (
        0,
        "Clean: 6 rows of log, payments and incidents re-added, every balance explained.\n",
    )


def test_empty_ledger_is_clean(runner):
    assert runner.invoke(args=["ledger", "verify"]).exit_code == 0


@pytest.mark.parametrize(("statement", "named"), DAMAGE.values(), ids=DAMAGE)
def test_damage_is_named(three_credits, runner, database, statement, named):
    with database.unguarded() as connection:
        assert connection.execute(text(statement)).rowcount >= 1

    result = runner.invoke(args=["ledger", "verify"])

    assert result.exit_code == 1
    assert named in result.output
    assert re.search(r"\b(1 finding|\d+ findings) in ", result.output)


def test_source_that_is_no_bank_is_named_with_its_row(three_credits, runner, database):
    """It may be a bank that was taken out: nobody can tell, and so it is not clean."""
    with database.unguarded() as connection:
        connection.execute(text(f"UPDATE payments SET source = 'other' WHERE id = ({SECOND})"))

    result = runner.invoke(args=["ledger", "verify"])

    assert result.exit_code == 1
    assert (
        "bank other: is not in the registry, so 1 stored body cannot be read again, first of all that of payments 0"
        in (result.output)
    )
    assert "Clean" not in result.output


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


def test_swapped_organisations_are_named(bank, runner, database):
    bank.send(payer_inn=INN)
    bank.send(payer_inn=OTHER_INN)
    with database.unguarded() as connection:
        for old, new in ((INN, "0000000000"), (OTHER_INN, INN), ("0000000000", OTHER_INN)):
            connection.execute(text(f"UPDATE organizations SET inn = '{new}' WHERE inn = '{old}'"))

    result = runner.invoke(args=["ledger", "verify"])

    assert f"was credited to inn {OTHER_INN}, its payer is {INN}" in result.output
    assert f"was credited to inn {INN}, its payer is {OTHER_INN}" in result.output


def test_body_rewritten_with_its_hash_is_named(bank, runner, database):
    bank.send(amount=145000)
    with database.unguarded() as connection:
        stored = json.loads(bytes(connection.scalar(text("SELECT body FROM payments"))))
        body = json.dumps({**stored, "amount": 1}).encode()
        connection.execute(
            text("UPDATE payments SET body = :body, body_sha256 = :sha256"),
            {"body": body, "sha256": hashlib.sha256(body).hexdigest()},
        )

    result = runner.invoke(args=["ledger", "verify"])

    assert result.exit_code == 1
    assert "its body says amount 1, the row says 145000" in result.output


def test_body_that_no_bank_would_send_is_named(bank, runner, database):
    bank.send()
    with database.unguarded() as connection:
        sha256 = hashlib.sha256(b"{}").hexdigest()
        connection.execute(
            text("UPDATE payments SET body = :body, body_sha256 = :sha256"), {"body": b"{}", "sha256": sha256}
        )

    result = runner.invoke(args=["ledger", "verify"])

    assert "its body cannot be read as one of the bank plain" in result.output


@pytest.fixture
def held(make_app, operator):
    """Return the number of an incident that holds money of an unknown INN, beside another organisation."""
    holding = make_app(UNKNOWN_INN="hold").test_client()
    operator.post("/organizations/", inn=OTHER_INN, name="Somebody else")
    answer = Bank(holding).send()
    assert answer.status_code == 202
    return answer.json["incident_id"]


def test_assignment_explains_another_organisation(held, operator, runner, check_ledger):
    assert operator.post(f"/incidents/{held}/assign/", inn=OTHER_INN).status_code == 200

    check_ledger()


@pytest.fixture
def note_in_the_words_of_an_assignment(make_app, bank, operator, clock, database) -> None:
    """Money that was on hold, noted away as older versions let a person do, and credited to its payer since."""
    operator.post("/organizations/", inn=OTHER_INN, name="Somebody else")
    body = make_body()
    held = Bank(make_app(UNKNOWN_INN="hold").test_client()).push(body).json["incident_id"]
    operator.post(f"/incidents/{held}/resolve/", resolution="looked at")
    with database.unguarded() as connection:
        for table in ("incidents", "incident_resolutions"):
            connection.execute(text(f"UPDATE {table} SET resolution = :note"), {"note": f"assigned to {OTHER_INN}"})
    clock.move(minutes=1)
    assert bank.push(body).json["status"] == "credited"


def take_to_another_organisation(database) -> None:
    """Let the organisation that was credited and another one change places."""
    with database.unguarded() as connection:
        for old, new in ((OTHER_INN, "0000000000"), (INN, OTHER_INN)):
            connection.execute(text(f"UPDATE organizations SET inn = '{new}' WHERE inn = '{old}'"))


def test_note_of_a_person_explains_no_other_organisation(note_in_the_words_of_an_assignment, runner, database):
    take_to_another_organisation(database)

    output = runner.invoke(args=["ledger", "verify"]).output

    assert f"was credited to inn {OTHER_INN}, its payer is {INN}, and no assignment explains it" in output


def test_note_of_a_person_blames_no_credit_of_the_payer(note_in_the_words_of_an_assignment, check_ledger):
    check_ledger()


def test_assignment_that_stands_only_in_the_incident_is_not_believed(
    note_in_the_words_of_an_assignment, runner, database
):
    """What can be changed in the table explains nothing; the row of the resolution is protected."""
    take_to_another_organisation(database)
    with database.unguarded() as connection:
        moved = "SELECT received_at FROM payments"
        connection.execute(
            text(f"UPDATE incidents SET resolved_at = ({moved}), resolution = 'assigned to {OTHER_INN}'")
        )

    assert "no assignment explains it" in runner.invoke(args=["ledger", "verify"]).output


def test_money_elsewhere_than_assigned_is_named(held, operator, runner, database):
    operator.post(f"/incidents/{held}/assign/", inn=OTHER_INN)
    with database.unguarded() as connection:
        connection.execute(text(f"UPDATE organizations SET inn = '{INN}' WHERE inn = '{OTHER_INN}'"))

    output = runner.invoke(args=["ledger", "verify"]).output

    assert f"was credited to inn {INN}, its incident was assigned to {OTHER_INN}" in output


def test_changed_facts_of_an_incident_are_named_before_they_become_money(held, runner, database):
    with database.unguarded() as connection:
        facts = connection.scalar(text("SELECT facts FROM incidents"))
        facts = json.loads(facts) if isinstance(facts, str) else facts
        facts["announced"]["amount"] = 1
        connection.execute(text("UPDATE incidents SET facts = :facts"), {"facts": json.dumps(facts)})

    output = runner.invoke(args=["ledger", "verify"]).output

    assert f"incidents {held}: its body says amount 145000, the row says 1" in output


def test_changed_body_of_an_incident_is_named(bank, runner, database):
    bank.push(b"{}")
    with database.unguarded() as connection:
        connection.execute(text("UPDATE incidents SET body = :body"), {"body": make_body()})

    assert "its body is not the one whose SHA-256 was kept" in runner.invoke(args=["ledger", "verify"]).output


@only("sqlite")  # the others keep no such values
@pytest.mark.parametrize(
    "change",
    [
        "operation_id = 'none'",
        "document_date = 'yesterday'",
        "received_at = 12",
        "amount = 'much'",
        "organization_id = 'x'",
    ],
)
def test_values_of_another_kind_are_named(three_credits, runner, database, change):
    with database.unguarded() as connection:
        connection.exec_driver_sql("PRAGMA ignore_check_constraints = ON")
        connection.exec_driver_sql(f"UPDATE payments SET {change} WHERE id = ({SECOND})")

    result = runner.invoke(args=["ledger", "verify"])

    assert result.exit_code == 1
    assert "payments" in result.output
    assert isinstance(result.exception, SystemExit)


@only("postgresql", "mariadb")
@pytest.mark.parametrize(("table", "column"), [("events", "occurred_at"), ("payments", "document_date")])
def test_moments_that_no_program_can_read_are_named(three_credits, run, database, table, column):
    moment = "infinity" if database.family == "postgresql" else "0000-00-00 00:00:00"
    with database.unguarded() as connection:
        if database.family == "mariadb":
            connection.execute(text("SET sql_mode = ''"))
        connection.execute(text(f"UPDATE {table} SET {column} = '{moment}'"))
        connection.execute(text("UPDATE organizations SET version = 7"))

    result = run("ledger", "verify")

    assert (result.exit_code, isinstance(result.exception, SystemExit)) == (1, True)
    assert f"{table}" in result.output
    # What is looked at after it, and before; the log is read beside its payments.
    assert {"events": "organizations inn", "payments": "balance_log: hold"}[table] in result.output
    assert "events and their payments: hold a value of another kind" in result.output


@only("sqlite")  # the others keep no such values
@pytest.mark.parametrize("change", ["occurred_at = 'yesterday'", "data = 7"])
def test_values_of_another_kind_in_events_are_named(three_credits, run, database, tmp_path, change):
    with database.unguarded() as connection:
        connection.exec_driver_sql(f"UPDATE events SET {change} WHERE version = 2")

    for command in (("ledger", "verify"), ("backup", "create", str(tmp_path / "copy.db"))):
        result = run(*command)
        status, output = result.exit_code, result.output

        assert (status, "\nevents" in output or output.startswith("events")) == (1, True)
        assert "finding" in output


@only("sqlite")  # it alone lets a connection write what the constraint refuses
def test_reason_that_nobody_knows_is_named(three_credits, runner, database):
    with database.unguarded() as connection:
        connection.exec_driver_sql("PRAGMA ignore_check_constraints = ON")
        connection.exec_driver_sql("UPDATE balance_log SET reason = 'gift' WHERE version = 2")

    assert "gives the reason gift" in runner.invoke(args=["ledger", "verify"]).output


@only("sqlite", "mariadb")  # PostgreSQL has a type for ids
@pytest.mark.parametrize(
    ("table", "column"), [("payments", "operation_id"), ("payments", "id"), ("balance_log", "payment_id")]
)
def test_id_in_another_spelling_is_named(three_credits, runner, database, table, column):
    """The unique constraint takes it for another one, so the next repeat of the bank would be credited again."""
    with database.unguarded() as connection:
        connection.execute(text(f"UPDATE {table} SET {column} = upper({column})"))

    result = runner.invoke(args=["ledger", "verify"])

    assert result.exit_code == 1
    assert f"its {column} is not written as we write it" in result.output


@only("sqlite")  # the others have a type for moments
def test_moment_in_another_spelling_is_named(three_credits, runner, database):
    with database.unguarded() as connection:
        connection.execute(text("UPDATE payments SET received_at = replace(received_at, ' ', 'T')"))

    result = runner.invoke(args=["ledger", "verify"])

    assert result.exit_code == 1
    assert "its received_at is not written as we write it" in result.output


def test_limit_that_nobody_set_is_named_after_it_was_taken_back(context, runner, database):
    make_org()
    with database.unguarded() as connection:
        connection.execute(text("UPDATE organizations SET overdraft_limit = 1000000"))
    services.debit(make_debit(amount=500))
    with transaction() as session:
        posting.post(session, [make_credit(amount=500)])
    with database.unguarded() as connection:
        connection.execute(text("UPDATE organizations SET overdraft_limit = 0"))

    result = runner.invoke(args=["ledger", "verify"])

    assert result.exit_code == 1
    assert f"balance_log inn {INN} version 1: was posted under an overdraft limit of 1000000" in result.output

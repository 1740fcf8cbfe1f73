"""A bank is taken out of the registry: what waits of it stays, and is named; what it paid cannot be read again."""

import pytest
from flask import Flask
from sqlalchemy import text

from limits import INBOX_ATTEMPTS_BEFORE_INCIDENT, INBOX_OVERDUE_SECONDS
from tests import sources
from tests.callers import Bank
from tests.databases import only
from tests.factories import INN
from tests.listeners import credit
from tests.sources import SECOND_PATH, SECOND_SECRET, SECOND_SETTINGS


@pytest.fixture
def app(make_app) -> Flask:
    return make_app(BALANCE_UPDATES="queued")


def send_as_second(make_app, updates: str) -> None:
    """Announce two payments while the second bank is in the registry."""
    with sources.registered():
        sender = Bank(make_app(BALANCE_UPDATES=updates, **SECOND_SETTINGS).test_client(), SECOND_SECRET)
        for amount in (1, 2):
            assert sender.send(to=SECOND_PATH, amount=amount).status_code == 200


def balance(operator) -> int | None:
    return operator.get(f"/organizations/{INN}/balance/").json.get("balance")


class TestWaiting:
    @pytest.fixture(autouse=True)
    def two_that_wait(self, make_app) -> None:
        send_as_second(make_app, "queued")

    def test_list_names_the_bank_and_asks_for_no_worker(self, run, clock):
        result = run("inbox", "list")
        assert result.exit_code == 0
        assert "2 webhooks of bank second" in result.output
        assert "No bank of this name is in the registry" in result.output
        clock.move(seconds=INBOX_OVERDUE_SECONDS + 1)

        for command in (("inbox", "list"), ("ledger", "verify")):
            result = run(*command)

            assert result.exit_code == 1
            assert "Not in the registry: second. Enter it in banks/ again and set its secrets" in result.output
            assert "flask worker" not in result.output

    def test_both_are_said_where_others_wait_too(self, run, bank, client, clock):
        bank.send()
        clock.move(seconds=INBOX_OVERDUE_SECONDS + 1)

        result = run("inbox", "list")
        warnings = client.get("/readyz").json["warnings"]

        assert "flask worker" in result.output
        assert "Not in the registry: second." in result.output
        assert [("bank second" in each, "Is a worker running?" in each) for each in warnings] == [
            (True, False),
            (False, True),
        ]

    def test_credit_says_what_it_had_to_leave(self, run):
        result = run("inbox", "credit")

        assert "2 left.\n" in result.output
        assert "2 webhooks of bank second" in result.output

    def test_one_incident_names_the_bank_and_says_what_to_do(self, app, operator, clock, caplog):
        for _ in range(INBOX_ATTEMPTS_BEFORE_INCIDENT + 2):
            credit(app)
            clock.move(hours=1)

        (incident,) = operator.get("/incidents/").json["items"]
        assert (incident["kind"], incident["source"], incident["seen_count"]) == ("stuck_webhook", "second", 1)
        assert "Enter it in banks/ again and set its secrets" in incident["facts"]["problem"]
        assert "its bank is not in the registry" in caplog.text
        assert "Traceback" not in caplog.text

    def test_door_tells_a_person_where_no_worker_runs(self, bank, operator, clock, caplog):
        clock.move(seconds=INBOX_OVERDUE_SECONDS + 1)
        bank.send()

        (incident,) = operator.get("/incidents/").json["items"]
        assert incident["source"] == "second"
        assert "Webhooks of bank second wait in the inbox since 2026-03-01T12:00:00Z" in caplog.text

    def test_it_does_not_hide_that_no_worker_runs(self, bank, operator, clock):
        for _ in range(3):
            bank.send()
            clock.move(seconds=INBOX_OVERDUE_SECONDS + 1)

        found = [(incident["kind"], incident["source"]) for incident in operator.get("/incidents/").json["items"]]
        assert sorted(found) == [("stuck_webhook", "plain"), ("stuck_webhook", "second")]

    def test_it_is_credited_once_the_bank_is_back(self, make_app, app, operator, clock, database, check_ledger):
        credit(app)
        assert (balance(operator), database.count("inbox")) == (None, 2)
        clock.move(hours=1)

        with sources.registered():
            credit(make_app(**SECOND_SETTINGS))

            assert (balance(operator), database.count("inbox")) == (3, 0)
            check_ledger()


class TestCredited:
    @pytest.fixture(autouse=True)
    def two_that_are_credited(self, make_app) -> None:
        send_as_second(make_app, "immediate")

    def test_verify_says_once_that_it_cannot_read_them(self, run, check_ledger):
        result = run("ledger", "verify")

        assert result.exit_code == 1
        assert result.output.count("second") == 1
        assert "bank second: is not in the registry, so 2 stored bodies cannot be read again" in result.output
        assert "All that can be read adds up" in result.output
        assert "findings" not in result.output
        with sources.registered():
            check_ledger()

    def test_verify_still_names_what_is_wrong_without_their_bodies(self, run, database):
        with database.unguarded() as connection:
            connection.execute(text("UPDATE payments SET amount = 5 WHERE amount = 2"))

        result = run("ledger", "verify")

        assert result.exit_code == 1
        assert f"balance_log inn {INN} version 2: moves 2" in result.output
        assert "trial balance: the debits of all accounts come to" in result.output
        assert "3 findings in" in result.output

    def test_it_does_not_hide_that_no_worker_runs(self, run, bank, clock, database):
        bank.send()
        clock.move(seconds=INBOX_OVERDUE_SECONDS + 1)
        output = run("ledger", "verify").output
        assert "All that can be read adds up" in output
        assert "flask worker" in output
        with database.unguarded() as connection:
            connection.execute(text("UPDATE payments SET amount = 5 WHERE amount = 2"))

        output = run("ledger", "verify").output

        assert "findings in" in output
        assert "flask worker" in output

    @only("sqlite")
    def test_backup_and_verify_count_alike(self, run, tmp_path, database):
        with database.unguarded() as connection:
            connection.execute(text("UPDATE payments SET amount = 5 WHERE amount = 2"))

        assert ": 3 findings. Keep it" in run("backup", "create", str(tmp_path / "copy.db")).output

    @only("sqlite")
    def test_backup_says_the_same_of_its_copy(self, run, tmp_path):
        result = run("backup", "create", str(tmp_path / "copy.db"))

        assert result.exit_code == 1
        assert "The copy is whole. All that can be read adds up" in result.output
        assert "does not add up" not in result.output

"""What waits in the inbox is counted and listed, with its age: acknowledged money that nobody credits must be seen."""

from datetime import timedelta

import pytest
from flask import Flask
from sqlalchemy import text

from database.session import transaction
from ledger import inbox
from ledger.inbox import Backlog
from limits import INBOX_LOOK_SECONDS, INBOX_OVERDUE_SECONDS
from pagination import Span
from tests.callers import Bank
from tests.factories import INN, OTHER_INN, START, make_body
from tests.listeners import credit


@pytest.fixture
def app(make_app) -> Flask:
    return make_app(BALANCE_UPDATES="queued")


def change(app: Flask, statement: str, **values: object) -> None:
    """Do to the tables what no door does."""
    with app.app_context(), transaction() as session:
        session.execute(text(statement), values)


def backlog(app: Flask, span: Span = inbox.EVER) -> list[Backlog]:
    with app.app_context():
        return inbox.backlog(span)


def test_nothing_waits_where_nothing_came(app):
    assert backlog(app) == []


def test_backlog_counts_by_bank_since_its_oldest(app, bank, clock):
    bank.push(make_body(amount=1))
    clock.move(minutes=1)
    bank.push(make_body(amount=2))
    change(app, "UPDATE inbox SET source = 'another' WHERE id = (SELECT id FROM (SELECT max(id) AS id FROM inbox) i)")
    bank.push(make_body(amount=3))

    assert backlog(app) == [
        Backlog(source="another", count=1, oldest_at=START + timedelta(minutes=1)),
        Backlog(source="plain", count=2, oldest_at=START),
    ]


def test_backlog_of_a_span_counts_what_arrived_within_it(app, bank, clock):
    for _ in range(3):
        bank.send()
        clock.move(minutes=1)

    (found,) = backlog(app, Span(since=START + timedelta(minutes=1), until=START + timedelta(minutes=2)))

    assert (found.count, found.oldest_at) == (1, START + timedelta(minutes=1))


class TestShell:
    def test_list_says_what_waits_and_since_when(self, bank, run):
        result = run("inbox", "list")
        assert (result.exit_code, result.output) == (0, "Nothing waits.\n")
        bank.send()
        bank.send()

        result = run("inbox", "list")

        assert result.exit_code == 0
        assert len([line for line in result.output.splitlines() if " plain " in line and "create" in line]) == 2
        said = "2 webhooks of bank plain: acknowledged, not credited yet, the oldest since 2026-03-01 12:00"
        assert said in result.output

    def test_list_fails_once_the_oldest_waits_too_long(self, bank, clock, run):
        bank.send()
        clock.move(seconds=INBOX_OVERDUE_SECONDS)
        assert run("inbox", "list").exit_code == 0
        clock.move(seconds=1)

        result = run("inbox", "list", "--limit", "1")

        assert result.exit_code == 1
        assert "flask worker" in result.output

    def test_credit_works_without_a_worker(self, bank, operator, run, database, check_ledger):
        for _ in range(3):
            bank.send(amount=5)

        result = run("inbox", "credit")

        assert (result.exit_code, result.output) == (0, "3 taken up, 0 left.\n")
        assert (database.count("inbox"), balance(operator)) == (0, 15)
        check_ledger()

    def test_verify_says_what_waits_and_is_not_clean_once_it_waits_too_long(self, bank, clock, run):
        bank.send()
        result = run("ledger", "verify")
        assert (result.exit_code, "Clean" in result.output) == (0, True)
        assert "1 webhook of bank plain" in result.output
        clock.move(seconds=INBOX_OVERDUE_SECONDS + 1)

        result = run("ledger", "verify")

        assert (result.exit_code, "Clean" in result.output) == (1, False)
        assert "1 webhook of bank plain" in result.output
        run("inbox", "credit")
        assert run("ledger", "verify").exit_code == 0


class TestRest:
    def test_inbox_is_listed_in_pages_with_what_waits_in_all(self, bank, operator, clock):
        for _ in range(3):
            bank.send()
            clock.move(minutes=1)

        first = operator.get("/inbox/", limit=2).json
        second = operator.get("/inbox/", limit=2, cursor=first["next"]).json

        waiting = {"count": 3, "oldest_at": "2026-03-01T12:00:00Z", "overdue": False}
        banks = [{"source": "plain", "count": 3, "oldest_at": "2026-03-01T12:00:00Z"}]
        for page in (first, second):
            assert {name: page[name] for name in waiting} == waiting
            assert page["banks"] == banks
        items = [*first["items"], *second["items"]]
        assert [item["received_at"] for item in items] == [f"2026-03-01T12:0{minute}:00Z" for minute in range(3)]
        assert {(item["source"], item["unknown_inn"], item["attempt_count"]) for item in items} == {
            ("plain", "create", 0)
        }
        assert second["next"] is None

    def test_overdue_is_said(self, bank, operator, clock):
        assert operator.get("/inbox/").json == {
            "items": [],
            "next": None,
            "count": 0,
            "oldest_at": None,
            "overdue": False,
            "banks": [],
        }
        bank.send()
        clock.move(seconds=INBOX_OVERDUE_SECONDS + 1)

        assert operator.get("/inbox/").json["overdue"] is True

    def test_readyz_warns_and_stays_ready(self, bank, client, clock):
        """Without this server the bank could not hand in its next webhooks: that would be no help."""
        bank.send()
        assert client.get("/readyz").json == {"status": "ok"}
        clock.move(seconds=INBOX_OVERDUE_SECONDS + 1)

        answer = client.get("/readyz")

        assert (answer.status_code, answer.json["status"]) == (200, "ok")
        (warning,) = answer.json["warnings"]
        assert "2026-03-01T12:00:00Z" in warning


def balance(operator, inn: str = INN) -> int | None:
    answer = operator.get(f"/organizations/{inn}/balance/")
    return answer.json["balance"] if answer.status_code == 200 else None


def incidents(operator) -> list[dict[str, object]]:
    return operator.get("/incidents/", state="all").json["items"]


class TestAlarm:
    """The door tells a person: nobody else may be there."""

    @pytest.fixture(params=["queued", "immediate"])
    def later(self, request, bank, make_app, clock) -> Bank:
        """Let a webhook wait too long; return a bank that sends to a server which was started since."""
        bank.send(amount=1)
        clock.move(seconds=INBOX_OVERDUE_SECONDS + 1)
        return Bank(make_app(BALANCE_UPDATES=request.param).test_client())

    def test_next_webhook_brings_an_incident_and_a_line_in_the_log(self, later, operator, caplog):
        assert later.send().status_code == 200

        (incident,) = incidents(operator)
        assert (incident["kind"], incident["source"], incident["seen_count"]) == ("stuck_webhook", "plain", 1)
        assert incident["facts"]["received_at"] == "2026-03-01T12:00:00Z"
        assert "Webhooks wait in the inbox since 2026-03-01T12:00:00Z" in caplog.text

    def test_looked_for_once_a_minute_and_recorded_once(self, later, operator, clock, caplog):
        for _ in range(3):
            later.send()
        assert caplog.text.count("Webhooks wait") == 1
        clock.move(seconds=INBOX_LOOK_SECONDS)
        later.send()

        assert caplog.text.count("Webhooks wait") == 2
        assert len(incidents(operator)) == 1

    def test_next_alarm_after_one_that_was_resolved_is_another_incident(self, bank, later, operator, app, clock):
        later.send()
        (first,) = incidents(operator)
        operator.post(f"/incidents/{first['id']}/resolve/", resolution="the worker runs again")
        credit(app)
        bank.send()
        clock.move(seconds=INBOX_OVERDUE_SECONDS + 1)
        later.send()

        (second,) = operator.get("/incidents/").json["items"]
        assert (second["kind"], second["id"] != first["id"]) == ("stuck_webhook", True)

    def test_nothing_is_said_of_what_waits_shortly(self, bank, operator, clock, caplog):
        bank.send()
        clock.move(seconds=INBOX_LOOK_SECONDS + 1)
        bank.send()

        assert (incidents(operator), "Webhooks wait" in caplog.text) == ([], False)

    def test_look_that_fails_fails_no_webhook(self, bank, app, clock, database, caplog):
        bank.send()
        clock.move(seconds=INBOX_OVERDUE_SECONDS + 1)
        change(app, "ALTER TABLE incidents RENAME TO incidents_elsewhere")
        try:
            answer = bank.send()
        finally:
            change(app, "ALTER TABLE incidents_elsewhere RENAME TO incidents")

        assert (answer.status_code, answer.json) == (200, {"status": "accepted"})
        assert (database.count("inbox"), "a look at the inbox" in caplog.text) == (2, True)


class TestSettingsTravel:
    """What decides about a webhook is what its server was set to, not what its worker is."""

    def test_hold_of_the_server_wins_over_create_of_the_worker(self, make_app, operator, check_ledger):
        holding = make_app(BALANCE_UPDATES="queued", UNKNOWN_INN="hold")
        Bank(holding.test_client()).send(amount=7)

        credit(make_app())

        assert [incident["kind"] for incident in incidents(operator)] == ["unknown_inn"]
        assert balance(operator) is None
        check_ledger()

    def test_create_of_the_server_wins_over_hold_of_the_worker(self, make_app, bank, operator, check_ledger):
        bank.send(amount=7)

        credit(make_app(UNKNOWN_INN="hold"))

        assert (balance(operator), incidents(operator)) == (7, [])
        check_ledger()

    def test_one_batch_holds_both(self, make_app, bank, operator, app, check_ledger):
        holding = Bank(make_app(BALANCE_UPDATES="queued", UNKNOWN_INN="hold").test_client())
        bank.send(amount=1)
        holding.send(amount=2, payer_inn=OTHER_INN)
        holding.send(amount=4)

        assert credit(app) == 3

        assert (balance(operator), balance(operator, OTHER_INN)) == (5, None)
        assert [incident["kind"] for incident in incidents(operator)] == ["unknown_inn"]
        check_ledger()

    @pytest.mark.parametrize("length", [255, 256, 400])
    def test_long_content_type_is_read_the_same_whether_it_waits_or_not(self, make_app, bank, operator, app, length):
        kind = "application/" + "x" * (length - len("application/+json")) + "+json"
        status = Bank(make_app().test_client()).push(make_body(), content_type=kind).status_code
        bank.push(make_body(), content_type=kind)
        credit(app)

        credited = len(operator.get(f"/organizations/{INN}/payments/").json.get("items", []))
        assert (status, credited) == ((200, 2) if length <= 255 else (415, 0))

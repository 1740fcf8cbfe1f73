"""BALANCE_UPDATES=queued: the bank hears at once, a worker credits; what was acknowledged comes to be counted, once."""

import threading

import pytest
from flask import Flask
from sqlalchemy import text

from database.session import transaction
from tests.callers import Bank, Operator
from tests.factories import INN, OLD_SECRET, OTHER_INN, START, make_body, make_org
from tests.listeners import PATIENCE_SECONDS, bodies, credit, deliver, deliveries, members, replay, subscribe

ACCEPTED = {"status": "accepted"}


@pytest.fixture
def app(make_app) -> Flask:
    return make_app(BALANCE_UPDATES="queued", ENDPOINTS_ON_LOOPBACK="allow")


def change(app: Flask, statement: str, **values: object) -> None:
    """Do to the tables what no door does."""
    with app.app_context(), transaction() as session:
        session.execute(text(statement), values)


def balance(operator: Operator, inn: str = INN) -> int | None:
    answer = operator.get(f"/organizations/{inn}/balance/")
    return answer.json["balance"] if answer.status_code == 200 else None


def incidents(operator: Operator) -> list[dict[str, object]]:
    return operator.get("/incidents/", state="all").json["items"]


class TestDoor:
    def test_webhook_is_accepted_when_it_is_stored_and_credited_by_a_worker(
        self, bank, operator, app, database, check_ledger
    ):
        answer = bank.send()

        assert (answer.status_code, answer.json) == (200, ACCEPTED)
        assert (database.count("inbox"), database.count("payments"), balance(operator)) == (1, 0, None)
        assert credit(app) == 1
        assert (database.count("inbox"), database.count("payments"), balance(operator)) == (0, 1, 145000)
        assert credit(app) == 0
        check_ledger()

    def test_bad_signature_is_refused_and_nothing_is_stored(self, bank, database):
        answer = bank.push(make_body(), signature="0" * 64)

        assert (answer.status_code, answer.json["type"]) == (401, "urn:kopeck:problem:signature-rejected")
        assert database.count("inbox") == 0

    def test_body_that_is_too_large_is_refused_and_the_largest_one_is_not(self, bank, operator, app, database):
        body = make_body()

        assert bank.push(body.ljust(64 * 1024 + 1)).status_code == 413
        assert database.count("inbox") == 0
        assert bank.push(body.ljust(64 * 1024)).json == ACCEPTED
        credit(app)
        assert balance(operator) == 145000

    def test_unknown_bank_is_not_found(self, bank, database):
        assert bank.send(to="/api/v1/webhook/bank/nobody/").status_code == 404
        assert database.count("inbox") == 0

    def test_older_address_is_queued_too(self, bank, operator, app):
        assert bank.send(to="/api/webhook/bank/").json == ACCEPTED

        credit(app)

        assert balance(operator) == 145000

    def test_payment_belongs_to_the_moment_at_which_its_webhook_arrived(self, bank, operator, app, clock):
        body = make_body()
        bank.push(body)
        clock.move(days=2)

        credit(app)

        (payment,) = operator.get(f"/organizations/{INN}/payments/").json["items"]
        (entry,) = operator.get(f"/organizations/{INN}/log/").json["items"]
        assert (payment["received_at"], entry["created_at"]) == ("2026-03-01T12:00:00Z", "2026-03-01T12:00:00Z")

    def test_payment_names_the_secret_that_signed_its_webhook(self, client, bank, operator, app):
        Bank(client, OLD_SECRET).send(amount=1)
        bank.send(amount=2)

        credit(app)

        new, old = operator.get(f"/organizations/{INN}/payments/").json["items"]
        assert new["key_id"] != old["key_id"]

    @pytest.mark.parametrize(
        "content_type", ["application/json; note=" + "x" * 400, "application/" + "x" * 400 + "+json", "x" * 4000]
    )
    def test_content_type_however_long_is_no_reason_to_refuse_money(self, bank, operator, app, database, content_type):
        answer = bank.push(make_body(), content_type=content_type)
        credit(app)

        assert (answer.status_code, answer.json) == (200, ACCEPTED)
        assert database.count("inbox") == 0
        assert (balance(operator) == 145000) is (incidents(operator) == [])


class TestLikeImmediate:
    """Whatever is sent, the tables are in the end as they are without a queue."""

    def test_duplicates_are_counted_once(self, bank, operator, app, database, check_ledger):
        body = make_body()
        for _ in range(3):
            assert bank.push(body).json == ACCEPTED
        credit(app)
        assert bank.push(body).json == ACCEPTED
        credit(app)

        assert (balance(operator), database.count("payments"), database.count("inbox")) == (145000, 1, 0)
        assert incidents(operator) == []
        check_ledger()

    def test_conflict_is_kept_for_a_person(self, bank, operator, app, database, check_ledger):
        body = make_body(amount=1000)
        bank.push(body)
        bank.push(body.replace(b"1000", b"2000"))

        credit(app)

        (incident,) = incidents(operator)
        assert (incident["kind"], incident["facts"]["announced"]["amount"]) == ("conflict", 2000)
        assert (balance(operator), database.count("inbox")) == (1000, 0)
        check_ledger()

    def test_unknown_inn_is_created(self, bank, operator, app, check_ledger):
        bank.send(payer_inn=OTHER_INN)
        credit(app)

        assert balance(operator, OTHER_INN) == 145000
        check_ledger()

    def test_unknown_inn_is_held_and_can_be_assigned(self, make_app, operator, database, context, check_ledger):
        holding = make_app(BALANCE_UPDATES="queued", UNKNOWN_INN="hold")
        make_org(OTHER_INN)
        assert Bank(holding.test_client()).send(amount=7).json == ACCEPTED

        credit(holding)

        (incident,) = incidents(operator)
        assert (incident["kind"], incident["facts"]["announced"]["amount"]) == ("unknown_inn", 7)
        assert (balance(operator), database.count("inbox")) == (None, 0)
        assert operator.post(f"/incidents/{incident['id']}/assign/", inn=OTHER_INN).status_code == 200
        assert balance(operator, OTHER_INN) == 7
        check_ledger()

    def test_balance_limit_is_kept_for_a_person(self, bank, operator, app, check_ledger):
        bank.send(amount=2**63 - 1)
        bank.send(amount=1)

        credit(app)

        assert [incident["kind"] for incident in incidents(operator)] == ["balance_limit"]
        assert balance(operator) == 2**63 - 1
        check_ledger()

    @pytest.mark.parametrize(
        ("body", "content_type"),
        [
            (b"", "application/json"),
            (b"{}", "application/json"),
            (b"\x00\xff", "application/json"),
            (make_body(amount=0), "application/json"),
            (make_body(), "text/plain"),
            (make_body(), ""),
        ],
    )
    def test_unusable_body_is_kept_for_a_person_as_it_is_without_a_queue(
        self, make_app, bank, operator, app, database, clock, check_ledger, body, content_type
    ):
        assert bank.push(body, content_type=content_type).json == ACCEPTED
        clock.move(hours=1)
        credit(app)
        (queued,) = incidents(operator)
        clock.moment = START
        immediate = Bank(make_app().test_client()).push(body, content_type=content_type)
        (both,) = incidents(operator)

        assert queued["kind"] == "unusable_body"
        assert (queued["seen_count"], queued["created_at"]) == (1, "2026-03-01T12:00:00Z")
        assert immediate.status_code in (400, 415)
        # The same incident: it was seen once more.
        assert both == {**queued, "seen_count": 2}
        assert (database.count("inbox"), database.count("payments")) == (0, 0)
        check_ledger()

    def test_one_unusable_body_does_not_hold_up_the_others(self, bank, operator, app, check_ledger):
        bank.send(amount=1)
        bank.push(b"{}")
        bank.send(amount=2)

        assert credit(app) == 3
        assert balance(operator) == 3
        check_ledger()

    def test_more_than_fit_into_one_batch_are_all_credited(self, bank, operator, app, database, check_ledger):
        for _ in range(120):
            bank.send(amount=1)

        assert credit(app) == 120
        assert (balance(operator), database.count("inbox")) == (120, 0)
        check_ledger()


class TestStuck:
    """A webhook that was acknowledged and fails for a reason of ours: here its bank has vanished from the registry."""

    @pytest.fixture
    def stuck(self, bank, app) -> bytes:
        """Return the body of a webhook in the inbox that nobody can read."""
        body = make_body(amount=100)
        bank.push(body)
        change(app, "UPDATE inbox SET source = 'vanished'")
        return body

    def test_others_are_credited_all_the_same(self, bank, operator, app, database, stuck, check_ledger):
        for _ in range(3):
            bank.send(amount=1)

        assert credit(app) >= 4

        assert (balance(operator), database.count("inbox")) == (3, 1)
        check_ledger()

    def test_it_waits_twice_as_long_each_time_and_an_hour_at_most(self, app, clock, stuck):
        waited = []
        credit(app)
        for seconds in (5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600):
            clock.move(seconds=seconds - 1)
            early = credit(app)
            clock.move(seconds=1)
            waited.append((early, credit(app)))

        assert waited == [(0, 1)] * 12

    def test_person_is_told_at_the_fifth_failure_and_once(self, operator, app, clock, database, caplog, stuck):
        incident_counts = []
        for _ in range(8):
            credit(app)
            incident_counts.append(len(incidents(operator)))
            clock.move(hours=1)

        assert incident_counts == [0, 0, 0, 0, 1, 1, 1, 1]
        (incident,) = incidents(operator)
        assert (incident["kind"], incident["source"], incident["seen_count"]) == ("stuck_webhook", "vanished", 1)
        assert incident["facts"]["received_at"] == "2026-03-01T12:00:00Z"
        assert database.count("inbox") == 1
        assert "in the inbox, which is tried again later" in caplog.text
        assert stuck.decode() not in caplog.text

    def test_its_money_cannot_be_assigned_beside_the_inbox(self, operator, app, clock, context, stuck):
        make_org(OTHER_INN)
        for _ in range(5):
            credit(app)
            clock.move(hours=1)
        (incident,) = incidents(operator)

        answer = operator.post(f"/incidents/{incident['id']}/assign/", inn=OTHER_INN)

        assert (answer.status_code, answer.json["type"]) == (409, "urn:kopeck:problem:incident-not-assignable")

    def test_it_is_credited_once_the_cause_is_gone(self, bank, operator, app, clock, database, stuck, check_ledger):
        for _ in range(6):
            credit(app)
            clock.move(hours=1)
        assert balance(operator) is None

        change(app, "UPDATE inbox SET source = 'plain'")
        credit(app)

        (payment,) = operator.get(f"/organizations/{INN}/payments/").json["items"]
        assert (payment["amount"], payment["received_at"]) == (100, "2026-03-01T12:00:00Z")
        assert database.count("inbox") == 0
        # The bank may repeat it for as long as it likes.
        bank.push(stuck)
        credit(app)
        assert balance(operator) == 100
        check_ledger()

    def test_many_that_are_stuck_do_not_hold_up_those_behind_them(self, bank, operator, app, database, check_ledger):
        for _ in range(110):
            bank.send(amount=100)
        change(app, "UPDATE inbox SET source = 'vanished'")
        bank.send(amount=1)

        credit(app)

        assert (balance(operator), database.count("inbox")) == (1, 110)
        check_ledger()

    def test_value_that_the_database_refuses_does_not_hold_up_the_others(
        self, bank, operator, app, database, check_ledger
    ):
        """The ledger itself raises: a version is taken that the balance knows nothing of."""
        bank.send(amount=1, payer_inn=OTHER_INN)
        bank.send(amount=1)
        credit(app)
        change(app, "UPDATE organizations SET version = 0, balance = 0 WHERE inn = :inn", inn=OTHER_INN)
        bank.send(amount=2, payer_inn=OTHER_INN)
        bank.send(amount=2)
        credit(app)

        assert (balance(operator), database.count("inbox")) == (3, 1)
        change(app, "UPDATE organizations SET version = 1, balance = 1 WHERE inn = :inn", inn=OTHER_INN)
        change(app, "UPDATE inbox SET due_at = received_at")
        credit(app)
        assert (balance(operator, OTHER_INN), database.count("inbox")) == (3, 0)
        check_ledger()


def test_two_jobs_at_once_credit_once(bank, operator, app, database, check_ledger):
    bodies = [make_body(amount=1, payer_inn=inn) for inn in (INN, OTHER_INN) for _ in range(30)]
    for body in [*bodies, *bodies]:
        bank.push(body)
    start_line, results = threading.Barrier(3), []

    def work() -> None:
        start_line.wait(PATIENCE_SECONDS)
        results.append(credit(app))

    jobs = [threading.Thread(target=work) for _ in range(3)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(PATIENCE_SECONDS)

    assert (len(results), database.count("inbox"), database.count("payments")) == (3, 0, 60)
    assert (balance(operator), balance(operator, OTHER_INN)) == (30, 30)
    assert incidents(operator) == []
    check_ledger()


def test_job_and_the_door_at_once_lose_nothing(bank, app, operator, database, check_ledger):
    """Webhooks go on coming while a worker credits."""
    over, crashed = threading.Event(), []

    def work() -> None:
        try:
            while not over.is_set():
                credit(app)
        except Exception as error:
            crashed.append(error)

    job = threading.Thread(target=work)
    job.start()
    try:
        answers = [bank.send(amount=1).json for _ in range(60)]
    finally:
        over.set()
        job.join(PATIENCE_SECONDS)
    credit(app)

    assert (crashed, answers) == ([], [ACCEPTED] * 60)
    assert (balance(operator), database.count("inbox")) == (60, 0)
    check_ledger()


class TestEvents:
    def test_queued_credit_is_announced_when_it_is_credited(self, bank, operator, app, clock, receiver, database):
        subscribe(operator, receiver.url)
        body = make_body(amount=7)
        bank.push(body)
        bank.push(body)
        assert database.count("events") == 0
        clock.move(minutes=1)

        credit(app)
        deliver(app)

        (event,) = bodies(receiver)
        assert (event["data"]["amount"], event["data"]["version"], event["timestamp"]) == (7, 1, "2026-03-01T12:00:00Z")
        assert operator.get("/events/", organization=INN).json["items"] == [event]
        assert members(deliveries(operator), "status", "attempt_count") == [("delivered", 1)]

    def test_versions_follow_the_order_in_which_webhooks_arrived(self, bank, operator, app, receiver, check_ledger):
        subscribe(operator, receiver.url, ordered=True)
        for amount in (3, 1, 2):
            bank.send(amount=amount)

        credit(app)
        deliver(app)

        data = [event["data"] for event in bodies(receiver)]
        assert members(data, "version", "amount", "balance_before", "balance_after") == [
            (1, 3, 0, 3),
            (2, 1, 3, 4),
            (3, 2, 4, 6),
        ]
        check_ledger()

    def test_what_cannot_be_counted_is_not_announced(self, bank, operator, app, receiver, database):
        subscribe(operator, receiver.url)
        bank.push(b"{}")

        credit(app)

        assert (database.count("events"), database.count("incidents")) == (0, 1)

    def test_endpoint_that_came_before_the_credit_hears_of_it(self, bank, operator, app, receiver):
        bank.send()
        subscribe(operator, receiver.url)

        credit(app)
        deliver(app)

        assert len(receiver.received) == 1

    def test_replay_has_what_was_credited_late(self, bank, operator, app, clock, receiver):
        bank.send()
        clock.move(hours=1)
        credit(app)
        endpoint_id = subscribe(operator, receiver.url)["id"]

        operator.post(f"/endpoints/{endpoint_id}/replays/", since="2026-03-01T12:00:00Z")
        replay(app)
        deliver(app)

        assert len(receiver.received) == 1


def test_change_of_the_setting_leaves_nothing_behind(make_app, bank, operator, app, database, check_ledger):
    """What was queued is credited by a worker that runs with immediate updates, and repeats are still repeats."""
    body = make_body()
    bank.push(body)
    immediate = make_app()

    assert Bank(immediate.test_client()).push(body).json["status"] == "credited"
    credit(immediate)

    assert (balance(operator), database.count("inbox"), database.count("payments")) == (145000, 0, 1)
    check_ledger()

"""Whoever listens to commits hears of the jobs that each of them has recorded: from every door, and never before."""

import threading
from collections.abc import Callable
from contextlib import closing

import pytest
from flask import Flask
from sqlalchemy.exc import OperationalError

import services
from database import session
from database.extension import db
from database.session import request_job, survives_deadlock, transaction
from enums import Job
from errors import TryAgain
from tests.callers import Bank
from tests.databases import Database
from tests.factories import INN, OTHER_INN, make_body, make_credit, make_org
from tests.held_group import HeldGroup
from tests.listeners import EARLY, NOBODY, credit, deliver, deliveries, only_delivery, replay, subscribe


class Deadlock(Exception):
    sqlstate = "40P01"


DEADLOCK = OperationalError("SELECT 1", {}, Deadlock())

TABLES = {Job.DELIVER: "deliveries", Job.CREDIT: "inbox", Job.REPLAY: "replays"}
"""Where each job looks for what there is to do."""


class Listener:
    """Notes each job that it is told of, and how many rows a connection of its own sees at that moment."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.jobs: list[Job] = []
        self.visible: list[int] = []

    def __call__(self, job: Job) -> None:
        self.jobs.append(job)
        self.visible.append(self.database.count(TABLES[job]))


@pytest.fixture
def app(make_app) -> Flask:
    """An app of each test's own: its listener ends with it."""
    return make_app(ENDPOINTS_ON_LOOPBACK="allow")


@pytest.fixture
def listen(database) -> Callable[[Flask], Listener]:
    """Have a listener told of what an app commits from now on."""

    def start(app: Flask) -> Listener:
        listener = Listener(database)
        with app.app_context():
            session.after_commit(db.engine, listener)
        return listener

    return start


@pytest.fixture
def run(app) -> Callable[..., None]:
    """Run a command that goes well."""

    def run(*args: str | int) -> None:
        result = app.test_cli_runner().invoke(args=[str(arg) for arg in args])
        assert result.exit_code == 0, result.output

    return run


@pytest.fixture
def endpoint_id(operator) -> int:
    return subscribe(operator, NOBODY)["id"]


class TestWebhook:
    def test_credit_with_an_endpoint_that_listens_has_something_to_deliver(self, app, bank, listen, endpoint_id):
        listener = listen(app)

        bank.send()

        assert (listener.jobs, listener.visible) == ([Job.DELIVER], [1])

    def test_credit_to_which_nobody_listens_is_work_for_nobody(self, app, bank, operator, context, listen):
        make_org(OTHER_INN)
        subscribe(operator, NOBODY, organization=OTHER_INN)
        disabled = subscribe(operator, NOBODY)["id"]
        operator.post(f"/endpoints/{disabled}/disable/")
        listener = listen(app)

        assert bank.send(payer_inn=INN).json["status"] == "credited"

        assert listener.jobs == []

    def test_credit_without_any_endpoint_is_work_for_nobody(self, app, bank, listen):
        listener = listen(app)

        assert bank.send().json["status"] == "credited"

        assert listener.jobs == []

    def test_repeat_conflict_and_unusable_body_are_work_for_nobody(self, app, bank, listen, endpoint_id):
        body = make_body(amount=1000)
        bank.push(body)
        listener = listen(app)

        assert bank.push(body).json["status"] == "duplicate"
        assert bank.push(body.replace(b"1000", b"2000")).json["status"] == "conflict"
        assert bank.push(b"{}").status_code == 400

        assert listener.jobs == []

    def test_queued_webhook_is_to_be_credited(self, make_app, listen):
        queued = make_app(BALANCE_UPDATES="queued")
        listener = listen(queued)

        Bank(queued.test_client()).send()

        assert (listener.jobs, listener.visible) == ([Job.CREDIT], [1])


class TestInbox:
    @pytest.fixture
    def queued(self, make_app) -> Flask:
        return make_app(BALANCE_UPDATES="queued", ENDPOINTS_ON_LOOPBACK="allow")

    def test_batch_that_is_credited_has_something_to_deliver_once(self, queued, listen, endpoint_id):
        for _ in range(3):
            Bank(queued.test_client()).send()
        listener = listen(queued)

        assert credit(queued) == 3

        assert (listener.jobs, listener.visible) == ([Job.DELIVER], [3])

    def test_batch_to_which_nobody_listens_is_work_for_nobody(self, queued, listen):
        Bank(queued.test_client()).send()
        listener = listen(queued)

        assert credit(queued) == 1

        assert listener.jobs == []


class TestShell:
    @pytest.fixture
    def held(self, make_app, operator) -> int:
        """An incident that holds money of nobody we know."""
        incident_id: int = Bank(make_app(UNKNOWN_INN="hold").test_client()).send().json["incident_id"]
        return incident_id

    def test_money_that_is_assigned_has_something_to_deliver(self, app, run, context, listen, held, endpoint_id):
        make_org(OTHER_INN)
        listener = listen(app)

        run("incidents", "assign", held, OTHER_INN)

        assert (listener.jobs, listener.visible) == ([Job.DELIVER], [1])

    def test_assignment_that_is_refused_is_work_for_nobody(
        self, app, run, context, database, listen, held, endpoint_id
    ):
        """It is refused after the event was recorded, which is taken back."""
        make_org(OTHER_INN)
        run("incidents", "resolve", held, "the bank took it back")
        listener = listen(app)

        result = app.test_cli_runner().invoke(args=["incidents", "assign", str(held), OTHER_INN])

        assert result.exit_code == 1
        assert (listener.jobs, database.count("deliveries")) == ([], 0)

    def test_endpoint_that_is_enabled_with_a_paused_delivery_has_something_to_deliver(
        self, app, run, bank, operator, listen, endpoint_id
    ):
        bank.send()
        run("endpoints", "disable", endpoint_id)
        deliver(app)
        assert only_delivery(operator)["status"] == "paused"
        listener = listen(app)

        run("endpoints", "enable", endpoint_id)

        assert (listener.jobs, listener.visible) == ([Job.DELIVER], [1])

    def test_retry_has_something_to_deliver(self, app, run, bank, operator, listen, endpoint_id):
        bank.send()
        listener = listen(app)

        run("deliveries", "retry", only_delivery(operator)["id"])

        assert listener.jobs == [Job.DELIVER]

    def test_ping_has_something_to_deliver(self, app, run, operator, receiver, listen):
        endpoint_id = subscribe(operator, receiver.url)["id"]
        listener = listen(app)

        run("endpoints", "ping", endpoint_id)

        assert (listener.jobs, listener.visible) == ([Job.DELIVER], [1])

    def test_replay_is_to_be_continued_and_delivered(self, app, run, bank, listen):
        bank.send()
        run("endpoints", "create", NOBODY)
        (endpoint_id,) = endpoint_ids(app)
        listener = listen(app)

        run("endpoints", "replay", endpoint_id, "--since", EARLY)

        assert (listener.jobs, listener.visible) == ([Job.REPLAY, Job.DELIVER], [1, 1])


def endpoint_ids(app: Flask) -> list[int]:
    with app.app_context():
        return list(db.session.scalars(db.text("SELECT id FROM endpoints")))


class TestApi:
    def test_retry_has_something_to_deliver(self, app, bank, operator, listen, endpoint_id):
        bank.send()
        delivery_id = only_delivery(operator)["id"]
        listener = listen(app)

        operator.post(f"/deliveries/{delivery_id}/retry/")

        assert listener.jobs == [Job.DELIVER]

    def test_ping_has_something_to_deliver(self, app, operator, listen, endpoint_id):
        listener = listen(app)

        operator.post(f"/endpoints/{endpoint_id}/ping/")

        assert (listener.jobs, listener.visible) == ([Job.DELIVER], [1])

    def test_replay_is_to_be_continued_and_then_delivered(self, app, bank, operator, listen):
        bank.send()
        endpoint_id = subscribe(operator, NOBODY)["id"]
        listener = listen(app)

        operator.post(f"/endpoints/{endpoint_id}/replays/", since=EARLY)
        assert (listener.jobs, listener.visible) == ([Job.REPLAY], [1])
        replay(app)

        assert (listener.jobs, listener.visible) == ([Job.REPLAY, Job.DELIVER], [1, 1])

    def test_replay_of_nothing_has_nothing_to_deliver(self, app, operator, listen, endpoint_id):
        operator.post(f"/endpoints/{endpoint_id}/replays/", since=EARLY)
        listener = listen(app)

        replay(app)

        assert listener.jobs == []

    def test_call_that_is_refused_or_only_reads_is_work_for_nobody(self, app, bank, operator, listen, endpoint_id):
        bank.send()
        delivery_id = only_delivery(operator)["id"]
        operator.post(f"/endpoints/{endpoint_id}/disable/")
        listener = listen(app)

        assert operator.post(f"/deliveries/{delivery_id}/retry/").status_code == 409
        assert operator.post(f"/endpoints/{endpoint_id}/ping/").status_code == 409
        assert operator.post(f"/endpoints/{endpoint_id}/replays/", since=EARLY).status_code == 409
        assert len(deliveries(operator)) == 1

        assert listener.jobs == []


class TestTransaction:
    def test_listener_is_told_after_the_commit_and_of_each_job_once(self, app, context, listen):
        listener = listen(app)

        with transaction() as opened:
            for job in (Job.CREDIT, Job.DELIVER, Job.DELIVER):
                request_job(opened, job)
            assert listener.jobs == []

        assert sorted(listener.jobs) == [Job.CREDIT, Job.DELIVER]

    def test_transaction_that_is_rolled_back_is_work_for_nobody(self, app, context, listen):
        listener = listen(app)

        def interrupted() -> None:
            with transaction() as opened:
                request_job(opened, Job.DELIVER)
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            interrupted()
        with transaction():
            pass

        assert listener.jobs == []

    @pytest.mark.parametrize("problem", [TryAgain(), DEADLOCK, ValueError("of its own")])
    def test_listener_that_fails_does_not_undo_or_repeat_what_is_committed(
        self, app, context, database, caplog, problem
    ):
        jobs = []

        def failing(job: Job) -> None:
            jobs.append(job)
            raise problem

        session.after_commit(db.engine, failing)

        @survives_deadlock
        def use_case() -> None:
            with transaction() as opened:
                services._take(opened, [make_credit()])
                request_job(opened, Job.DELIVER)
                request_job(opened, Job.REPLAY)

        use_case()

        assert (jobs, len(database.rows()["payments"])) == ([Job.DELIVER, Job.REPLAY], 1)
        assert "after the commit" in caplog.text

    def test_transaction_that_was_run_again_is_told_of_once(self, app, context, database, listen, endpoint_id):
        listener, attempts = listen(app), []

        @survives_deadlock
        def use_case() -> None:
            with transaction() as opened:
                services._take(opened, [make_credit()])
                attempts.append(1)
                if len(attempts) < 3:
                    raise TryAgain

        use_case()

        assert (len(attempts), listener.jobs, listener.visible) == (3, [Job.DELIVER], [1])

    def test_credits_that_share_a_transaction_are_told_of_once(self, app, database, listen, endpoint_id):
        listener = listen(app)
        with closing(HeldGroup(app, services._take)) as group:
            receipts = group.result_of([make_credit() for _ in range(5)])

        assert [receipt.status for receipt in receipts] == ["credited"] * 5
        assert [len(batch) for batch in group.batches] == [1, 5]
        assert (listener.jobs, listener.visible) == ([Job.DELIVER], [5])

    def test_listener_of_another_app_hears_nothing(self, app, make_app, bank, listen, endpoint_id):
        listener, other = listen(app), listen(make_app())

        bank.send()

        assert (listener.jobs, other.jobs) == ([Job.DELIVER], [])

    def test_many_doors_at_once_are_told_of_once_a_transaction_at_the_most(self, app, listen, database, endpoint_id):
        listener, count = listen(app), 12
        start_line = threading.Barrier(count)

        def send() -> None:
            start_line.wait()
            assert Bank(app.test_client()).send().json["status"] == "credited"

        callers = [threading.Thread(target=send) for _ in range(count)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()

        assert set(listener.jobs) == {Job.DELIVER}
        assert len(listener.jobs) <= count
        # Whichever is told last sees all of them.
        assert max(listener.visible) == database.count("deliveries") == count

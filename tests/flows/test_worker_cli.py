"""The shell over events: `flask endpoints`, `flask deliveries`, and `flask worker` as the process that it is."""

import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from flask import Flask
from sqlalchemy import URL

import cli.output
from app import create_app
from auth import api_keys
from config import ROOT
from database.extension import db
from ledger import audit
from ledger.findings import Finding
from tests.callers import Bank, Operator
from tests.databases import Database
from tests.factories import INN, OTHER_INN, SECRET, SECRETS_KEY, START, make_config, make_org
from tests.listeners import (
    ELSEWHERE,
    PATIENCE_SECONDS,
    always,
    answering,
    bodies,
    credit,
    deliver,
    deliveries,
    only_delivery,
    subscribe,
)
from tests.receivers import Answer, ReceivedRequest, Receiver


@pytest.fixture
def app(loopback_app) -> Flask:
    return loopback_app


@pytest.fixture
def number(run, receiver, operator) -> str:
    """Register an endpoint at the shell; return its number."""
    result = run("endpoints", "create", receiver.url)
    assert result.exit_code == 0, result.output
    return str(operator.get("/endpoints/").json["items"][0]["id"])


class TestEndpoints:
    def test_secret_is_all_that_is_printed_and_is_printed_once(self, run, operator, database):
        result = run("endpoints", "create", ELSEWHERE, "--ordered", "--description", "Billing")

        secret = result.stdout.strip()
        assert secret.startswith("whsec_")
        assert "not shown again" in result.stderr
        assert "whpk_" in result.stderr
        (endpoint,) = operator.get("/endpoints/").json["items"]
        assert (endpoint["url"], endpoint["ordered"], endpoint["description"]) == (ELSEWHERE, True, "Billing")
        shown = run("endpoints", "list").output + run("endpoints", "show", str(endpoint["id"])).output
        assert secret.removeprefix("whsec_") not in shown + str(database.rows())
        assert "secrets" not in shown

    @pytest.mark.parametrize("scheme", ["x-signature", "acquiremock"])
    def test_scheme_without_a_public_key_prints_none(self, run, database, scheme):
        result = run("endpoints", "create", ELSEWHERE, "--scheme", scheme)

        assert len(result.stdout.strip()) == 64
        assert "whpk_" not in result.stderr

    def test_endpoint_of_an_organisation_is_listed_with_it(self, run, context):
        make_org()
        run("endpoints", "create", ELSEWHERE, "--organization", INN, "--event", "balance.credited")
        run("endpoints", "create", ELSEWHERE)

        _, first, second = run("endpoints", "list").output.splitlines()
        assert (INN in first, "all" in second, ELSEWHERE in second) == (True, True, True)

    def test_list_without_endpoints_is_its_header(self, run, database):
        header = ["ID", "FOR", "SCHEME", "SECRET", "DISABLED", "FAILING", "SINCE", "URL"]
        assert run("endpoints", "list").output.split() == header

    @pytest.mark.parametrize(
        ("args", "words"),
        [
            (["http://10.0.0.1/"], "nor in a network that ENDPOINTS_NETWORKS"),
            (["ftp://example.com/"], "https://"),
            ([ELSEWHERE, "--organization", OTHER_INN], "No organisation has this INN"),
        ],
    )
    def test_endpoint_that_is_refused_says_why_in_one_line(self, run, database, args, words):
        result = run("endpoints", "create", *args)

        assert result.exit_code == 1
        assert result.output.startswith("Error: ")
        assert words in result.output
        assert database.count("endpoints") == 0

    @pytest.mark.parametrize(
        "args",
        [
            ["create", ELSEWHERE, "--scheme", "md5"],
            ["create", ELSEWHERE, "--organization", "123"],
            ["create", ELSEWHERE, "--event", "balance.debited"],
            ["create", ELSEWHERE, "--description", "a\nb"],
            ["show", "one"],
            ["rotate", "1", "--overlap", "-1"],
            ["rotate", "1", "--overlap", "2592001"],
            ["replay", "1"],
            ["replay", "1", "--since", "2026-03-01"],
        ],
    )
    def test_argument_of_the_wrong_shape_is_a_usage_error(self, run, database, args):
        assert run("endpoints", *args).exit_code == 2

    @pytest.mark.parametrize(
        "args",
        [
            ["show"],
            ["ping"],
            ["rotate"],
            ["disable"],
            ["enable"],
            ["delete"],
            ["replay", "--since", "2026-03-01T00:00:00Z"],
        ],
    )
    def test_unknown_endpoint_ends_in_one_line(self, run, database, args):
        result = run("endpoints", args[0], "999", *args[1:])

        assert result.exit_code == 1
        assert result.output.startswith("Error: No endpoint has this number")

    def test_address_longer_than_the_tables_hold_is_refused(self, run, database):
        result = run("endpoints", "create", "https://example.com/".ljust(2001, "x"))

        assert result.exit_code == 1
        assert "longer than 2000 characters" in result.output

    def test_ping_shows_what_came_back(self, run, number, receiver):
        result = run("endpoints", "ping", number)

        assert (result.exit_code, result.output) == (0, "< 200 after 0 ms\n< ok\n")
        assert [body["type"] for body in bodies(receiver)] == ["ping"]

    def test_ping_shows_no_line_for_a_body_that_is_empty(self, run, number, receiver):
        receiver.answer = always(200)

        assert run("endpoints", "ping", number).output == "< 200 after 0 ms\n"

    def test_ping_shows_a_refusal_and_nothing_in_it_can_move_the_terminal(self, run, number, receiver):
        receiver.answer = always(401, body=b"\x1b[31mno\nsuch signature")

        result = run("endpoints", "ping", number)

        assert result.output.startswith("< 401 after ")
        assert "\x1b" not in result.output
        assert "such signature" in result.output

    def test_ping_that_nobody_answers_says_so_in_one_line(self, run, operator):
        with Receiver() as receiver:
            url = receiver.url
        run("endpoints", "create", url)
        (endpoint,) = operator.get("/endpoints/").json["items"]

        result = run("endpoints", "ping", str(endpoint["id"]))

        assert (result.exit_code, result.output) == (1, "Error: No answer: Nothing answers at this address.\n")
        assert only_delivery(operator)["attempt_count"] == 1

    def test_ping_without_the_key_that_decrypts_the_secret_names_the_setting(self, make_app, number, caplog):
        other = make_app(ENDPOINTS_ON_LOOPBACK="allow", SECRETS_KEYS="another-key-that-encrypts-0123456789abcdef")

        result = other.test_cli_runner().invoke(args=["endpoints", "ping", number])

        assert result.output.startswith("Not sent here: ")
        assert "SECRETS_KEYS" in caplog.text

    def test_endpoint_is_disabled_and_enabled(self, run, number, operator):
        assert run("endpoints", "disable", number).exit_code == 0
        assert "manual" in run("endpoints", "list").output
        assert run("endpoints", "ping", number).output.startswith("Error: Nothing is sent to an endpoint")
        assert run("endpoints", "enable", number).exit_code == 0
        assert operator.get(f"/endpoints/{number}/").json["disabled_at"] is None

    def test_rotation_prints_the_new_secret_alone(self, run, number, operator, database):
        result = run("endpoints", "rotate", number, "--overlap", "60")

        secret = result.stdout.strip()
        assert secret.startswith("whsec_")
        assert "not shown again" in result.stderr
        assert secret.removeprefix("whsec_") not in str(database.rows())

    def test_endpoint_is_deleted(self, run, number, operator):
        assert run("endpoints", "delete", number).output == "Deleted.\n"
        assert run("endpoints", "delete", number).exit_code == 1
        assert operator.get("/endpoints/").json["items"] == []

    def test_replay_says_how_many_it_queued(self, run, number, bank, app, operator, receiver):
        for amount in (1, 2, 3):
            bank.send(amount=amount)
        deliver(app)

        result = run("endpoints", "replay", number, "--since", "2026-03-01T12:00:00Z")
        deliver(app)

        assert result.exit_code == 0
        assert ": 3 events are queued" in result.output
        assert len(receiver.received) == 6

    def test_replay_is_asked_for_by_the_person_at_the_shell(self, run, number, operator, monkeypatch):
        monkeypatch.setenv("LOGNAME", "anna")
        output = run("endpoints", "replay", number, "--since", "2026-03-01T12:00:00Z").output

        replay_id = output.split()[1].rstrip(":")
        assert operator.get(f"/endpoints/{number}/replays/{replay_id}/").json["asked_by"] == cli.output.operator()


class TestDeliveries:
    def test_deliveries_are_listed_shown_and_tried_again(self, run, number, bank, app, operator, receiver):
        receiver.answer = answering(500)
        bank.send()
        deliver(app)
        (delivery,) = deliveries(operator)

        header, line = run("deliveries", "list").output.splitlines()
        names = ["ID", "ENDPOINT", "EVENT", "ORGANISATION", "VERSION", "STATUS", "ATTEMPTS", "CREATED", "DUE"]
        assert header.split() == names
        assert line.split()[:7] == [str(delivery["id"]), number, "balance.credited", INN, "1", "pending", "1"]
        shown = run("deliveries", "show", str(delivery["id"])).output
        assert delivery["event_id"] in shown
        assert shown.splitlines()[-1].split()[-2:] == ["0", "500"]

        assert run("deliveries", "retry", str(delivery["id"])).exit_code == 0
        deliver(app)
        assert "manual" in run("deliveries", "show", str(delivery["id"])).output
        assert only_delivery(operator)["status"] == "delivered"

    def test_filters_narrow_the_list(self, run, number, bank, app):
        bank.send(payer_inn=INN)
        deliver(app)
        bank.send(payer_inn=OTHER_INN)

        def lines(*args: str) -> int:
            return len(run("deliveries", "list", *args).output.splitlines()) - 1

        assert (lines(), lines("--status", "delivered"), lines("--status", "exhausted")) == (2, 1, 0)
        assert (lines("--organization", OTHER_INN), lines("--endpoint", number), lines("--endpoint", "999")) == (
            1,
            2,
            0,
        )
        assert lines("--limit", "1") == 1

    def test_unknown_delivery_ends_in_one_line(self, run, database):
        for verb in ("show", "retry"):
            result = run("deliveries", verb, "999")
            assert (result.exit_code, result.output) == (1, "Error: No delivery has this number.\n")

    def test_delivery_of_a_disabled_endpoint_is_not_tried(self, run, number, bank, operator):
        bank.send()
        run("endpoints", "disable", number)

        result = run("deliveries", "retry", str(only_delivery(operator)["id"]))

        assert result.exit_code == 1
        assert "enable it first" in result.output

    @pytest.mark.parametrize(
        "args", [["list", "--status", "lost"], ["list", "--limit", "0"], ["show", "x"], ["retry", "0"]]
    )
    def test_argument_of_the_wrong_shape_is_a_usage_error(self, run, database, args):
        assert run("deliveries", *args).exit_code == 2


@pytest.fixture
def served_from() -> Iterator[tuple[Database, Flask]]:
    """A database of its own and an app that goes by the clock of this machine, as the process does."""
    database = Database("sqlite")
    database.create()
    app = create_app(make_config(database.url, ENDPOINTS_ON_LOOPBACK="allow", BALANCE_UPDATES="queued"))
    database.migrate(app)
    yield database, app
    with app.app_context():
        db.engine.dispose()
    database.drop()


@contextmanager
def worker(url: URL, *under: str, **streams: int) -> Iterator[subprocess.Popen[str]]:
    """Run `flask worker`, under another command if need be; kill it if the test did not end it."""
    environ = {
        "PATH": os.environ["PATH"],
        "DATABASE_URL": str(url),
        "BANK_WEBHOOK_SECRETS": SECRET,
        "SECRETS_KEYS": SECRETS_KEY,
        "ENDPOINTS_ON_LOOPBACK": "allow",
        "BALANCE_UPDATES": "queued",
    }
    command = [*under, sys.executable, "-W", "error", "-m", "flask", "--app", str(ROOT / "app.py"), "worker"]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
    process = subprocess.Popen(command, cwd=ROOT, env=environ, text=True, **streams)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def end(process: subprocess.Popen[str], number: signal.Signals = signal.SIGTERM) -> tuple[int, str, str]:
    process.send_signal(number)
    output, errors = process.communicate(timeout=PATIENCE_SECONDS)
    return process.returncode, output, errors


@pytest.fixture
def terminal() -> Iterator["Terminal"]:
    terminal = Terminal()
    yield terminal
    terminal.close()


class Terminal:
    """A terminal that a test can close; `near` is the end that a process has."""

    def __init__(self) -> None:
        self._far, self.near = pty.openpty()
        self._ends = [self._far, self.near]

    def read_line(self) -> str:
        line = b""
        while not line.endswith(b"\n"):
            line += os.read(self._far, 1)
        return line.decode().rstrip()

    def close(self) -> None:
        while self._ends:
            os.close(self._ends.pop())


class TestWorker:
    HELLO = "Worker on sqlite: waiting for events. Ctrl-C ends it."
    GOODBYE = "Worker: what was begun is finished."

    @pytest.fixture
    def owner(self, served_from) -> Operator:
        app = served_from[1]
        with app.app_context():
            token = api_keys.create(name="owner", scopes=list(api_keys.SCOPES), now=START)
        return Operator(app.test_client(), token)

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
    def test_credits_delivers_and_replays_until_it_is_told_to_end(self, served_from, owner, number):
        database, app = served_from
        all_came = threading.Event()

        def answer(_request: ReceivedRequest) -> Answer:
            if len(receiver.received) == 3:
                all_came.set()
            return 200, {}, b"ok"

        with Receiver(answer) as receiver:
            bank = Bank(app.test_client())
            bank.send(amount=1)
            credit(app)
            endpoint_id = subscribe(owner, receiver.url)["id"]
            bank.send(amount=2)
            with worker(database.url) as process:
                assert process.stdout.readline().rstrip() == self.HELLO
                owner.post(f"/endpoints/{endpoint_id}/replays/", since="2026-01-01T00:00:00Z")
                bank.send(amount=3)
                assert all_came.wait(PATIENCE_SECONDS), bodies(receiver)
                status, output, errors = end(process, number)

        assert (status, output.splitlines(), errors) == (0, [self.GOODBYE], "")
        assert {body["data"]["amount"] for body in bodies(receiver)} == {1, 2, 3}
        assert {row["status"] for row in deliveries(owner)} == {"delivered"}
        assert owner.get(f"/organizations/{INN}/balance/").json["balance"] == 6
        with app.app_context():
            assert [step for step in audit.verify() if isinstance(step, Finding)] == []

    def test_delivery_that_is_under_way_when_it_is_told_to_end_is_finished_and_written_down(self, served_from, owner):
        database, app = served_from
        began, go_on = threading.Event(), threading.Event()

        def answer(_request: ReceivedRequest) -> Answer:
            began.set()
            assert go_on.wait(PATIENCE_SECONDS)
            return 200, {}, b"late"

        with Receiver(answer) as receiver:
            subscribe(owner, receiver.url)
            Bank(app.test_client()).send()
            with worker(database.url) as process:
                assert began.wait(PATIENCE_SECONDS)
                process.send_signal(signal.SIGTERM)
                go_on.set()
                output, errors = process.communicate(timeout=PATIENCE_SECONDS)

        assert (process.returncode, output.splitlines(), errors) == (0, [self.HELLO, self.GOODBYE], "")
        delivery = only_delivery(owner)
        assert (delivery["status"], delivery["attempts"][0]["excerpt"]) == ("delivered", "late")

    @pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no SIGHUP")
    def test_worker_that_is_told_to_read_its_settings_again_says_that_it_does_not_and_goes_on(self, served_from):
        with worker(served_from[0].url) as process:
            assert process.stdout.readline().rstrip() == self.HELLO
            process.send_signal(signal.SIGHUP)
            said = process.stderr.readline()
            status, output, errors = end(process)

        assert "SIGHUP: a worker reads its settings at its start only" in said
        assert (status, output.splitlines(), errors) == (0, [self.GOODBYE], "")

    def test_worker_ends_in_good_order_when_its_terminal_is_closed(self, served_from, terminal):
        streams = {"stdin": terminal.near, "stdout": terminal.near}
        with worker(served_from[0].url, "setsid", "--ctty", **streams) as process:
            assert terminal.read_line() == self.HELLO
            terminal.close()
            _, errors = process.communicate(timeout=PATIENCE_SECONDS)

        assert (process.returncode, errors) == (0, "")

    def test_worker_goes_on_at_sighup_while_its_terminal_is_there(self, served_from, terminal):
        with worker(served_from[0].url, "setsid", "--ctty", stdin=terminal.near) as process:
            assert process.stdout.readline().rstrip() == self.HELLO
            process.send_signal(signal.SIGHUP)
            said = process.stderr.readline()
            status, output, errors = end(process)

        assert "SIGHUP: a worker reads its settings at its start only" in said
        assert (status, output.splitlines(), errors) == (0, [self.GOODBYE], "")

    def test_worker_under_nohup_goes_on_when_its_terminal_is_closed(self, served_from, terminal):
        with worker(served_from[0].url, "setsid", "--ctty", "nohup", stdin=terminal.near) as process:
            assert process.stdout.readline().rstrip() == self.HELLO
            terminal.close()
            said = [process.stderr.readline() for _ in range(2)]
            status, output, errors = end(process)

        assert "nohup: ignoring input" in said[0]
        assert "SIGHUP: a worker reads its settings at its start only" in said[1]
        assert (status, output.splitlines(), errors) == (0, [self.GOODBYE], "")

    def test_worker_that_finds_nothing_to_do_ends_at_once(self, served_from):
        with worker(served_from[0].url) as process:
            assert process.stdout.readline().rstrip() == self.HELLO
            status, output, errors = end(process)

        assert (status, output.splitlines(), errors) == (0, [self.GOODBYE], "")

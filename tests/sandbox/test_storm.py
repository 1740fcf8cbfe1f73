"""A storm finds nothing in a sound shop, also in one of the older systems' shape, and its report says what was done."""

import os
import re
from dataclasses import replace

import pytest

from sandbox.storm import text
from sandbox.storm.compare import compare
from sandbox.storm.connection import ShopSilent
from sandbox.storm.findings import SENTENCES, Fault, Finding
from sandbox.storm.plan import Kind, make_plan
from sandbox.storm.play import CONNECTIONS, Record, Results
from sandbox.storm.report import Report
from sandbox.storm.run import Storm
from sandbox.storm.shop import Reading, addresses_of
from sandbox.storm.shop import Shop as Seen
from tests import databases
from tests.sandbox.factories import BANK_SECRET
from tests.sandbox.shops import COLUMN_MAX, Kopeck, Payment, Shop, kopeck
from tests.sandbox.storms import FEW, findings_text, run_storm

OPERATIONS = int(os.environ.get("STORM_OPERATIONS", "120"))


@pytest.mark.parametrize("family", databases.FAMILIES)
def test_kopeck_keeps_every_kopeck(family, tmp_path):
    plan = make_plan(seed=5, operations=OPERATIONS, organisations=12)
    with kopeck(family, tmp_path) as server:
        first = Storm(plan=plan, shop=Seen(addresses_of(server.address)), secret=BANK_SECRET).run()
        assert first.is_clean, findings_text(first)
        assert first.total("sent") == first.total("credited") == first.total("logged") == first.total("expected")

        # The same day again is all repeats; the day after it, under new ids, is not.
        again = Storm(plan=plan, shop=Seen(addresses_of(server.address)), secret=BANK_SECRET).run()
        assert again.is_clean, findings_text(again)
        assert (again.total("credited"), again.total("earlier")) == (0, first.total("sent"))

        rows = int(re.fullmatch(r".*Equal: ([0-9]+) rows posted again.*", _posted_again(server, family), re.DOTALL)[1])
        assert rows >= len(plan.operations)


def _posted_again(server: Kopeck, family: str) -> str:
    """Rebuild the ledger of a server in a new database of its kind."""
    empty = databases.Database(family)
    empty.create()
    try:
        return server.flask("ledger", "rebuild", "--into", "-", given=empty.url.render_as_string(hide_password=False))
    finally:
        empty.drop()


def test_money_for_strangers_may_be_held(tmp_path):
    plan = make_plan(seed=5, operations=100, organisations=1, inns=("1234567890", "7707083893"))
    with kopeck("sqlite", tmp_path, UNKNOWN_INN="hold") as server:
        server.flask("orgs", "add", "1234567890", "One")
        for _ in range(2):
            report = Storm(plan=plan, shop=Seen(addresses_of(server.address)), secret=BANK_SECRET).run()
            assert report.is_clean, findings_text(report)
            assert report.total("held") > 0
            assert report.total("held") + report.total("expected") + report.total("earlier") == report.total("sent")


def test_money_may_be_credited_a_moment_after_the_answer(tmp_path):
    plan = make_plan(seed=5, operations=60, organisations=3)
    with kopeck("sqlite", tmp_path, BALANCE_UPDATES="queued") as server:
        worker = server.background("worker")
        try:
            report = Storm(plan=plan, shop=Seen(addresses_of(server.address)), secret=BANK_SECRET, settle=60).run()
        finally:
            worker.terminate()
            worker.wait()
        assert report.is_clean, findings_text(report)


def test_logs_that_need_a_key_are_read_with_it_and_refused_without(tmp_path):
    plan = make_plan(seed=5, operations=40, organisations=3)
    with kopeck("sqlite", tmp_path, KOPECK_ENV="production") as server:
        key = server.flask("keys", "create", "auditor", "--scope", "organizations:read", "--scope", "incidents:read")
        with pytest.raises(ShopSilent, match="key"):
            Storm(plan=plan, shop=Seen(addresses_of(server.address)), secret=BANK_SECRET).run()

        seen = Seen(addresses_of(server.address), api_key=key.split()[-1])
        assert Storm(plan=plan, shop=seen, secret=BANK_SECRET).run().is_clean


@pytest.mark.parametrize("shows_log", [True, False], ids=["with a log", "balances alone"])
@pytest.mark.parametrize("speaks", [True, False], ids=["speaking", "silent"])
def test_a_sound_shop_is_clean(shows_log, speaks):
    with Shop(shows_log=shows_log, speaks=speaks) as shop:
        report = run_storm(shop)

        assert report.is_clean, findings_text(report)
        assert shop.doubled() == set()
        assert report.total("credited") == report.total("sent")


def test_a_shop_that_is_sometimes_busy_gets_repeats_and_is_sound():
    with Shop("is busy now and then") as shop:
        report = run_storm(shop, patience=30)

    assert report.is_clean, findings_text(report)
    assert report.counts["5xx"] > 10
    assert report.counts["repeated"] > 10


@pytest.mark.parametrize("shows_log", [True, False], ids=["with a log", "balances alone"])
def test_a_shop_that_reads_numbers_as_older_systems_do_is_sound(shows_log):
    with Shop("reads numbers as it likes", shows_log=shows_log, lists=True) as shop:
        report = run_storm(shop)

        assert report.is_clean, findings_text(report)
        unusual = [step for step in FEW.steps if step.kind == Kind.UNUSUAL]
        assert sum(shop.balances.values()) > sum(operation.amount for operation in FEW.operations)
        assert len(shop.credits) == len(FEW.operations) + len(unusual)


def test_the_first_facts_of_an_id_may_win_in_silence_and_a_shop_that_calls_that_a_duplicate_is_told():
    with Shop() as shop:
        assert not any("duplicate" in note for note in run_storm(shop).notes)
    with Shop("calls everything a duplicate", speaks=True) as shop:
        report = run_storm(shop)

    assert report.is_clean, findings_text(report)
    assert any("called a duplicate" in note for note in report.notes)


def test_a_double_credit_is_named_by_its_operation():
    with Shop("looks before it locks", shows_log=True) as shop:
        report = run_storm(shop)
        named = {finding.operation_id: finding for finding in report.findings if finding.kind == Fault.RACE}

        assert set(named) == shop.doubled()
        for operation in FEW.operations:
            if operation.id in named:
                finding = named[operation.id]
                assert (finding.inn, finding.expected) == (operation.inn, str(operation.amount))
                assert finding.found == str(operation.amount * shop.credits[operation.id])


def test_a_double_credit_is_named_when_only_the_balance_shows_it():
    plan = make_plan(seed=3, operations=60, organisations=30)
    with Shop("looks before it locks") as shop:
        report = run_storm(shop, plan)
        named = {finding.operation_id for finding in report.findings if finding.kind == Fault.RACE}

        assert named
        assert named <= shop.doubled()
        off = {finding.inn for finding in report.findings}
        assert off == {operation.inn for operation in plan.operations if operation.id in shop.doubled()}


def test_a_double_credit_that_the_shop_itself_names_is_found():
    with Shop("looks before it locks", speaks=True) as shop:
        named = {finding.operation_id for finding in run_storm(shop).findings if finding.kind == Fault.RACE}

        assert named
        assert named <= shop.doubled()


def test_a_shop_without_signatures_is_checked_in_all_else():
    with Shop("knows no signatures") as shop:
        report = run_storm(shop, secret=None)

        assert report.is_clean, findings_text(report)
        assert report.counts["left out"] > 0


def test_a_repeated_day_must_be_declared_if_there_is_no_log():
    with Shop() as shop:
        assert run_storm(shop).is_clean
        undeclared = run_storm(shop)
        declared = run_storm(shop, again=True)

    assert not undeclared.is_clean
    assert any("--again" in note for note in undeclared.notes)
    assert declared.is_clean
    assert declared.total("credited") == 0


def test_the_next_day_is_credited_on_top():
    with Shop() as shop:
        assert run_storm(shop).is_clean
        second = run_storm(shop, make_plan(seed=11, operations=120, organisations=6, day=2))

    assert second.is_clean, findings_text(second)
    assert second.total("credited") == second.total("sent")


def test_money_of_others_is_no_finding_where_a_log_shows_it():
    with Shop(shows_log=True) as shop:
        played = Storm(plan=FEW, shop=Seen(shop.addresses), secret=BANK_SECRET)
        id_ = "5c0e2f0a-8d3b-4c53-9d0b-2f6a7c1e9b44"
        meanwhile = iter([Payment(id=id_, inn=FEW.inns[0], amount=700, document_number="1", body=b"")])

        def pay(_steps: int) -> None:
            for payment in meanwhile:
                with shop.lock:
                    shop._credit(payment)

        report = played.run(pay)

    assert report.is_clean, findings_text(report)
    assert report.total("others") == 700


def test_a_stopped_storm_reports_no_missing_operations():
    with Shop() as shop:
        played = Storm(
            plan=make_plan(seed=2, operations=2000, organisations=6), shop=Seen(shop.addresses), secret=BANK_SECRET
        )
        report = played.run(lambda done: played.stop() if done else None)

    assert report.is_clean, findings_text(report)
    assert any("ended early" in note for note in report.notes)
    assert report.counts["steps"] < len(played.plan.steps)


@pytest.mark.parametrize("extra", [0, 1])
def test_a_stopped_storm_may_leave_many_operations_unanswered(extra):
    """Sixteen connections can all be sending for one organisation when the storm is stopped."""
    plan = make_plan(seed=2, operations=400, organisations=1)
    inn = plan.inns[0]
    mine = [operation for operation in plan.operations if operation.inn == inn]
    results = Results([Record() for _ in plan.operations], ended_early=True)
    for place, operation in enumerate(mine[:200]):
        results.operations[operation.number].sent = 3
        results.operations[operation.number].acknowledged = place >= CONNECTIONS
    credited = sum(operation.amount for operation in mine[5:200]) + extra

    report = compare(plan, results, Reading(balances={inn: 0}), Reading(balances={inn: credited}))

    assert [finding.kind for finding in report.findings] == [Fault.OFF] * extra, findings_text(report)


def test_a_double_credit_that_only_two_reasons_explain_is_named_without_one():
    plan = make_plan(seed=2, operations=40, organisations=1)
    results = Results([Record(sent=1, acknowledged=True) for _ in plan.operations])
    balances = {inn: sum(each.amount for each in plan.operations if each.inn == inn) for inn in plan.inns}
    twice = plan.operations[3]
    results.operations[3].sent = 2
    balances[twice.inn] += twice.amount

    report = compare(plan, results, Reading(balances={}), Reading(balances=balances))

    assert [(each.kind, each.operation_id) for each in report.findings] == [(Fault.DOUBLE, twice.id)]


def test_what_is_left_out_is_not_counted_as_sent():
    with Shop("knows no signatures") as shop:
        report = run_storm(shop, secret=None)
    signed = [step for step in FEW.steps if step.signed != "rightly"]
    lines = list(text.report_lines(report, FEW))
    not_sent = next(line for line in lines if line.startswith("Not sent: "))

    assert sum(report.left_out.values()) == report.counts["left out"] == len(signed)
    for kind in {step.kind for step in signed}:
        assert kind in not_sent
        assert kind not in report.counts
        assert f"{kind} " not in lines[2]


def test_a_secret_that_is_not_base64_leaves_out_old_timestamps_alone():
    with Shop("knows no signatures") as shop:
        report = run_storm(shop, secret="not base64!")

    assert set(report.left_out) == {Kind.STALE, Kind.EARLY}


@pytest.mark.parametrize("fault", ["caps at ten digits", "refuses large amounts", "fails at large amounts"])
def test_a_shop_with_small_columns_is_sound_within_its_bound(fault):
    plan = make_plan(seed=11, operations=120, organisations=6, amount_max=COLUMN_MAX)
    with Shop(fault) as shop:
        report = run_storm(shop, plan)

    assert report.is_clean, findings_text(report)


def test_money_of_a_payer_that_nobody_asks_for_is_found_in_the_list():
    with Shop("needs no payer", lists=True) as shop:
        listed = run_storm(shop)
    with Shop("needs no payer") as shop:
        unlisted = run_storm(shop)

    elsewhere = [finding for finding in listed.findings if finding.inn == "1000000000"]
    assert [finding.kind for finding in elsewhere] == [Fault.OFF]
    assert all(finding.inn != "1000000000" for finding in unlisted.findings)


def test_money_of_a_made_up_payer_is_found_in_the_list_if_its_balance_is_hidden():
    with Shop("hides made-up payers", lists=True) as shop:
        report = run_storm(shop)

    made_up = {finding.inn for finding in report.findings if finding.kind == Fault.MADE_UP}
    assert {"77 DROP TABLE", "None"} <= made_up


def test_money_of_others_outside_the_storm_is_no_finding_where_a_log_shows_it():
    with Shop(shows_log=True, lists=True) as shop:
        played = Storm(plan=FEW, shop=Seen(shop.addresses), secret=BANK_SECRET)
        meanwhile = iter([Payment(id="x", inn="7700000000", amount=700, document_number="1", body=b"")])

        def pay(_steps: int) -> None:
            for payment in meanwhile:
                with shop.lock:
                    shop._credit(payment)

        report = played.run(pay)

    assert report.is_clean, findings_text(report)
    assert next(account for account in report.accounts if account.inn == "7700000000").others == 700


def test_a_list_that_cannot_be_read_is_said():
    with Shop() as shop:
        places = replace(shop.addresses, organisations=shop.addresses.balance.replace("{inn}", "1"))
        report = Storm(plan=FEW, shop=Seen(places), secret=BANK_SECRET).run()

    assert report.is_clean, findings_text(report)
    assert any("list of organisations" in note for note in report.notes)


def test_a_shop_that_does_not_answer_is_an_error():
    with Shop() as shop:
        gone = shop.addresses

    with pytest.raises(ShopSilent, match="Is it running"):
        Storm(plan=FEW, shop=Seen(gone), secret=BANK_SECRET).run()


def test_a_report_as_text_names_its_findings():
    with Shop("loses some", shows_log=True) as shop:
        report = run_storm(shop)
    lines = list(text.report_lines(report, FEW))

    assert lines[0].startswith(f"Storm 11, day 1, plan {FEW.digest()}: 120 operations")
    lost = next(finding for finding in report.findings if finding.kind == Fault.LOST)
    assert any(lost.operation_id in line and lost.inn in line for line in lines)
    assert f"{Fault.LOST} ({len(report.findings)}): {SENTENCES[Fault.LOST]}" in lines
    assert not any(line.startswith("Clean") for line in lines)


@pytest.mark.parametrize("fault", ["none", "checks no signature", "adds floats", "takes any payer", "knows no repeats"])
def test_a_report_as_text_is_one_screen(fault):
    plan = make_plan(seed=11, operations=300, organisations=30)
    with Shop(fault, shows_log=True, lists=True) as shop:
        lines = list(text.report_lines(run_storm(shop, plan), plan))

    assert len(lines) <= 40
    assert max(map(len, lines)) <= 400


def test_what_a_shop_says_is_shown_without_its_control_characters():
    finding = Finding(kind=Fault.DOCUMENT, inn="7707083893", operation_id="", expected="1", found="\x1b[2J" * 99)
    report = Report(seed=1, day=1, plan="", accounts=(), findings=(finding,), counts={})
    lines = list(text.report_lines(report, FEW))

    assert all(line.isprintable() for line in lines)
    assert max(map(len, lines)) <= 400

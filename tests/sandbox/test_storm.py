"""The storm finds and names the faults of a broken shop, and finds nothing in a sound one."""

import os

import pytest

from sandbox.storm import report as kinds
from sandbox.storm import text
from sandbox.storm.connection import ShopSilent
from sandbox.storm.plan import Plan, make_plan
from sandbox.storm.play import CONNECTIONS, Record, Results
from sandbox.storm.report import Report, compare
from sandbox.storm.run import Storm
from sandbox.storm.shop import Reading, addresses_of
from sandbox.storm.shop import Shop as Seen
from tests import databases
from tests.sandbox.factories import SECRET
from tests.sandbox.shops import Shop, kopeck

OPERATIONS = int(os.environ.get("STORM_OPERATIONS", "120"))
FEW = make_plan(seed=11, operations=120, organisations=6)
EVERY = make_plan(seed=11, operations=400, organisations=6)
"""Long enough for each kind of malformed body."""


def run_storm(shop: Shop, plan: Plan = FEW, **options: object) -> Report:
    settings = {"secret": SECRET, "patience": 0.3, "settle": 0.5, **options}
    return Storm(plan=plan, shop=Seen(shop.addresses), **settings).run()


def findings_text(report: Report) -> str:
    return "\n".join(map(str, report.findings[:20]))


@pytest.mark.parametrize("family", databases.FAMILIES)
def test_kopeck_keeps_every_kopeck(family, tmp_path):
    plan = make_plan(seed=5, operations=OPERATIONS, organisations=12)
    with kopeck(family, tmp_path) as server:
        first = Storm(plan=plan, shop=Seen(addresses_of(server.address)), secret=SECRET).run()
        assert first.is_clean, findings_text(first)
        assert first.total("sent") == first.total("credited") == first.total("logged") == first.total("expected")

        # The same day again is all repeats; the day after it, under new ids, is not.
        again = Storm(plan=plan, shop=Seen(addresses_of(server.address)), secret=SECRET).run()
        assert again.is_clean, findings_text(again)
        assert (again.total("credited"), again.total("earlier")) == (0, first.total("sent"))


def test_money_for_strangers_may_be_held(tmp_path):
    plan = make_plan(seed=5, operations=100, organisations=1, inns=("1234567890", "7707083893"))
    with kopeck("sqlite", tmp_path, UNKNOWN_INN="hold") as server:
        server.flask("orgs", "add", "1234567890", "One")
        for _ in range(2):
            report = Storm(plan=plan, shop=Seen(addresses_of(server.address)), secret=SECRET).run()
            assert report.is_clean, findings_text(report)
            assert report.total("held") > 0
            assert report.total("held") + report.total("expected") + report.total("earlier") == report.total("sent")


def test_money_may_be_credited_a_moment_after_the_answer(tmp_path):
    plan = make_plan(seed=5, operations=60, organisations=3)
    with kopeck("sqlite", tmp_path, BALANCE_UPDATES="queued") as server:
        worker = server.background("worker")
        try:
            report = Storm(plan=plan, shop=Seen(addresses_of(server.address)), secret=SECRET, settle=60).run()
        finally:
            worker.terminate()
            worker.wait()
        assert report.is_clean, findings_text(report)


def test_logs_that_need_a_key_are_read_with_it_and_refused_without(tmp_path):
    plan = make_plan(seed=5, operations=40, organisations=3)
    with kopeck("sqlite", tmp_path, KOPECK_ENV="production") as server:
        key = server.flask("keys", "create", "auditor", "--scope", "organizations:read", "--scope", "incidents:read")
        with pytest.raises(ShopSilent, match="key"):
            Storm(plan=plan, shop=Seen(addresses_of(server.address)), secret=SECRET).run()

        seen = Seen(addresses_of(server.address), api_key=key.split()[-1])
        assert Storm(plan=plan, shop=seen, secret=SECRET).run().is_clean


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


FAULTS = {
    "looks before it locks": {kinds.TWICE},
    "tells repeats by their bytes": {kinds.TWICE},
    "tells repeats by the id as text": {kinds.TWICE},
    "believes everybody": {kinds.BELIEVED, kinds.FORGED},
    "compares what is there": {kinds.BELIEVED, kinds.FORGED},
    "verifies what it parsed": {kinds.BELIEVED, kinds.FORGED},
    "thanks forgers": {kinds.BELIEVED},
    "sends forgers away politely": {kinds.NOT_REFUSED},
    "stumbles over forgers": {kinds.FAILED},
    "stumbles over bad bodies": {kinds.FAILED},
    "takes debts": {kinds.UNUSABLE},
    "counts another amount": {kinds.ALTERED},
    "counts another payer": {kinds.ALTERED},
    "lets the last amount win": {kinds.ALTERED},
    "loses some": {kinds.LOST},
    "fails at repeats": {kinds.UNACKNOWLEDGED},
    "refuses what is not ASCII": {kinds.REFUSED},
    "fails when it has credited": {kinds.UNACKNOWLEDGED, kinds.UNPROMISED},
    "calls repeats conflicts": {kinds.MISTAKEN},
    "credits the neighbour": {kinds.ELSEWHERE},
    "says that it holds": {kinds.HELD},
    "forgets rows": {kinds.LOST, kinds.DISAGREE},
    "writes rows that do not add up": {kinds.CHAIN},
    "adds floats": {kinds.DISAGREE},
}
"""Each fault, and the findings that a storm with a log must have."""

WITHOUT_LOG = {
    "counts another payer": {kinds.ALTERED, kinds.OFF},
    "loses some": {kinds.LOST, kinds.OFF},
    "credits the neighbour": {kinds.LOST, kinds.OFF},
    "adds floats": {kinds.OFF},
    "looks before it locks": {kinds.TWICE, kinds.OFF},
    "fails when it has credited": {kinds.UNACKNOWLEDGED, kinds.UNPROMISED},
}
"""Without a log these faults lead to one of these findings. The other faults are found as with a log."""

UNSEEN = ("says that it holds", "forgets rows", "writes rows that do not add up")
"""Faults that show only in a log or a list of incidents."""


SPEAKERS = ("says that it holds", "calls repeats conflicts")
"""Faults that show only in the status that the shop names."""


def test_every_kind_of_finding_has_its_fault():
    named = {value for name, value in vars(kinds).items() if name.isupper() and isinstance(value, str)}

    assert named - {kinds.HELD_WORD} == set().union(*FAULTS.values(), *WITHOUT_LOG.values())


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_found_in_the_log(fault):
    with Shop(fault, shows_log=True, speaks=fault in SPEAKERS) as shop:
        report = run_storm(shop, EVERY if fault == "takes debts" else FEW)

    assert FAULTS[fault] <= {finding.kind for finding in report.findings}, findings_text(report)


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault not in UNSEEN])
def test_every_fault_is_found_by_balances_alone(fault):
    with Shop(fault, speaks=fault in SPEAKERS) as shop:
        report = run_storm(shop, EVERY if fault == "takes debts" else FEW)
    found = {finding.kind for finding in report.findings}

    assert (found & WITHOUT_LOG[fault]) if fault in WITHOUT_LOG else FAULTS[fault] <= found, findings_text(report)


def test_a_double_credit_is_named_by_its_operation():
    with Shop("looks before it locks", shows_log=True) as shop:
        report = run_storm(shop)
        named = {finding.operation_id: finding for finding in report.findings if finding.kind == kinds.TWICE}

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
        named = {finding.operation_id for finding in report.findings if finding.kind == kinds.TWICE}

        assert named
        assert named <= shop.doubled()
        off = {finding.inn for finding in report.findings}
        assert off == {operation.inn for operation in plan.operations if operation.id in shop.doubled()}


def test_a_double_credit_that_the_shop_itself_names_is_found():
    with Shop("looks before it locks", speaks=True) as shop:
        named = {finding.operation_id for finding in run_storm(shop).findings if finding.kind == kinds.TWICE}

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
        played = Storm(plan=FEW, shop=Seen(shop.addresses), secret=SECRET)
        theirs = {"operation_id": "5c0e2f0a-8d3b-4c53-9d0b-2f6a7c1e9b44", "amount": 700, "payer_inn": FEW.inns[0]}
        meanwhile = iter([theirs])

        def pay(_steps: int) -> None:
            for members in meanwhile:
                with shop.lock:
                    shop._credit(members)

        report = played.run(pay)

    assert report.is_clean, findings_text(report)
    assert report.total("others") == 700


def test_a_stopped_storm_reports_no_missing_operations():
    with Shop() as shop:
        played = Storm(
            plan=make_plan(seed=2, operations=2000, organisations=6), shop=Seen(shop.addresses), secret=SECRET
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

    assert [finding.kind for finding in report.findings] == [kinds.OFF] * extra, findings_text(report)


def test_a_shop_that_does_not_answer_is_an_error():
    with Shop() as shop:
        gone = shop.addresses

    with pytest.raises(ShopSilent, match="Is it running"):
        Storm(plan=FEW, shop=Seen(gone), secret=SECRET).run()


def test_a_report_as_text_names_its_findings():
    with Shop("loses some", shows_log=True) as shop:
        report = run_storm(shop)
    lines = list(text.report_lines(report, FEW))

    assert lines[0].startswith(f"Storm 11, day 1, plan {FEW.digest()}: 120 operations")
    lost = next(finding for finding in report.findings if finding.kind == kinds.LOST)
    assert any(lost.operation_id in line and lost.inn in line for line in lines)
    assert not any(line.startswith("Clean") for line in lines)

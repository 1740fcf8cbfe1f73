"""A shop with each fault that a storm can provoke: the storm names exactly this one, with a log and without."""

import pytest

from sandbox.storm.findings import SENTENCES, Fault
from sandbox.storm.plan import Plan, make_plan
from tests.sandbox.shops import Shop
from tests.sandbox.storms import FEW, findings_text, run_storm

FORGED = {Fault.UNSIGNED, Fault.WRONG_SIGNATURE, Fault.HALF_SIGNATURE, Fault.OTHER_BYTES}

FAULTS: dict[str, set[Fault]] = {
    # Repeats
    "looks before it locks": {Fault.RACE},
    "knows no repeats": {Fault.REPEATED, Fault.ALTERED},
    "knows repeats by their bytes": {Fault.BY_BYTES, Fault.ALTERED},
    "reads ids as text": {Fault.BY_SPELLING},
    "fails at repeats": {Fault.FAILED_REPEAT, Fault.FAILED, Fault.UNACKNOWLEDGED, Fault.UNPROMISED},
    "fails at concurrent repeats": {Fault.FAILED_CONCURRENT},
    "refuses repeats": {Fault.REFUSED_REPEAT},
    "calls repeats conflicts": {Fault.MISTAKEN},
    # Promises
    "loses some": {Fault.LOST},
    "loses everything": {Fault.LOST},
    "freezes its balances": {Fault.LAGS},
    "fails when it has credited": {Fault.UNACKNOWLEDGED, Fault.UNPROMISED},
    "refuses what is not ASCII": {Fault.REFUSED},
    "refuses large amounts": {Fault.REFUSED_LARGE},
    "fails at large amounts": {Fault.REFUSED_LARGE},
    "says that it holds": {Fault.HELD},
    "is slow": {Fault.SLOW},
    # Facts
    "counts another amount": {Fault.ALTERED},
    "counts another payer": {Fault.ALTERED},
    "lets the last one win": {Fault.LAST_WINS, Fault.ALTERED},
    "credits the neighbour": {Fault.ELSEWHERE},
    "keeps amounts as floats": {Fault.FLOAT},
    "keeps amounts as single floats": {Fault.FLOAT},
    "adds floats": {Fault.FLOAT},
    "shows fractions": {Fault.FLOAT},
    "wraps at 32 bits": {Fault.WRAPPED},
    "wraps balances": {Fault.WRAPPED},
    "caps at 32 bits": {Fault.CAPPED},
    "caps at ten digits": {Fault.CAPPED},
    "caps balances": {Fault.CAPPED},
    "cuts kopecks off": {Fault.ROUNDED},
    "rounds to roubles": {Fault.ROUNDED},
    "takes kopecks for roubles": {Fault.UNIT},
    "keeps the first ten digits": {Fault.CUT},
    "adds a kopeck": {Fault.OTHER_AMOUNT},
    "cuts documents": {Fault.DOCUMENT},
    "reads no exponents": {Fault.OTHER_AMOUNT, Fault.UNUSABLE},
    # Bodies that cannot be used
    "answers 200 to anything": {Fault.SWALLOWED, Fault.LOST},
    "stumbles over bad bodies": {Fault.FAILED},
    "takes forms": {Fault.UNUSABLE},
    "takes what is broken off": {Fault.UNUSABLE},
    "takes the first of a list": {Fault.UNUSABLE},
    "decodes whatever comes": {Fault.UNUSABLE},
    "needs no id": {Fault.UNUSABLE, Fault.SWALLOWED},
    "reads no dates": {Fault.UNUSABLE},
    "takes debts": {Fault.UNUSABLE},
    "takes nothing": {Fault.UNUSABLE},
    "cuts fractions off": {Fault.UNUSABLE},
    "rounds fractions up": {Fault.UNUSABLE},
    "forgets the sign": {Fault.UNUSABLE},
    "takes true for one": {Fault.UNUSABLE},
    "takes one from a list": {Fault.UNUSABLE},
    "caps what is beyond 64 bits": {Fault.UNUSABLE},
    "wraps what is beyond 64 bits": {Fault.UNUSABLE},
    "takes any payer": {Fault.MADE_UP},
    "takes payers of 12 letters": {Fault.MADE_UP},
    "takes any digits": {Fault.MADE_UP},
    "takes the first ten digits": {Fault.UNUSABLE},
    # Signatures
    "checks no signature": {*FORGED, Fault.STALE},
    "believes the unsigned": {Fault.UNSIGNED},
    "only asks whether there is a signature": {Fault.WRONG_SIGNATURE},
    "compares what is there": {Fault.HALF_SIGNATURE},
    "verifies what it parsed": {Fault.OTHER_BYTES},
    "looks at no timestamp": {Fault.STALE},
    "thanks forgers": {Fault.THANKED},
    "sends forgers away politely": {Fault.NOT_REFUSED},
    "stumbles over forgers": {Fault.FAILED},
    # Logs
    "forgets rows": {Fault.LOST, Fault.DISAGREE},
    "writes rows that do not add up": {Fault.CHAIN},
}
"""What a storm with a log finds in the shop with each fault: this, and nothing else."""

ALONE: dict[str, set[Fault]] = {
    "loses some": {Fault.LOST, Fault.OFF},
    "takes any payer": {Fault.MADE_UP, Fault.SWALLOWED},
    "takes payers of 12 letters": {Fault.MADE_UP, Fault.SWALLOWED},
    "takes debts": {Fault.UNUSABLE, Fault.SWALLOWED},
    "lets the last one win": {Fault.LAST_WINS},
    "loses everything": {Fault.STILL},
    "takes nothing": {Fault.SWALLOWED},
    "looks before it locks": {Fault.RACE, Fault.OFF},
}
"""Without a log these shops show less, or something else."""

SEEN_IN_LOGS = ("says that it holds", "forgets rows", "writes rows that do not add up", "cuts documents")
SPEAKERS = ("says that it holds", "calls repeats conflicts")
"""Faults that show only in the status that the shop names."""

OPTIONS = {
    "is slow": {"slow_seconds": 0.05},
    "wraps balances": {"connections": 1},
    "freezes its balances": {"connections": 1},
    # Of two that are under way at once only the shop knows which was the last.
    "lets the last one win": {"connections": 1},
}


LARGE = make_plan(seed=5, operations=800, organisations=4)
OF_ALL = (
    "knows no repeats",
    "knows repeats by their bytes",
    "reads ids as text",
    "lets the last one win",
    "counts another payer",
    "keeps amounts as single floats",
    "caps at ten digits",
    "checks no signature",
)
"""Faults that show in so many operations that no small set of them explains a balance."""


def found_in(fault: str, plan: Plan = FEW, **shop: bool) -> set[Fault]:
    with Shop(fault, speaks=fault in SPEAKERS, **shop) as running:
        report = run_storm(running, plan, **OPTIONS.get(fault, {}))
    assert not report.is_clean
    print(findings_text(report))
    return {finding.kind for finding in report.findings}


def test_every_fault_has_a_sentence_and_a_shop():
    shown = set().union(*FAULTS.values(), *ALONE.values(), {Fault.DOUBLE})

    assert set(SENTENCES) == set(Fault) == shown
    assert all(sentence.endswith(".") for sentence in SENTENCES.values())


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_named_in_the_log(fault):
    assert found_in(fault, shows_log=True, lists=True) == FAULTS[fault]


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault not in SEEN_IN_LOGS])
def test_every_fault_is_named_by_balances_alone(fault):
    found = found_in(fault)

    if fault in ALONE:
        assert found & ALONE[fault]
        assert found <= ALONE[fault] | FAULTS[fault]
    else:
        assert found == FAULTS[fault]


@pytest.mark.parametrize("fault", OF_ALL)
def test_a_fault_of_the_whole_shop_is_named_by_balances_alone_on_a_large_day(fault):
    assert found_in(fault, LARGE) == ALONE.get(fault, FAULTS[fault])

"""What one fault would make of every balance of a shop without a log: the storm looks for the one that fits all.

It proposes; balances.py compares.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import reduce

from sandbox.message import Message
from sandbox.storm import amounts, doubles
from sandbox.storm.answers import is_credited
from sandbox.storm.evidence import FORGERIES, Evidence, operation_id
from sandbox.storm.findings import Fault, Finding
from sandbox.storm.plan import Kind, Operation, Step
from sandbox.storm.sums import Suspect

ALTERED = (Kind.ALTERED_AMOUNT, Kind.ALTERED_PAYER)


@dataclass(frozen=True, kw_only=True)
class Hypothesis:
    """The effect of a fault on each balance, what it would have to be called, and what may have come in addition."""

    effects: Mapping[str, int]
    findings: tuple[Finding, ...]
    doubtful: tuple[Suspect, ...] = ()


def hypotheses(evidence: Evidence) -> Iterator[Hypothesis]:
    """Return what may be wrong with the whole shop, the narrowest fault first."""
    expected = [each for each in evidence.plan.operations if evidence.is_expected(each)]
    for proposed in (
        _doubles(evidence, expected),
        _unpromised(evidence),
        _changes(evidence, expected),
        _altered(evidence),
        _last_wins(evidence, expected),
        _forgeries(evidence),
    ):
        yield from (each for each in proposed if any(each.effects.values()))


def _doubles(evidence: Evidence, expected: list[Operation]) -> Iterator[Hypothesis]:
    """Every request of some kind was credited, whatever came before; perhaps also other facts under a used id."""
    altered = _credited(Fault.ALTERED, [each for each in evidence.believed if each.kind in ALTERED])
    for fault, times in doubles.MODELS:
        counts = {each.number: times(evidence, each) for each in expected}
        plain = _credited_again(evidence, fault, expected, counts)
        most = plain
        if fault is Fault.REPEATED:
            # Whether the shop has seen a request that nobody waited for, only the shop knows. Most are seen.
            unheard = {each.number: counts[each.number] + evidence.unheard(each) for each in expected}
            most = _credited_again(evidence, fault, expected, unheard)
            plain = replace(plain, doubtful=_unheard(evidence, expected, 1))
            most = replace(most, doubtful=_unheard(evidence, expected, -1))
        for each in (plain, most):
            yield each
            yield _together(each, altered)


def _credited_again(
    evidence: Evidence, fault: Fault, expected: list[Operation], counts: Mapping[int, int]
) -> Hypothesis:
    again = [each for each in expected if counts[each.number] > 1]
    return Hypothesis(
        effects=_sums((each.inn, (counts[each.number] - 1) * each.amount) for each in again),
        findings=tuple(evidence.about(fault, each, each.amount, counts[each.number] * each.amount) for each in again),
    )


def _unheard(evidence: Evidence, expected: list[Operation], sign: int) -> tuple[Suspect, ...]:
    return tuple(
        Suspect(effect=sign * each.amount, kind=Fault.REPEATED, operation_id=each.id, expected="", found="")
        for each in expected
        if evidence.unheard(each)
    )


def _together(one: Hypothesis, other: Hypothesis) -> Hypothesis:
    effects = Counter(one.effects)
    effects.update(other.effects)
    return replace(one, effects=effects, findings=(*one.findings, *other.findings))


def _unpromised(evidence: Evidence) -> Iterator[Hypothesis]:
    """Everything that was never acknowledged was credited all the same."""
    guilty = []
    for operation in evidence.plan.operations:
        record = evidence.record(operation)
        if record.sent and not record.acknowledged and operation.id not in evidence.earlier:
            guilty.append(operation)
    named = [each for each in guilty if not (evidence.record(each).refused and is_credited(evidence, each))]
    yield Hypothesis(
        effects=_sums((each.inn, each.amount) for each in guilty),
        findings=tuple(evidence.about(Fault.UNPROMISED, each, 0, each.amount) for each in named),
    )


def _changes(evidence: Evidence, expected: list[Operation]) -> Iterator[Hypothesis]:
    """A column or a type made something else of every amount."""
    for fault, change in amounts.CHANGES:
        changed = [each for each in expected if change(each.amount) != each.amount]
        yield Hypothesis(
            effects=_sums((each.inn, change(each.amount) - each.amount) for each in changed),
            findings=tuple(evidence.about(fault, each, each.amount, change(each.amount)) for each in changed),
        )


def _altered(evidence: Evidence) -> Iterator[Hypothesis]:
    """Other facts under a used id were credited, too: other amounts, other payers, or both."""
    steps = [each for each in evidence.believed if each.kind in ALTERED]
    for kinds in (*([kind] for kind in ALTERED), ALTERED):
        distinct = {(operation_id(each), _inn(each), _amount(each)): each for each in steps if each.kind in kinds}
        yield _credited(Fault.ALTERED, list(distinct.values()))


def _last_wins(evidence: Evidence, expected: list[Operation]) -> Iterator[Hypothesis]:
    """Of every operation the last request that was acknowledged counts, and no other."""
    last: dict[str, tuple[str, int]] = {}
    for answer in evidence.results.answers:
        step = evidence.plan.steps[answer.step]
        if step.operation is None or answer.reply is None or not answer.reply.is_ack:
            continue
        operation = evidence.plan.operations[step.operation]
        last[operation.id] = (_inn(step), _amount(step)) if step.claim else (operation.inn, operation.amount)
    replaced = [each for each in expected if last.get(each.id) not in (None, (each.inn, each.amount))]
    yield Hypothesis(
        effects=_sums([*((each.inn, -each.amount) for each in replaced), *(last[each.id] for each in replaced)]),
        findings=tuple(
            evidence.about(
                Fault.LAST_WINS,
                each,
                Message("{amount} for {inn}", amount=each.amount, inn=each.inn),
                Message("{amount} for {inn}", amount=last[each.id][1], inn=last[each.id][0]),
            )
            for each in replaced
        ),
    )


def _forgeries(evidence: Evidence) -> Iterator[Hypothesis]:
    """Every forgery was credited, or every one of a kind."""
    steps = [each for each in evidence.believed if each.kind in FORGERIES and each.kind != Kind.FORGED_REPEAT]
    faults = sorted({FORGERIES[each.kind] for each in steps})
    for accepted in (*([fault] for fault in faults), *([faults] if faults else [])):
        parts = [_credited(fault, [each for each in steps if FORGERIES[each.kind] == fault]) for fault in accepted]
        yield reduce(_together, parts)


def _credited(fault: Fault, steps: list[Step]) -> Hypothesis:
    return Hypothesis(
        effects=_sums((_inn(each), _amount(each)) for each in steps),
        findings=tuple(_finding(fault, each) for each in steps),
    )


def _finding(kind: Fault, step: Step) -> Finding:
    found = str(_amount(step))
    return Finding(kind=kind, inn=_inn(step), operation_id=operation_id(step), expected="0", found=found)


def _inn(step: Step) -> str:
    return step.claim.payers[0] if step.claim else ""


def _amount(step: Step) -> int:
    return step.claim.amounts[0] if step.claim else 0


def _sums(effects: Iterable[tuple[str, int]]) -> Mapping[str, int]:
    total: Counter[str] = Counter()
    for inn, effect in effects:
        total[inn] += effect
    return total

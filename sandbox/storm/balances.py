"""Checks the shop's balances: against the log if there is one, otherwise against what was sent and acknowledged.

Without a log, a fault is recognised by the amounts: first one fault that explains all, then a few operations each.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain

from sandbox.message import Message
from sandbox.storm import amounts, doubles, hypotheses
from sandbox.storm.evidence import Evidence, operation_id, step_name
from sandbox.storm.findings import Fault, Finding
from sandbox.storm.hypotheses import Hypothesis
from sandbox.storm.plan import Operation, Step
from sandbox.storm.readings import INN
from sandbox.storm.sums import Suspect, explain

COPIES_MAX = 8
"""The maximum number of credits of one operation that is considered when only balances are known."""

Differences = dict[str, int]


def check(evidence: Evidence) -> Iterator[Finding]:
    """Return what is wrong with the balances."""
    for inn, kopecks in evidence.after.fractions.items():
        yield _of_balance(Fault.FLOAT, inn, "whole kopecks", kopecks)
    if evidence.has_logs:
        yield from _against_logs(evidence)
    else:
        yield from _Alone(evidence).findings()


def _against_logs(evidence: Evidence) -> Iterator[Finding]:
    for inn in (*evidence.plan.inns, *evidence.strays):
        entries = evidence.fresh.get(inn, [])
        logged, credited = sum(entry.delta for entry in entries), evidence.credited(inn)
        if credited == logged or inn in evidence.after.fractions:
            continue
        if inn in evidence.strays:
            if not entries and not INN.fullmatch(inn):
                yield _of_balance(Fault.MADE_UP, inn, "0", str(credited))
            continue
        due, found = evidence.before.balance(inn) + logged, evidence.after.balance(inn)
        kind = amounts.balance_fault(due, found, len(entries))
        if kind is None and _is_late(logged - credited, [entry.delta for entry in entries]):
            kind = Fault.LAGS
        yield _of_balance(kind or Fault.DISAGREE, inn, str(logged), str(credited))


def _is_late(missing: int, deltas: list[int]) -> bool:
    """Return whether exactly the newest rows are missing; logs begin with the newest row, or with the oldest."""
    for ordered in (deltas, deltas[::-1]):
        total = 0
        for delta in ordered:
            total += delta
            if total == missing:
                return True
    return False


def _of_balance(kind: Fault, inn: str, expected: str, found: str) -> Finding:
    return Finding(kind=kind, inn=inn, operation_id="", expected=expected, found=found)


class _Alone:
    """The check without a log. Each step explains some of the differences and takes them away."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self.left: Differences = {}
        for inn in (*evidence.plan.inns, *evidence.strays):
            difference = evidence.credited(inn) - evidence.expected(inn)
            if difference and inn not in evidence.after.fractions:
                self.left[inn] = difference
        if evidence.results.ended_early:
            self._forget_unanswered()

    def findings(self) -> Iterator[Finding]:
        is_misplaced = len(self.left) > 1 and sum(self.left.values()) == 0
        found: list[Finding] = []
        for step in (self._named_doubles, self._still, self._one_fault, self._columns, self._late, self._few):
            found += step()
        yield from self._renamed(found, is_misplaced=is_misplaced)

    def _forget_unanswered(self) -> None:
        """Forget what was sent and not answered: at the end of a stopped storm it may be credited or not."""
        for inn, difference in list(self.left.items()):
            suspects = [each for each in self._suspects(inn, []) if each.kind == Fault.UNPROMISED]
            if explain(difference, suspects):
                del self.left[inn]

    # ---- One fault for all balances

    def _named_doubles(self) -> Iterator[Finding]:
        """Believe a shop that itself says `credited` more than once."""
        times = {
            operation.number: self.evidence.record(operation).outcomes["credited"]
            for operation in self.evidence.plan.operations
        }
        times = {number: count for number, count in times.items() if count > 1}
        extra: Differences = {}
        for number, count in times.items():
            operation = self.evidence.plan.operations[number]
            extra[operation.inn] = extra.get(operation.inn, 0) + (count - 1) * operation.amount
        for inn, amount in extra.items():
            if self.left.get(inn) == amount:
                del self.left[inn]
        yield from doubles.findings(self.evidence, times)

    def _still(self) -> Iterator[Finding]:
        due = {inn: -difference for inn, difference in self.left.items() if not self.evidence.credited(inn)}
        moved = any(self.evidence.credited(inn) for inn in self.evidence.plan.inns)
        if due and not moved:
            for inn, expected in due.items():
                del self.left[inn]
                yield _of_balance(Fault.STILL, inn, str(expected), "0")

    def _one_fault(self) -> Iterator[Finding]:
        """Look for the one fault that explains every difference, perhaps with a few false facts in addition."""
        if not self.left:
            return
        for hypothesis in hypotheses.hypotheses(self.evidence):
            causes = self._causes_beside(hypothesis)
            if causes is not None:
                self.left = {}
                yield from (*hypothesis.findings, *causes)
                return

    def _causes_beside(self, hypothesis: Hypothesis) -> list[Finding] | None:
        """Return what else must have happened if a hypothesis holds; None if it does not hold."""
        causes: list[Finding] = []
        for inn in {*self.left, *hypothesis.effects}:
            difference = self.left.get(inn, 0) - hypothesis.effects.get(inn, 0)
            if not difference:
                continue
            mine = [each for each in hypothesis.doubtful if self.evidence.by_id[each.operation_id].inn == inn]
            found = explain(difference, [*mine, *self._claims(inn, self.evidence.believed)])
            if not found:
                return None
            causes += (_of_suspect(inn, each) for each in found if each not in mine)
        return causes

    # ---- Balance by balance

    def _columns(self) -> Iterator[Finding]:
        """Try what the column of a balance may have made of the sum."""
        for inn, difference in list(self.left.items()):
            found = self.evidence.after.balance(inn)
            count = sum(operation.inn == inn for operation in self.evidence.plan.operations)
            kind = amounts.balance_fault(found - difference, found, count)
            if kind is not None:
                del self.left[inn]
                yield _of_balance(kind, inn, str(found - difference), str(found))

    def _late(self) -> Iterator[Finding]:
        """Try whether exactly the last acknowledged operations are missing, in every balance that is wrong."""
        several = False
        for inn, difference in self.left.items():
            mine = [each for each in self.evidence.plan.operations if each.inn == inn]
            expected = [each for each in mine if self.evidence.is_expected(each)]
            expected.sort(key=lambda each: -self.evidence.record(each).acknowledged_as)
            if not _is_late(-difference, [each.amount for each in expected]):
                return
            # A single one is more likely lost than late.
            several |= -difference != expected[0].amount
        if several:
            for inn, difference in self.left.items():
                due = self.evidence.expected(inn)
                yield _of_balance(Fault.LAGS, inn, str(due), str(due + difference))
            self.left = {}

    def _few(self) -> Iterator[Finding]:
        """Look for a few operations that explain each difference; what is left is a difference."""
        for inn, difference in list(self.left.items()):
            causes = explain(difference, self._suspects(inn, self.evidence.believed))
            causes = causes or explain(difference, self._suspects(inn, list(self.evidence.sent_steps())))
            yield from (_of_suspect(inn, cause) for cause in causes)
            if causes:
                continue
            credited = self.evidence.credited(inn)
            is_nobody = inn in self.evidence.strays and not INN.fullmatch(inn)
            kind = Fault.MADE_UP if is_nobody else Fault.OFF
            yield _of_balance(kind, inn, str(credited - difference), str(credited))

    def _suspects(self, inn: str, steps: list[Step]) -> list[Suspect]:
        mine = [operation for operation in self.evidence.plan.operations if operation.inn == inn]
        faults = chain.from_iterable(map(self._possible_faults, mine))
        return [*faults, *self._claims(inn, steps)]

    def _claims(self, inn: str, steps: list[Step]) -> list[Suspect]:
        return [each for step in steps if step.claim for each in self._possible_claim(step, inn)]

    def _possible_faults(self, operation: Operation) -> Iterator[Suspect]:
        """Return what may have gone wrong with an operation, and its effect on the balance."""
        record, amount = self.evidence.record(operation), operation.amount
        earlier = operation.id in self.evidence.earlier
        if self.evidence.is_expected(operation) or earlier:
            for times in range(2, min(record.sent, COPIES_MAX) + 1 + earlier):
                yield _suspect(Fault.DOUBLE, operation.id, amount, times * amount)
            if not earlier:
                yield _suspect(Fault.LOST, operation.id, amount, 0)
        elif operation.id not in self.evidence.held and record.sent:
            yield _suspect(Fault.UNPROMISED, operation.id, 0, amount)

    def _possible_claim(self, step: Step, inn: str) -> Iterator[Suspect]:
        """Return the amounts that a shop may have read out of a body that must not be credited."""
        assert step.claim is not None
        if inn not in step.claim.payers:
            return
        id_ = operation_id(step)
        accepted = self.evidence.accepted.get(id_)
        if accepted == (inn, step.claim.amounts[0] if step.claim.amounts else 0):
            yield _suspect(Fault.LOST, id_, accepted[1], 0)
            for amount in step.claim.amounts[1:]:
                yield _suspect(Fault.OTHER_AMOUNT, id_, accepted[1], amount)
            return
        kind = self.evidence.fault_of(step, inn)
        for amount in step.claim.amounts:
            found = Message("{amount} for a {step}", amount=amount, step=step_name(step))
            yield Suspect(effect=amount, kind=kind, operation_id=id_, expected="0", found=found)
            real = self.evidence.by_id.get(id_)
            if real is not None and real.inn == inn:
                yield _suspect(Fault.LAST_WINS, id_, real.amount, amount)

    def _renamed(self, found: list[Finding], *, is_misplaced: bool) -> Iterator[Finding]:
        """Name what only several balances together show: races, and money that went from one to another."""
        doubled = {self.evidence.by_id[each.operation_id].number for each in found if each.kind == Fault.DOUBLE}
        is_race = bool(doubled) and doubled <= self.evidence.concurrent
        ids = {kind: {each.operation_id for each in found if each.kind == kind} for kind in Fault}
        for finding in found:
            kind, id_ = finding.kind, finding.operation_id
            if kind is Fault.LOST and id_ in ids[Fault.MADE_UP]:
                continue
            if kind is Fault.DOUBLE and is_race:
                kind = Fault.RACE
            elif kind in (Fault.LOST, Fault.ALTERED) and id_ in ids[Fault.LOST] & ids[Fault.ALTERED]:
                kind = Fault.LAST_WINS
            elif kind in (Fault.LOST, Fault.OFF) and is_misplaced:
                # Nothing is missing in all, but it is not where it should be.
                kind = Fault.ELSEWHERE
            yield replace(finding, kind=kind)


def _of_suspect(inn: str, cause: Suspect) -> Finding:
    return Finding(
        kind=cause.kind, inn=inn, operation_id=cause.operation_id, expected=cause.expected, found=cause.found
    )


def _suspect(kind: Fault, id_: str, expected: int, found: int) -> Suspect:
    return Suspect(effect=found - expected, kind=kind, operation_id=id_, expected=str(expected), found=str(found))

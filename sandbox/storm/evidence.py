"""What is known at the end of a storm: what was sent, answered, credited before, held, and expected.

The checks of answers, logs and balances ask it. It judges nothing itself.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cached_property

from sandbox.message import Message
from sandbox.storm.findings import Fault, Finding
from sandbox.storm.plan import Expect, Kind, Manner, Operation, Plan, Step
from sandbox.storm.play import Record, Results
from sandbox.storm.readings import Carried, read_back
from sandbox.storm.shop import Entry, Reading

HELD_WORD = "held"
KEPT_WORDS = (HELD_WORD, "accepted", "conflict")
"""Statuses by which a shop says that it keeps a body for later, or for a person."""

FORGERIES = {
    Kind.FORGED: Fault.WRONG_SIGNATURE,
    Kind.FORGED_REPEAT: Fault.WRONG_SIGNATURE,
    Kind.TRUNCATED: Fault.HALF_SIGNATURE,
    Kind.UNSIGNED: Fault.UNSIGNED,
    Kind.OTHER_BYTES: Fault.OTHER_BYTES,
    Kind.STALE: Fault.STALE,
    Kind.EARLY: Fault.STALE,
}
"""The fault of a shop that accepts a forgery of this kind."""


class Evidence:
    """The plan, what became of it, and two readings of the shop."""

    def __init__(self, plan: Plan, results: Results, before: Reading, after: Reading, *, again: bool) -> None:
        self.plan, self.results, self.before, self.after, self.again = plan, results, before, after, again
        self.has_logs = before.logs is not None and after.logs is not None
        self.by_id = {operation.id: operation for operation in plan.operations}
        self.claims: dict[str, list[Step]] = defaultdict(list)
        self.nameless: list[Step] = []
        for step in self.sent_steps():
            if step.claim and step.claim.operation_ids:
                self.claims[step.claim.operation_ids[0]].append(step)
            elif step.claim:
                self.nameless.append(step)

    def sent_steps(self) -> Iterator[Step]:
        """Return the steps that were sent."""
        return (self.plan.steps[number] for number in self.results.replies)

    def record(self, operation: Operation) -> Record:
        """Return what the bank knows about an operation."""
        return self.results.operations[operation.number]

    # ---- The shop

    @cached_property
    def fresh(self) -> dict[str, list[Entry]]:
        """The new rows of each log."""
        if self.before.logs is None or self.after.logs is None:
            return {}
        fresh = {}
        for inn, rows in self.after.logs.items():
            fresh[inn] = list((Counter(rows) - Counter(self.before.logs.get(inn, ()))).elements())
        return fresh

    @cached_property
    def earlier_ids(self) -> set[str]:
        """The ids that the logs had before this storm."""
        return {entry.operation_id for entries in (self.before.logs or {}).values() for entry in entries}

    @cached_property
    def earlier(self) -> set[str]:
        """The operations that were credited before this storm."""
        return set(self.by_id) if self.again else self.earlier_ids & set(self.by_id)

    @cached_property
    def held(self) -> set[str]:
        """The operations whose money is held."""
        return {operation.id for operation in self.plan.operations if self._is_held(operation)}

    def credited(self, inn: str) -> int:
        """Return the change of a balance."""
        return self.after.balance(inn) - self.before.balance(inn)

    @cached_property
    def strays(self) -> tuple[str, ...]:
        """Every other payer whose balance has changed."""
        seen = dict.fromkeys((*self.after.balances, *(self.after.listed or {})))
        known = set(self.plan.inns)
        return tuple(inn for inn in seen if inn not in known and self.credited(inn))

    @cached_property
    def believed(self) -> list[Step]:
        """The steps with false facts that got a 2xx."""
        numbers = (number for number, replies in self.results.replies.items() if any(r and r.is_ack for r in replies))
        return [self.plan.steps[number] for number in numbers if self.plan.steps[number].claim]

    # ---- What must be credited

    def is_expected(self, operation: Operation) -> bool:
        """Return whether this storm must have credited an operation."""
        record = self.record(operation)
        counted = operation.id not in self.earlier and operation.id not in self.held
        return counted and record.acknowledged and not record.outcomes[HELD_WORD]

    @cached_property
    def accepted(self) -> dict[str, tuple[str, int]]:
        """By id: organisation and amount of the bodies in an unusual spelling that the shop accepted in this storm."""
        found = {}
        for step in self.believed:
            id_ = operation_id(step)
            if step.as_written and not self.again and id_ not in self.earlier_ids and self._is_accepted(step):
                found[id_] = step.as_written
        return found

    def expected(self, inn: str) -> int:
        """Return how much an organisation must have got."""
        operations = sum(each.amount for each in self.plan.operations if each.inn == inn and self.is_expected(each))
        return operations + self.accepted_sum(inn)

    def accepted_sum(self, inn: str, *, earlier: bool = False) -> int:
        """Return the amounts in an unusual spelling that were accepted, in this storm or before it."""
        accepted = self._accepted_earlier if earlier else self.accepted.values()
        return sum(amount for payer, amount in accepted if payer == inn)

    @cached_property
    def _accepted_earlier(self) -> list[tuple[str, int]]:
        steps = (step for step in self.sent_steps() if operation_id(step) in self.earlier_ids)
        return [step.as_written for step in steps if step.as_written]

    def _is_accepted(self, step: Step) -> bool:
        """Return whether a body was accepted as it is; if the shop looks at it later, only the log shows it."""
        outcomes = self._outcomes[operation_id(step)]
        if not outcomes & set(KEPT_WORDS):
            return True
        return any(entry.operation_id == operation_id(step) for rows in self.fresh.values() for entry in rows)

    @cached_property
    def _outcomes(self) -> dict[str, set[str | None]]:
        found: dict[str, set[str | None]] = defaultdict(set)
        for number, replies in self.results.replies.items():
            step = self.plan.steps[number]
            if step.as_written:
                found[operation_id(step)] |= {reply.outcome for reply in replies if reply}
        return found

    # ---- How often an operation could be credited

    def acknowledged_bodies(self, operation: Operation) -> list[bytes]:
        """Return the body of each request for an operation that got a 2xx."""
        return self._acknowledged.get(operation.number, [])

    def unheard(self, operation: Operation) -> int:
        """Return how many whole requests for an operation had no answer."""
        return self._unheard[operation.number]

    def spellings(self, operation: Operation) -> int:
        """Return in how many spellings an operation's id was acknowledged."""
        return len({read_back(body).operation_ids[-1] for body in self.acknowledged_bodies(operation)})

    @cached_property
    def concurrent(self) -> set[int]:
        """The numbers of the operations of which copies were in flight at the same moment."""
        numbers = (self.plan.steps[each.step].operation for each in self.results.answers if each.is_concurrent)
        return {number for number in numbers if number is not None}

    @cached_property
    def acknowledged(self) -> set[int]:
        """The numbers of the operations that the shop acknowledged at some time."""
        return {each.number for each in self.plan.operations if self.record(each).acknowledged}

    @cached_property
    def _acknowledged(self) -> dict[int, list[bytes]]:
        found: dict[int, list[bytes]] = defaultdict(list)
        for answer in self.results.answers:
            step = self.plan.steps[answer.step]
            if step.claim is None and step.operation is not None and answer.reply and answer.reply.is_ack:
                found[step.operation].append(step.body)
        return found

    @cached_property
    def _unheard(self) -> Counter[int]:
        steps = (step for step in self.sent_steps() if step.expect == Expect.NOTHING)
        return Counter(step.operation or 0 for step in steps if step.manner != Manner.CUT)

    def _is_held(self, operation: Operation) -> bool:
        """Return whether money is held: by its incident, or by the answer if incidents cannot be read."""
        if operation.id in self.earlier:
            return False
        if any(entry.operation_id == operation.id for entries in self.fresh.values() for entry in entries):
            return False
        if self.after.held is not None:
            return self.after.held.get(operation.id) == operation.amount
        return bool(self.record(operation).outcomes[HELD_WORD])

    # ---- Findings

    def about(self, kind: Fault, operation: Operation, expected: object, found: object) -> Finding:
        """Return a finding about an operation."""
        return Finding(
            kind=kind, inn=operation.inn, operation_id=operation.id, expected=_text(expected), found=_text(found)
        )

    def about_step(self, kind: Fault, step: Step, expected: object, found: object, inn: str = "") -> Finding:
        """Return a finding about a step: the facts of its body, or of its operation."""
        if step.claim is None:
            return self.about(kind, self.plan.operations[step.operation or 0], expected, found)
        payer = inn or next(iter(step.claim.payers), "")
        id_ = operation_id(step)
        return Finding(kind=kind, inn=payer, operation_id=id_, expected=_text(expected), found=_text(found))

    def fault_of(self, step: Step, inn: str) -> Fault:
        """Return the fault of a shop that credits a claim to a payer."""
        if step.kind in FORGERIES:
            return FORGERIES[step.kind]
        if step.operation is not None:
            return Fault.ALTERED
        return Fault.UNUSABLE if inn in self.plan.inns else Fault.MADE_UP


def operation_id(step: Step) -> str:
    """Return the operation id that the body of a step carries; empty if it has none."""
    return next(iter(step.claim.operation_ids), "") if step.claim else ""


def step_name(step: Step) -> str:
    """Return the name of a step, with the body that it has."""
    return Message("{kind} ({detail})", kind=step.kind, detail=step.detail) if step.detail else step.kind


def could_be(claim: Carried, inn: str, amount: int) -> bool:
    """Return whether some shop may read this payer and this amount out of a body."""
    return inn in claim.payers and amount in claim.amounts


def _text(value: object) -> str:
    return value if isinstance(value, str) else str(value)

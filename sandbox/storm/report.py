"""The report of a storm: compares the bank's records with what the shop shows, and names each difference.

It is pure: no network, no clock.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from sandbox.message import Message
from sandbox.storm.connection import Reply
from sandbox.storm.plan import Claim, Expect, Kind, Operation, Plan, Step
from sandbox.storm.play import Record, Results
from sandbox.storm.shop import Entry, Reading
from sandbox.storm.sums import Suspect, explain

TWICE = "double credit"
LOST = "acknowledged and lost"
ALTERED = "altered facts credited"
FORGED = "forged and credited"
UNUSABLE = "malformed and credited"
BELIEVED = "forged and accepted"
NOT_REFUSED = "not refused"
FAILED = "error of the shop's own"
REFUSED = "authentic and refused"
UNACKNOWLEDGED = "never acknowledged"
UNPROMISED = "credited without a promise"
MISTAKEN = "understood otherwise"
ELSEWHERE = "credited to another"
CHAIN = "log does not add up"
DISAGREE = "balance and log disagree"
OFF = "difference"
HELD = "held and not shown"

FORGERIES = (Kind.FORGED, Kind.FORGED_REPEAT, Kind.TRUNCATED, Kind.UNSIGNED, Kind.OTHER_BYTES)
HELD_WORD = "held"

COPIES_MAX = 8
"""The maximum number of credits of one operation that is considered when only balances are known."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One problem: its kind, the organisation, the operation, what was expected and what was found."""

    kind: str
    inn: str
    operation_id: str
    expected: str
    found: str


@dataclass(frozen=True, kw_only=True)
class Account:
    """The result of one organisation, in kopecks; `logged` is None if there is no log."""

    inn: str
    before: int
    after: int
    sent: int
    expected: int
    held: int
    earlier: int
    logged: int | None
    others: int

    @property
    def credited(self) -> int:
        """Return the change of the balance."""
        return self.after - self.before


@dataclass(frozen=True, kw_only=True)
class Report:
    """The result of a storm; it is clean if there is no finding."""

    seed: int
    day: int
    plan: str
    accounts: tuple[Account, ...]
    findings: tuple[Finding, ...]
    counts: Mapping[str, int]
    notes: tuple[str, ...] = field(default=())

    @property
    def is_clean(self) -> bool:
        """Return whether there is no finding."""
        return not self.findings

    @property
    def is_short(self) -> bool:
        """Return whether money is missing that may still be credited."""
        return any(account.credited < account.expected for account in self.accounts)

    def total(self, column: str) -> int:
        """Return the sum of a column."""
        return sum(getattr(account, column) or 0 for account in self.accounts)

    def as_json(self) -> dict[str, Any]:
        """Return the report as JSON."""
        accounts = [{**asdict(account), "credited": account.credited} for account in self.accounts]
        own = {"seed": self.seed, "day": self.day, "plan": self.plan, "clean": self.is_clean}
        findings = [asdict(finding) for finding in self.findings]
        return {
            **own,
            "accounts": accounts,
            "findings": findings,
            "counts": dict(self.counts),
            "notes": list(self.notes),
        }


def compare(plan: Plan, results: Results, before: Reading, after: Reading, *, again: bool = False) -> Report:
    """Compare the bank's records with the shop's; `again` means that this day was played before."""
    return _Comparison(plan, results, before, after, again=again).report()


class _Comparison:
    def __init__(self, plan: Plan, results: Results, before: Reading, after: Reading, *, again: bool) -> None:
        self.plan, self.results, self.before, self.after = plan, results, before, after
        self.again = again
        self.by_id = {operation.id: operation for operation in plan.operations}
        self.claims: dict[str, list[tuple[Step, Claim]]] = defaultdict(list)
        for number, step in enumerate(plan.steps):
            if step.claim and results.replies.get(number):
                self.claims[step.claim.operation_id].append((step, step.claim))
        self.has_logs = before.logs is not None and after.logs is not None
        self.fresh = self._fresh()
        self.earlier = self._earlier()
        self.held = {operation.id for operation in plan.operations if self._is_held(operation)}
        self.findings: list[Finding] = []

    def report(self) -> Report:
        self.findings += self._answers()
        self.findings += self._promises()
        if self.has_logs:
            self.findings += self._logs()
        accounts = tuple(map(self._account, self.plan.inns))
        for account in accounts:
            self.findings += self._balance(account)
        return Report(
            seed=self.plan.seed,
            day=self.plan.day,
            plan=self.plan.digest(),
            accounts=accounts,
            findings=tuple(dict.fromkeys(self.findings)),
            counts=dict(self.results.counts),
            notes=tuple(dict.fromkeys((*self.before.notes, *self.after.notes, *self._notes(accounts)))),
        )

    # ---- Preparation

    def _fresh(self) -> dict[str, list[Entry]]:
        """Return the new rows of each log."""
        if self.before.logs is None or self.after.logs is None:
            return {}
        fresh = {}
        for inn in self.plan.inns:
            known = Counter(self.before.logs.get(inn, ()))
            fresh[inn] = list((Counter(self.after.logs.get(inn, ())) - known).elements())
        return fresh

    def _earlier(self) -> set[str]:
        """Return the operations that were credited before this storm."""
        if self.again:
            return set(self.by_id)
        logs = (self.before.logs or {}).values()
        return {entry.operation_id for entries in logs for entry in entries if entry.operation_id in self.by_id}

    def _is_held(self, operation: Operation) -> bool:
        """Return whether money is held: by its incident, or by the answer if incidents cannot be read."""
        if operation.id in self.earlier:
            return False
        if any(entry.operation_id == operation.id for entries in self.fresh.values() for entry in entries):
            return False
        if self.after.held is not None:
            return self.after.held.get(operation.id) == operation.amount
        return bool(self._record(operation).outcomes[HELD_WORD])

    def _record(self, operation: Operation) -> Record:
        return self.results.operations[operation.number]

    def _is_expected(self, operation: Operation) -> bool:
        counted = operation.id not in self.earlier and operation.id not in self.held
        return counted and self._record(operation).acknowledged

    # ---- Answers

    def _answers(self) -> Iterator[Finding]:
        for number, replies in self.results.replies.items():
            step = self.plan.steps[number]
            if step.expect in (Expect.REFUSED, Expect.UNCOUNTED):
                for reply in replies:
                    yield from self._answer(step, reply)

    def _answer(self, step: Step, reply: Reply | None) -> Iterator[Finding]:
        if reply is None:
            # A shop may close the connection on a huge body.
            if step.kind != Kind.HUGE:
                yield self._wrong_answer(FAILED, step, "an answer", Message("none to a {step}", step=_name(step)))
        elif step.expect == Expect.REFUSED and reply.status < 400:
            found = Message("{status} to a {step}", status=reply.status, step=_name(step))
            yield self._wrong_answer(BELIEVED if reply.is_ack else NOT_REFUSED, step, "4xx", found)
        elif reply.status >= 500:
            found = Message("{status} to a {step}, again and again", status=reply.status, step=_name(step))
            yield self._wrong_answer(FAILED, step, "4xx", found)

    def _wrong_answer(self, kind: str, step: Step, expected: str, found: str) -> Finding:
        inn, operation_id = self._inn(step), self._operation_id(step)
        return Finding(kind=kind, inn=inn, operation_id=operation_id, expected=expected, found=found)

    def _promises(self) -> Iterator[Finding]:
        for operation in self.plan.operations:
            record = self._record(operation)
            if record.refused and not record.acknowledged:
                yield self._about(REFUSED, operation, "2xx", str(record.refused))
            elif not record.acknowledged and not self.results.ended_early:
                none = Message("none to {count} sendings", count=record.sent)
                yield self._about(UNACKNOWLEDGED, operation, "2xx, sooner or later", none)
            if record.outcomes["credited"] > 1:
                yield self._twice(operation, record.outcomes["credited"])
            if record.outcomes["conflict"]:
                yield self._about(MISTAKEN, operation, "credited or duplicate", "conflict, with the same facts")
            said_held = record.outcomes[HELD_WORD] and operation.id not in self.earlier
            if said_held and self.after.held is not None and operation.id not in self.held:
                expected = Message("an incident that holds {amount}", amount=operation.amount)
                yield self._about(HELD, operation, expected, "none")

    # ---- Logs

    def _logs(self) -> Iterator[Finding]:
        found: dict[str, list[tuple[str, Entry]]] = defaultdict(list)
        for inn, entries in self.fresh.items():
            for entry in entries:
                found[entry.operation_id].append((inn, entry))
                if not entry.adds_up:
                    yield Finding(
                        kind=CHAIN,
                        inn=inn,
                        operation_id=entry.operation_id,
                        expected="before + delta = after",
                        found=Message("version {version}", version=entry.version),
                    )
        for id_, rows in found.items():
            if id_ in self.by_id:
                yield from self._rows(self.by_id[id_], rows)
            else:
                yield from self._claimed(id_, rows)
        for operation in self.plan.operations:
            if self._is_expected(operation) and operation.id not in found:
                yield self._about(LOST, operation, str(operation.amount), "0")

    def _rows(self, operation: Operation, rows: list[tuple[str, Entry]]) -> Iterator[Finding]:
        """Check the rows of a real operation."""
        own, altered = [], {(claim.inn, claim.amount) for _, claim in self.claims.get(operation.id, ())}
        for inn, entry in rows:
            if (inn, entry.delta) in altered or entry.delta != operation.amount:
                due = Message("{amount} for {inn}", amount=operation.amount, inn=operation.inn)
                found = Message("{amount} for {inn}", amount=entry.delta, inn=inn)
                yield self._about(ALTERED, operation, due, found)
                continue
            own.append(entry)
            if inn != operation.inn:
                yield self._about(ELSEWHERE, operation, operation.inn, inn)
        times = len(own) + (operation.id in self.earlier)
        if times > 1:
            yield self._twice(operation, times)
        elif own and not self._record(operation).acknowledged and not self.results.ended_early:
            yield self._about(UNPROMISED, operation, "a 2xx before or after", "credited, never acknowledged")

    def _claimed(self, id_: str, rows: list[tuple[str, Entry]]) -> Iterator[Finding]:
        """Check the rows of a false operation; operations of other senders are no finding."""
        for step, _ in self.claims.get(id_, [])[:1]:
            kind = FORGED if step.kind in FORGERIES else UNUSABLE
            for inn, entry in rows:
                yield Finding(kind=kind, inn=inn, operation_id=id_, expected="0", found=str(entry.delta))

    # ---- Balances

    def _account(self, inn: str) -> Account:
        mine = [operation for operation in self.plan.operations if operation.inn == inn]
        deltas = [entry.delta for entry in self.fresh.get(inn, ())]
        strange = [e.delta for e in self.fresh.get(inn, ()) if e.operation_id not in self.by_id | self.claims]
        return Account(
            inn=inn,
            before=self.before.balances.get(inn) or 0,
            after=self.after.balances.get(inn) or 0,
            sent=sum(operation.amount for operation in mine),
            expected=sum(operation.amount for operation in mine if self._is_expected(operation)),
            held=sum(operation.amount for operation in mine if operation.id in self.held),
            earlier=sum(operation.amount for operation in mine if operation.id in self.earlier),
            logged=sum(deltas) if self.has_logs else None,
            others=sum(strange),
        )

    def _balance(self, account: Account) -> Iterator[Finding]:
        """Check a balance against the log if there is one, otherwise against the acknowledged operations."""
        due = account.expected if account.logged is None else account.logged
        difference = account.credited - due
        if difference == 0:
            return
        if self.results.ended_early and explain(difference, list(self._unanswered(account.inn))):
            return
        causes = explain(difference, list(self._suspects(account.inn)))
        for cause in causes:
            yield Finding(
                kind=cause.kind,
                inn=account.inn,
                operation_id=cause.operation_id,
                expected=str(cause.expected),
                found=str(cause.found),
            )
        kind = OFF if account.logged is None else DISAGREE
        if not causes or kind == DISAGREE:
            yield Finding(kind=kind, inn=account.inn, operation_id="", expected=str(due), found=str(account.credited))

    def _unanswered(self, inn: str) -> Iterator[Suspect]:
        """Return what was sent and not answered; at the end of a stopped storm it may be credited or not."""
        for suspect in self._suspects(inn):
            if suspect.kind == UNPROMISED:
                yield suspect

    def _suspects(self, inn: str) -> Iterator[Suspect]:
        for operation in self.plan.operations:
            if operation.inn == inn:
                yield from self._possible_faults(operation)
        for id_, claims in self.claims.items():
            for step, claim in claims:
                kind = FORGED if step.kind in FORGERIES else UNUSABLE if step.operation is None else ALTERED
                if claim.inn == inn:
                    yield Suspect(effect=claim.amount, kind=kind, operation_id=id_, expected=0, found=claim.amount)
                if id_ in self.by_id and self.by_id[id_].inn == claim.inn == inn:
                    amount = self.by_id[id_].amount
                    effect = claim.amount - amount
                    yield Suspect(effect=effect, kind=kind, operation_id=id_, expected=amount, found=claim.amount)

    def _possible_faults(self, operation: Operation) -> Iterator[Suspect]:
        """Return what may have gone wrong with an operation, and its effect on the balance."""
        record, amount = self._record(operation), operation.amount
        earlier = operation.id in self.earlier
        expected = amount if self._is_expected(operation) or earlier else 0
        if expected:
            for times in range(2, min(record.sent, COPIES_MAX) + 1 + earlier):
                yield _suspect(TWICE, operation, expected, times * amount)
            if not earlier:
                yield _suspect(LOST, operation, expected, 0)
        elif operation.id not in self.held and record.sent:
            yield _suspect(UNPROMISED, operation, 0, amount)

    # ---- Texts

    def _notes(self, accounts: tuple[Account, ...]) -> Iterator[str]:
        if self.earlier:
            yield Message(
                "{earlier} of {all} operations were counted before this storm began "
                "and must not be counted again; --day plays the same day with new ones.",
                earlier=len(self.earlier),
                all=len(self.by_id),
            )
        if self.results.ended_early:
            yield "The storm was ended early: what was not acknowledged by then may be credited or not."
        others = sum(1 for account in accounts if account.others)
        if others:
            yield Message(
                "Somebody else paid {count} of these organisations meanwhile; that money was left out.", count=others
            )
        still = all(account.credited == 0 for account in accounts)
        if not self.has_logs and not self.again and still and all(account.before for account in accounts):
            yield "No balance moved. If this very day was played here before, say --again, or play --day 2."

    def _about(self, kind: str, operation: Operation, expected: str, found: str) -> Finding:
        return Finding(kind=kind, inn=operation.inn, operation_id=operation.id, expected=expected, found=found)

    def _twice(self, operation: Operation, times: int) -> Finding:
        return self._about(TWICE, operation, str(operation.amount), str(times * operation.amount))

    def _inn(self, step: Step) -> str:
        return step.claim.inn if step.claim else self.plan.operations[step.operation or 0].inn

    def _operation_id(self, step: Step) -> str:
        return step.claim.operation_id if step.claim else self.plan.operations[step.operation or 0].id


def _name(step: Step) -> str:
    return Message("{kind} ({detail})", kind=step.kind, detail=step.detail) if step.detail else step.kind


def _suspect(kind: str, operation: Operation, expected: int, found: int) -> Suspect:
    return Suspect(effect=found - expected, kind=kind, operation_id=operation.id, expected=expected, found=found)

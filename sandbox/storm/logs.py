"""Checks the shop's logs: every new row against what was sent, and every expected credit against the rows."""

from collections import defaultdict
from collections.abc import Iterator, Mapping

from sandbox.message import Message
from sandbox.storm import amounts, doubles
from sandbox.storm.evidence import Evidence, could_be, step_name
from sandbox.storm.findings import Fault, Finding
from sandbox.storm.plan import Operation, Step
from sandbox.storm.shop import Entry

Row = tuple[str, Entry]


def check(evidence: Evidence) -> Iterator[Finding]:
    """Return what is wrong in the logs."""
    rows = _by_id(evidence)
    yield from _chains(evidence)
    own = {
        operation.number: [row for row in rows.get(operation.id, []) if not _is_altered(evidence, operation, row)]
        for operation in evidence.plan.operations
    }
    yield from _changed(evidence, own)
    for operation in evidence.plan.operations:
        yield from _operation(evidence, operation, own[operation.number], rows.get(operation.id, []))
    times = {
        number: len(mine) + (evidence.plan.operations[number].id in evidence.earlier)
        for number, mine in own.items()
        if not any(entry.delta < 0 for _, entry in rows.get(evidence.plan.operations[number].id, []))
    }
    yield from doubles.findings(evidence, {number: count for number, count in times.items() if count > 1})
    for id_, found in rows.items():
        if id_ not in evidence.by_id:
            yield from _claimed(evidence, id_, found)
    for id_, (inn, amount) in evidence.accepted.items():
        if id_ not in rows:
            yield Finding(kind=Fault.LOST, inn=inn, operation_id=id_, expected=str(amount), found="0")


def strange(evidence: Evidence, inn: str) -> int:
    """Return the money of other senders in the log of an organisation."""
    return sum(entry.delta for entry in evidence.fresh.get(inn, ()) if _is_strange(evidence, inn, entry))


def _is_strange(evidence: Evidence, inn: str, entry: Entry) -> bool:
    ours = entry.operation_id in evidence.by_id or entry.operation_id in evidence.claims
    return not ours and _nameless(evidence, inn, entry) is None


def _by_id(evidence: Evidence) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = defaultdict(list)
    for inn, entries in evidence.fresh.items():
        for entry in entries:
            found[entry.operation_id].append((inn, entry))
    return found


def _chains(evidence: Evidence) -> Iterator[Finding]:
    for inn, entries in evidence.fresh.items():
        for entry in entries:
            if not entry.adds_up:
                yield Finding(
                    kind=Fault.CHAIN,
                    inn=inn,
                    operation_id=entry.operation_id,
                    expected="before + delta = after",
                    found=Message("version {version}", version=entry.version),
                )


def _changed(evidence: Evidence, own: Mapping[int, list[Row]]) -> Iterator[Finding]:
    """Name what the shop made of amounts that it did not credit as they are."""
    changed = {
        evidence.plan.operations[number]: entry.delta
        for number, rows in own.items()
        for _, entry in rows
        if entry.delta != evidence.plan.operations[number].amount
    }
    kind = amounts.fault_of({operation.amount: found for operation, found in changed.items()})
    for operation, found in changed.items():
        yield evidence.about(kind, operation, operation.amount, found)


def _altered_by(evidence: Evidence, operation: Operation, row: Row) -> tuple[Fault, Step] | None:
    """Return the false facts that a row of a real operation comes from."""
    inn, entry = row
    for step in evidence.claims.get(operation.id, ()):
        assert step.claim is not None
        if could_be(step.claim, inn, entry.delta) and (inn, entry.delta) != (operation.inn, operation.amount):
            return evidence.fault_of(step, inn), step
        replaced = {amount - operation.amount for amount in step.claim.amounts if operation.inn in step.claim.payers}
        is_taken_back = could_be(step.claim, inn, -entry.delta)
        if is_taken_back or (inn == operation.inn and entry.delta in {-operation.amount, *replaced}):
            return Fault.LAST_WINS, step
    return None


def _is_altered(evidence: Evidence, operation: Operation, row: Row) -> bool:
    return _altered_by(evidence, operation, row) is not None


def _operation(evidence: Evidence, operation: Operation, own: list[Row], rows: list[Row]) -> Iterator[Finding]:
    """Check the rows of a real operation."""
    due = Message("{amount} for {inn}", amount=operation.amount, inn=operation.inn)
    for inn, entry in rows:
        found = Message("{amount} for {inn}", amount=entry.delta, inn=inn)
        altered = _altered_by(evidence, operation, (inn, entry))
        if altered is not None:
            yield evidence.about(altered[0], operation, due, found)
            continue
        if inn != operation.inn:
            yield evidence.about(Fault.ELSEWHERE, operation, operation.inn, inn)
        if entry.document_number not in (None, operation.document_number):
            yield evidence.about(Fault.DOCUMENT, operation, operation.document_number, entry.document_number)
    record = evidence.record(operation)
    if not own and evidence.is_expected(operation):
        yield evidence.about(Fault.LOST, operation, operation.amount, 0)
    elif own and not record.acknowledged and not record.refused and not evidence.results.ended_early:
        yield evidence.about(Fault.UNPROMISED, operation, "a 2xx before or after", "credited, never acknowledged")


def _claimed(evidence: Evidence, id_: str, rows: list[Row]) -> Iterator[Finding]:
    """Check the rows of an operation that is not real; operations of other senders are no finding."""
    for place, (inn, entry) in enumerate(rows):
        step = next(iter(evidence.claims.get(id_, ())), None) or _nameless(evidence, inn, entry)
        if step is None:
            continue
        found = Message("{amount} for a {step}", amount=entry.delta, step=step_name(step))
        if not step.as_written:
            yield evidence.about_step(evidence.fault_of(step, inn), step, "0", found, inn)
        elif evidence.accepted.get(id_) != (inn, entry.delta) or place:
            kind = Fault.OTHER_AMOUNT if id_ in evidence.accepted else Fault.UNUSABLE
            if inn not in evidence.plan.inns:
                kind = Fault.MADE_UP
            due = evidence.accepted.get(id_, (inn, 0))[1]
            yield evidence.about_step(kind, step, due, found, inn)


def _nameless(evidence: Evidence, inn: str, entry: Entry) -> Step | None:
    """Return a body without a usable id that a row may come from."""
    for step in evidence.nameless:
        if step.claim is not None and could_be(step.claim, inn, entry.delta):
            return step
    return None

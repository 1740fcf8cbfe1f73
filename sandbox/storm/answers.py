"""Checks the shop's answers: what must be refused and was not, what must be acknowledged and was not."""

from collections.abc import Iterable, Iterator

from sandbox.message import Message
from sandbox.storm.connection import Reply
from sandbox.storm.evidence import FORGERIES, HELD_WORD, KEPT_WORDS, Evidence, step_name
from sandbox.storm.findings import Fault, Finding
from sandbox.storm.plan import Expect, Kind, Operation, Step
from sandbox.storm.play import RETRY_STATUSES, Answer

BUSY_STATUSES = (502, 503, 504)
"""The shop, or a proxy in front of it, cannot answer now. That is no fault if it answers later."""


def check(evidence: Evidence, *, slow_seconds: float) -> Iterator[Finding]:
    """Return what is wrong with the answers."""
    for number, replies in evidence.results.replies.items():
        step = evidence.plan.steps[number]
        if step.expect not in (Expect.ACKNOWLEDGED, Expect.NOTHING):
            for reply in replies:
                yield from _refusal(evidence, step, reply)
    yield from _errors(evidence)
    yield from _late(evidence, slow_seconds)
    too_large = _smallest_refused(evidence)
    for operation in evidence.plan.operations:
        yield from _promise(evidence, operation, too_large)
        yield from _words(evidence, operation)


def forgiven(findings: Iterable[Finding]) -> Iterator[Finding]:
    """Say less of a shop that acknowledges forgeries or unusable bodies and credits nothing for them."""
    found = list(findings)
    credited = {finding.kind for finding in found if finding.expected == "0"}
    named = {finding.operation_id for finding in found if finding.expected == "0" and finding.operation_id}
    is_explained = all(finding.kind != Fault.OFF for finding in found)
    forgeries = set(FORGERIES.values())
    for finding in found:
        if finding.kind in forgeries and finding.kind not in credited and is_explained:
            yield Finding(**{**vars(finding), "kind": Fault.THANKED})
        elif finding.kind != Fault.SWALLOWED or finding.operation_id not in named:
            yield finding


def _refusal(evidence: Evidence, step: Step, reply: Reply | None) -> Iterator[Finding]:
    """Check one answer to a request that must not be counted."""
    if reply is None:
        # A shop may close the connection on a huge body.
        if step.kind != Kind.HUGE:
            found = Message("none to a {step}", step=step_name(step))
            yield evidence.about_step(Fault.FAILED, step, "an answer", found)
    elif reply.status >= 500:
        found = Message("{status} to a {step}, again and again", status=reply.status, step=step_name(step))
        yield evidence.about_step(Fault.FAILED, step, "4xx", found)
    elif step.expect == Expect.REFUSED and reply.status < 400:
        kind = FORGERIES[step.kind] if reply.is_ack else Fault.NOT_REFUSED
        yield evidence.about_step(kind, step, "4xx", _answered(step, reply))
    elif step.expect == Expect.UNUSABLE and reply.is_ack and reply.outcome not in KEPT_WORDS:
        yield evidence.about_step(Fault.SWALLOWED, step, "4xx", _answered(step, reply))


def _answered(step: Step, reply: Reply) -> str:
    return Message("{status} to a {step}", status=reply.status, step=step_name(step))


def _errors(evidence: Evidence) -> Iterator[Finding]:
    """Name a shop that answers repeats with an error of its own, even if it answers them rightly later."""
    failed = [each for each in _valid(evidence) if _is_own_error(each) and _comes_again(evidence, each)]
    in_order = [each for each in failed if not each.is_concurrent]
    kind = Fault.FAILED_REPEAT if in_order else Fault.FAILED_CONCURRENT
    for answer in in_order or failed:
        step = evidence.plan.steps[answer.step]
        assert answer.reply is not None
        yield evidence.about_step(kind, step, "2xx", _answered(step, answer.reply))


def _comes_again(evidence: Evidence, answer: Answer) -> bool:
    number = evidence.plan.steps[answer.step].operation
    return number in evidence.acknowledged and (answer.is_repeat or answer.is_concurrent)


def first_errors(evidence: Evidence) -> int:
    """Return how many first requests got an error of the shop's own, whatever came later."""
    return sum(_is_own_error(each) and not _comes_again(evidence, each) for each in _valid(evidence))


def _is_own_error(answer: Answer) -> bool:
    return answer.reply is not None and answer.reply.status >= 500 and answer.reply.status not in BUSY_STATUSES


def _valid(evidence: Evidence) -> Iterator[Answer]:
    for answer in evidence.results.answers:
        if evidence.plan.steps[answer.step].expect == Expect.ACKNOWLEDGED:
            yield answer


def _late(evidence: Evidence, slow_seconds: float) -> Iterator[Finding]:
    for answer in _valid(evidence):
        if answer.seconds > slow_seconds:
            found = Message("{seconds} seconds", seconds=f"{answer.seconds:.1f}")
            within = Message("{seconds} seconds", seconds=f"{slow_seconds:g}")
            yield evidence.about_step(Fault.SLOW, evidence.plan.steps[answer.step], within, found)


def _smallest_refused(evidence: Evidence) -> int | None:
    """Return the amount from which on nothing is acknowledged, if all smaller ones are; else None."""
    taken = [each.amount for each in evidence.plan.operations if evidence.record(each).acknowledged]
    refused = [each.amount for each in evidence.plan.operations if _is_answered_in_vain(evidence, each)]
    if not taken or not refused or min(refused) <= max(taken):
        return None
    return min(refused)


def _is_answered_in_vain(evidence: Evidence, operation: Operation) -> bool:
    record = evidence.record(operation)
    return record.sent > 0 and not record.acknowledged


def _promise(evidence: Evidence, operation: Operation, too_large: int | None) -> Iterator[Finding]:
    record = evidence.record(operation)
    refused = _refused_repeats(evidence).get(operation.number)
    if too_large is not None and operation.amount >= too_large and record.sent:
        found = Message("none for {amount}", amount=operation.amount)
        yield evidence.about(Fault.REFUSED_LARGE, operation, "2xx, sooner or later", found)
    elif refused and (record.acknowledged or is_credited(evidence, operation)):
        yield evidence.about(Fault.REFUSED_REPEAT, operation, "2xx", refused)
    elif record.refused and not record.acknowledged:
        yield evidence.about(Fault.REFUSED, operation, "2xx", record.refused)
    elif not record.acknowledged and not evidence.results.ended_early:
        none = Message("none to {count} sendings", count=record.sent)
        yield evidence.about(Fault.UNACKNOWLEDGED, operation, "2xx, sooner or later", none)


def is_credited(evidence: Evidence, operation: Operation) -> bool:
    """Return whether an operation was counted whose repeat was refused.

    Without a log it may have been, if the shop also refuses repeats of operations that it has acknowledged.
    """
    if not evidence.has_logs:
        refused = (evidence.plan.operations[number] for number in _refused_repeats(evidence))
        return evidence.unheard(operation) > 0 and any(evidence.record(each).acknowledged for each in refused)
    return any(each.operation_id == operation.id for rows in evidence.fresh.values() for each in rows)


def _refused_repeats(evidence: Evidence) -> dict[int, int]:
    """Return the operations of which a repeat was refused, with the status."""
    found: dict[int, int] = {}
    for answer in _valid(evidence):
        number, reply = evidence.plan.steps[answer.step].operation, answer.reply
        is_refused = reply is not None and 400 <= reply.status < 500 and reply.status not in RETRY_STATUSES
        if number is not None and reply is not None and is_refused and (answer.is_repeat or answer.is_concurrent):
            found[number] = reply.status
    return found


def _words(evidence: Evidence, operation: Operation) -> Iterator[Finding]:
    """Compare the statuses that the shop names with what it was sent."""
    outcomes = evidence.record(operation).outcomes
    if outcomes["conflict"]:
        yield evidence.about(Fault.MISTAKEN, operation, "credited or duplicate", "conflict, with the same facts")
    said_held = outcomes[HELD_WORD] and operation.id not in evidence.earlier
    if said_held and evidence.after.held is not None and operation.id not in evidence.held:
        expected = Message("an incident that holds {amount}", amount=operation.amount)
        yield evidence.about(Fault.HELD, operation, expected, "none")

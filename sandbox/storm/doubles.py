"""Names the reason of double credits: what the operations have in common that were credited more than once."""

from collections.abc import Callable, Iterator, Mapping

from sandbox.storm.evidence import Evidence
from sandbox.storm.findings import Fault, Finding
from sandbox.storm.plan import Operation

Times = Callable[[Evidence, Operation], int]

MODELS: tuple[tuple[Fault, Times], ...] = (
    (Fault.BY_SPELLING, lambda evidence, operation: evidence.spellings(operation)),
    (Fault.BY_BYTES, lambda evidence, operation: len(set(evidence.acknowledged_bodies(operation)))),
    (Fault.REPEATED, lambda evidence, operation: len(evidence.acknowledged_bodies(operation))),
)
"""How often a shop with this fault credits an operation, from the narrowest reason to the widest."""


def name(evidence: Evidence, credited: Mapping[int, int]) -> Fault:
    """Return the fault that explains how often each operation was credited; only those above one need be given."""
    for fault, times in MODELS:
        if _fits(evidence, fault, times, credited):
            return fault
    if all(number in evidence.concurrent for number in credited):
        return Fault.RACE
    return Fault.DOUBLE


def findings(evidence: Evidence, credited: Mapping[int, int]) -> Iterator[Finding]:
    """Return a finding for each operation that was credited more than once."""
    if not credited:
        return
    fault = name(evidence, credited)
    for number, times in sorted(credited.items()):
        operation = evidence.plan.operations[number]
        yield evidence.about(fault, operation, operation.amount, times * operation.amount)


def _fits(evidence: Evidence, fault: Fault, times: Times, credited: Mapping[int, int]) -> bool:
    for operation in evidence.plan.operations:
        if evidence.again or operation.id in evidence.earlier or operation.id in evidence.held:
            continue
        least = max(times(evidence, operation), 1)
        # Whether the shop has seen a request that nobody waited for, only the shop knows.
        most = least + evidence.unheard(operation) if fault is Fault.REPEATED else least
        if not least <= credited.get(operation.number, 1) <= most:
            return False
    return True

"""Finds the operations that explain a difference: a few amounts that add up to it exactly.

It is used for shops without a log.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from sandbox.storm.findings import Fault

HALVED_MAX = 32
"""Up to this many suspects, every combination is tried."""

TRIPLES_MAX = 1000


@dataclass(frozen=True, kw_only=True)
class Suspect:
    """An operation, its possible fault, and the effect of the fault on the balance."""

    effect: int
    kind: Fault
    operation_id: str
    expected: str
    found: str


def explain(difference: int, suspects: Sequence[Suspect]) -> tuple[Suspect, ...]:
    """Return the smallest set of suspects that adds up to a difference, or none if there is no small one."""
    if difference == 0:
        return ()
    by_effect: dict[int, Suspect] = {}
    for suspect in suspects:
        by_effect.setdefault(suspect.effect, suspect)
    distinct = list(by_effect.values())
    towards = [suspect for suspect in distinct if (suspect.effect > 0) == (difference > 0)]
    return (
        _one_or_two(difference, towards)
        or _three(difference, towards)
        or _any_of_few(difference, towards)
        or _one_or_two(difference, distinct)
    )


def _one_or_two(difference: int, suspects: list[Suspect]) -> tuple[Suspect, ...]:
    by_effect = {suspect.effect: suspect for suspect in suspects}
    if difference in by_effect:
        return (by_effect[difference],)
    for suspect in suspects:
        other = by_effect.get(difference - suspect.effect)
        if other is not None and other is not suspect:
            return (suspect, other)
    return ()


def _three(difference: int, suspects: list[Suspect]) -> tuple[Suspect, ...]:
    if len(suspects) > TRIPLES_MAX:
        return ()
    pairs = {one.effect + other.effect: (one, other) for one, other in combinations(suspects, 2)}
    for suspect in suspects:
        pair = pairs.get(difference - suspect.effect)
        if pair and suspect not in pair:
            return (suspect, *pair)
    return ()


def _any_of_few(difference: int, suspects: list[Suspect]) -> tuple[Suspect, ...]:
    if len(suspects) > HALVED_MAX:
        return ()
    left, right = suspects[::2], suspects[1::2]
    sums = {effect: chosen for chosen, effect in _subsets(left)}
    for chosen, effect in _subsets(right):
        if difference - effect in sums:
            masks = (sums[difference - effect], left), (chosen, right)
            return tuple(part[place] for mask, part in masks for place in range(len(part)) if mask >> place & 1)
    return ()


def _subsets(suspects: list[Suspect]) -> list[tuple[int, int]]:
    """Return every subset as a mask of bits, with its sum."""
    found = [(0, 0)]
    for place, suspect in enumerate(suspects):
        found += [(mask | 1 << place, effect + suspect.effect) for mask, effect in found]
    return found

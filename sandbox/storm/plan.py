"""The plan of a storm: all steps and their order, as a pure function of the seed.

A plan contains no signatures; play.py adds them.
"""

import hashlib
import json
import random
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import cycle
from typing import Any

from sandbox.storm import bodies

DAY_BEGINS = datetime(2026, 3, 2, 6, 0, tzinfo=UTC)
DAY_SECONDS = 14 * 3600

AMOUNT_MAX = 10**12
"""The range of amounts is so wide that the sum of a few amounts identifies them."""

HUGE_AMOUNT = 2**53 + 1
"""The smallest integer that a float cannot represent; one amount of each day is odd and above it."""

INN_WEIGHTS = (2, 4, 10, 3, 5, 9, 4, 6, 8)


class Kind(StrEnum):
    """The purpose of a step."""

    FIRST = "first"
    PARALLEL = "parallel"
    DROPPED = "dropped ack"
    CUT = "cut body"
    SLOW = "slow body"
    AGAIN = "resent"
    CHASED = "repeat at once"
    LATE = "repeat later"
    REWRITTEN = "re-serialised"
    CAPITALS = "id in capitals"
    ALTERED_AMOUNT = "altered amount"
    ALTERED_PAYER = "altered payer"
    FORGED = "forged signature"
    FORGED_REPEAT = "forged repeat"
    TRUNCATED = "truncated signature"
    UNSIGNED = "no signature"
    OTHER_BYTES = "signed over other bytes"
    MALFORMED = "malformed body"
    HUGE = "huge body"


class Signed(StrEnum):
    """How a step is signed."""

    RIGHTLY = "rightly"
    WRONG_SECRET = "with another secret"  # noqa: S105 - a way of signing, not a secret
    TRUNCATED = "with half a signature"
    OTHER_BYTES = "over other bytes"
    NOT = "not at all"


class Manner(StrEnum):
    """How the bank handles its connection."""

    LISTEN = "listens"
    DROP = "hangs up before the answer"
    RESET = "resets before the answer"
    CUT = "hangs up within the body"
    SLOW = "sends the body in two parts"


class Expect(StrEnum):
    """What the shop must answer."""

    ACKNOWLEDGED = "2xx, sooner or later"
    REFUSED = "4xx, and nothing counted"
    UNCOUNTED = "anything but an error of its own, and nothing counted"
    NOTHING = "nobody listens"


@dataclass(frozen=True, kw_only=True)
class Operation:
    """A real payment that must be credited once."""

    number: int
    id: str
    inn: str
    amount: int
    document_number: str
    document_date: str

    def members(self) -> dict[str, Any]:
        """Return the members of the body."""
        return {
            "operation_id": self.id,
            "amount": self.amount,
            "payer_inn": self.inn,
            "document_number": self.document_number,
            "document_date": self.document_date,
        }


@dataclass(frozen=True, kw_only=True)
class Claim:
    """The false facts of a step, which the shop must not credit."""

    operation_id: str
    inn: str
    amount: int


@dataclass(frozen=True, kw_only=True)
class Step:
    """One request in `copies` sent at the same time, after a pause, or after operation `after` is settled."""

    kind: Kind
    body: bytes
    expect: Expect = Expect.ACKNOWLEDGED
    operation: int | None = None
    claim: Claim | None = None
    signed: Signed = Signed.RIGHTLY
    manner: Manner = Manner.LISTEN
    copies: int = 1
    pause_ms: int = 0
    after: int | None = None
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A day: the organisations, the operations, and the steps in the order in which they start."""

    seed: int
    day: int
    organisations: tuple[str, ...]
    strangers: tuple[str, ...]
    operations: tuple[Operation, ...]
    steps: tuple[Step, ...]

    @property
    def inns(self) -> tuple[str, ...]:
        """Return all organisations of the day."""
        return self.organisations + self.strangers

    def encoded(self) -> bytes:
        """Return the whole day as bytes; the same seed gives the same bytes."""
        return b"".join(line.encode() + b"\n" for line in self._lines())

    def digest(self) -> str:
        """Return a short hash of the whole day."""
        return hashlib.sha256(self.encoded()).hexdigest()[:16]

    def _lines(self) -> Iterator[str]:
        yield json.dumps({"seed": self.seed, "day": self.day, "organisations": self.organisations})
        for operation in self.operations:
            yield json.dumps(asdict(operation))
        for step in self.steps:
            # Only a hash of each body: some bodies are very long.
            yield json.dumps({**asdict(step), "body": hashlib.sha256(step.body).hexdigest()})


FIRSTS = {Kind.FIRST: 64, Kind.PARALLEL: 14, Kind.DROPPED: 12, Kind.CUT: 5, Kind.SLOW: 5}
"""How operations are sent for the first time, in percent."""

EXTRAS = {
    Kind.CHASED: 0.10,
    Kind.LATE: 0.12,
    Kind.REWRITTEN: 0.05,
    Kind.CAPITALS: 0.02,
    Kind.ALTERED_AMOUNT: 0.04,
    Kind.ALTERED_PAYER: 0.02,
    Kind.FORGED: 0.03,
    Kind.FORGED_REPEAT: 0.02,
    Kind.TRUNCATED: 0.02,
    Kind.UNSIGNED: 0.01,
    Kind.OTHER_BYTES: 0.02,
    Kind.MALFORMED: 0.07,
    Kind.HUGE: 0.005,
}
"""The probability of additional steps for each operation; each kind occurs at least once a day."""

STRANGER_SHARE = 0.03
"""The share of operations for organisations that the shop does not know."""

REORDERED_BY = 12
"""By how many places an operation may be moved in the order."""

LATE_BY = 300
COPIES = (2, 2, 3, 5, 8)
SPELLINGS = ("ПП № {0}", "PAY-{0}", "Счёт «{0}»", "R/{0}\u00a0б")


def make_plan(*, seed: int, operations: int, organisations: int, day: int = 1, inns: tuple[str, ...] = ()) -> Plan:
    """Return the plan of a seed; another `day` is the same plan with other operation ids.

    `inns` are organisations that the shop knows. Without them the seed determines the organisations.
    """
    if min(operations, organisations, day) < 1:
        raise ValueError("a storm has at least one operation, one organisation, and days count from 1")
    return _Planner(seed, day, operations, inns or _inns(chance(seed), organisations)).plan()


def chance(seed: int | str) -> random.Random:
    """Return a random generator; the same seed gives the same sequence."""
    return random.Random(seed)  # noqa: S311 - it must be reproducible


def _inns(rng: random.Random, count: int) -> tuple[str, ...]:
    found: dict[str, None] = {}
    while len(found) < count:
        digits = f"{rng.randrange(10**8, 10**9)}"
        check = sum(weight * int(digit) for weight, digit in zip(INN_WEIGHTS, digits, strict=True)) % 11 % 10
        found[f"{digits}{check}"] = None
    return tuple(found)


class _Planner:
    """Builds a plan. The steps depend on the seed alone; ids and unknown organisations also on the day."""

    def __init__(self, seed: int, day: int, count: int, organisations: tuple[str, ...]) -> None:
        self.seed, self.day, self.count = seed, day, count
        self.rng = chance(seed)
        self.ids = chance(f"{seed} {day}")
        self.organisations = organisations
        # A cycle instead of random choice, so that a day of some hundred operations has all of them.
        self.variants = {
            Kind.MALFORMED: self._shuffled_cycle(bodies.MALFORMED),
            Kind.HUGE: self._shuffled_cycle(bodies.HUGE),
        }
        self.placed: list[tuple[float, int, Step]] = []

    def plan(self) -> Plan:
        strangers = _inns(self.ids, max(1, round(self.count * STRANGER_SHARE)))
        operations = self._operations(strangers)
        forced = self._forced()
        for operation in operations:
            self._schedule(operation, forced.get(operation.number, frozenset()))
        steps = tuple(step for *_, step in sorted(self.placed, key=lambda entry: entry[:2]))
        met = {operation.inn for operation in operations}
        return Plan(
            seed=self.seed,
            day=self.day,
            organisations=self.organisations,
            strangers=tuple(inn for inn in strangers if inn in met),
            operations=operations,
            steps=steps,
        )

    def _operations(self, strangers: tuple[str, ...]) -> tuple[Operation, ...]:
        huge = self.rng.randrange(self.count)
        # The first organisation gets half of all operations, so that credits to it are concurrent.
        weights = [max(1, len(self.organisations) - 1)] + [1] * (len(self.organisations) - 1)
        made = []
        for number in range(self.count):
            inn = self.rng.choices(self.organisations, weights)[0]
            if self.rng.random() < STRANGER_SHARE:
                inn = strangers[self.rng.randrange(len(strangers))]
            moment = DAY_BEGINS + timedelta(seconds=number * DAY_SECONDS // self.count)
            made.append(
                Operation(
                    number=number,
                    id=self._id(),
                    inn=inn,
                    amount=HUGE_AMOUNT + 2 * self.rng.randrange(10**9) if number == huge else self._amount(),
                    document_number=self.rng.choice(SPELLINGS).format(number + 1),
                    document_date=f"{moment:%Y-%m-%dT%H:%M:%SZ}",
                )
            )
        return tuple(made)

    def _forced(self) -> dict[int, frozenset[Kind]]:
        """Choose an operation for each kind, so that even a small day has all kinds."""
        chosen: dict[int, set[Kind]] = {}
        for kind in EXTRAS:
            chosen.setdefault(self.rng.randrange(self.count), set()).add(kind)
        return {number: frozenset(kinds) for number, kinds in chosen.items()}

    def _schedule(self, operation: Operation, forced: frozenset[Kind]) -> None:
        place = operation.number + self.rng.uniform(-REORDERED_BY, REORDERED_BY)
        first_place = self._first(operation, place)
        for kind, share in EXTRAS.items():
            if self.rng.random() < share or kind in forced:
                gap = self.rng.uniform(0.01, 0.5) if kind == Kind.CHASED else self.rng.uniform(1, LATE_BY)
                self._put(first_place + gap, self._extra(kind, operation))

    def _first(self, operation: Operation, place: float) -> float:
        """Add the first step of an operation, and a repeat if it cannot be acknowledged; return the last place."""
        kind = self.rng.choices(list(FIRSTS), list(FIRSTS.values()))[0]
        body, pause = bodies.plain(operation.members()), self.rng.choice((0, 0, 0, 0, 1, 5, 20))
        step = Step(kind=kind, body=body, operation=operation.number, pause_ms=pause)
        if kind in (Kind.DROPPED, Kind.CUT):
            manner = Manner.CUT if kind == Kind.CUT else self.rng.choice((Manner.DROP, Manner.RESET))
            self._put(place, replace(step, manner=manner, expect=Expect.NOTHING))
            place += self.rng.choice((0.01, 1, 10, 50))
            step = replace(step, kind=Kind.AGAIN)
        elif kind == Kind.SLOW:
            step = replace(step, manner=Manner.SLOW, pause_ms=self.rng.randrange(20, 80))
        elif kind == Kind.PARALLEL:
            step = replace(step, copies=self.rng.choice(COPIES))
        self._put(place, step)
        return place

    def _extra(self, kind: Kind, operation: Operation) -> Step:
        members = operation.members()
        step = Step(kind=kind, body=bodies.plain(members), operation=operation.number)
        if kind in (Kind.CHASED, Kind.LATE):
            return replace(step, copies=self.rng.choice((1, 1, 2)))
        if kind == Kind.REWRITTEN:
            return replace(step, body=bodies.rewritten(members, self.rng))
        if kind == Kind.CAPITALS:
            body = bodies.plain({**members, "operation_id": operation.id.upper()})
            return replace(step, body=body, expect=Expect.UNCOUNTED, after=operation.number)
        if kind in (Kind.ALTERED_AMOUNT, Kind.ALTERED_PAYER):
            return self._altered(step, operation)
        if kind in (Kind.MALFORMED, Kind.HUGE):
            return self._unusable(kind, operation)
        return self._forged(step, operation)

    def _altered(self, step: Step, operation: Operation) -> Step:
        """Use the id of a credited operation for other facts; before the credit both could be true."""
        amount, inn = operation.amount, operation.inn
        if step.kind == Kind.ALTERED_AMOUNT:
            amount += self._amount()
        else:
            inn = self.rng.choice([other for other in self.organisations if other != inn] or [inn])
            amount += 0 if inn != operation.inn else 1
        body = bodies.plain({**operation.members(), "amount": amount, "payer_inn": inn})
        claim = Claim(operation_id=operation.id, inn=inn, amount=amount)
        return replace(step, body=body, claim=claim, expect=Expect.UNCOUNTED, after=operation.number)

    def _unusable(self, kind: Kind, operation: Operation) -> Step:
        variants = bodies.HUGE if kind == Kind.HUGE else bodies.MALFORMED
        variant = next(self.variants[kind])
        members = {**operation.members(), "operation_id": self._id(), "amount": self._amount()}
        amount = -members["amount"] if variant == "amount below zero" else members["amount"]
        claim = Claim(operation_id=members["operation_id"], inn=operation.inn, amount=amount)
        return Step(kind=kind, body=variants[variant](members), claim=claim, expect=Expect.UNCOUNTED, detail=variant)

    def _forged(self, step: Step, operation: Operation) -> Step:
        members = {**operation.members(), "operation_id": self._id(), "amount": self._amount()}
        about: int | None = None
        signed = {
            Kind.FORGED: Signed.WRONG_SECRET,
            Kind.FORGED_REPEAT: Signed.WRONG_SECRET,
            Kind.TRUNCATED: Signed.TRUNCATED,
            Kind.UNSIGNED: Signed.NOT,
            Kind.OTHER_BYTES: Signed.OTHER_BYTES,
        }[step.kind]
        if step.kind == Kind.FORGED_REPEAT:
            members["operation_id"], about = operation.id, operation.number
        claim = Claim(operation_id=members["operation_id"], inn=operation.inn, amount=members["amount"])
        return Step(
            kind=step.kind,
            body=bodies.plain(members),
            claim=claim,
            expect=Expect.REFUSED,
            signed=signed,
            operation=about,
            after=about,
        )

    def _shuffled_cycle(self, variants: Iterable[str]) -> Iterator[str]:
        names = list(variants)
        self.rng.shuffle(names)
        return cycle(names)

    def _amount(self) -> int:
        return self.rng.randint(1, 99) if self.rng.random() < 0.02 else self.rng.randint(100, AMOUNT_MAX)

    def _id(self) -> str:
        return str(uuid.UUID(int=self.ids.getrandbits(128), version=4))

    def _put(self, place: float, step: Step) -> None:
        self.placed.append((place, len(self.placed), step))

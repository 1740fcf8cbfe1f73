"""The plan of a storm: all steps and their order, as a pure function of the seed.

A plan contains no signatures; play.py adds them.
"""

import hashlib
import json
import random
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import cycle
from typing import Any

from sandbox.storm import bodies
from sandbox.storm.bodies import Members
from sandbox.storm.readings import Carried, read_back

DAY_BEGINS = datetime(2026, 3, 2, 6, 0, tzinfo=UTC)
DAY_SECONDS = 14 * 3600

AMOUNT_MAX = 10**12
"""The range of amounts is so wide that the sum of a few amounts identifies them."""

SMALL_AMOUNT = 100

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
    SPELLED = "id in another spelling"
    UNUSUAL = "unusual spelling"
    ALTERED_AMOUNT = "altered amount"
    ALTERED_PAYER = "altered payer"
    FORGED = "forged signature"
    FORGED_REPEAT = "forged repeat"
    TRUNCATED = "truncated signature"
    UNSIGNED = "no signature"
    OTHER_BYTES = "signed over other bytes"
    STALE = "signed an hour ago"
    EARLY = "signed for in an hour"
    MALFORMED = "malformed body"
    HUGE = "huge body"


class Signed(StrEnum):
    """How a step is signed."""

    RIGHTLY = "rightly"
    WRONG_SECRET = "with another secret"  # noqa: S105 - a way of signing, not a secret
    TRUNCATED = "with half a signature"
    OTHER_BYTES = "over other bytes"
    STALE = "with an old timestamp"
    EARLY = "with a timestamp to come"
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
    UNUSABLE = "4xx, or held, and nothing counted"
    AS_WRITTEN = "2xx and counted as written, or 4xx and nothing counted"
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
class Step:
    """One request in `copies` sent at the same time, after a pause, or after operation `after` is settled.

    `claim` holds the facts that the shop must not credit, as its body carries them; `as_written` is an organisation and
    an amount that may be credited all the same.
    """

    kind: Kind
    body: bytes
    expect: Expect = Expect.ACKNOWLEDGED
    operation: int | None = None
    claim: Carried | None = None
    as_written: tuple[str, int] | None = None
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
    amount_max: int | None = None

    @property
    def inns(self) -> tuple[str, ...]:
        """Return all organisations of the day."""
        return self.organisations + self.strangers

    @property
    def made_up(self) -> tuple[str, ...]:
        """Return every other payer that some shop may read out of a body of the day."""
        claims = (step.claim for step in self.steps if step.claim)
        found = dict.fromkeys(payer for claim in claims for payer in claim.payers)
        return tuple(payer for payer in found if payer not in set(self.inns))

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
    Kind.SPELLED: 0.02,
    Kind.UNUSUAL: 0.02,
    Kind.ALTERED_AMOUNT: 0.04,
    Kind.ALTERED_PAYER: 0.02,
    Kind.FORGED: 0.03,
    Kind.FORGED_REPEAT: 0.02,
    Kind.TRUNCATED: 0.02,
    Kind.UNSIGNED: 0.01,
    Kind.OTHER_BYTES: 0.02,
    Kind.STALE: 0.01,
    Kind.EARLY: 0.01,
    Kind.MALFORMED: 0.07,
    Kind.HUGE: 0.005,
}
"""The probability of additional steps for each operation; each kind occurs at least once a day."""

VARIANTS: dict[Kind, dict[str, Callable[[Members], bytes]]] = {
    Kind.SPELLED: bodies.SPELLED,
    Kind.UNUSUAL: bodies.UNUSUAL,
    Kind.MALFORMED: bodies.MALFORMED,
    Kind.HUGE: bodies.HUGE,
}
"""The bodies of a kind; each of them occurs at least once a day, too."""

STRANGER_SHARE = 0.03
"""The share of operations for organisations that the shop does not know."""

REORDERED_BY = 12
"""By how many places an operation may be moved in the order."""

LATE_BY = 300
COPIES = (2, 2, 3, 5, 8)
SPELLINGS = ("ПП № {0}", "PAY-{0}", "Счёт «{0}»", "R/{0}\u00a0б")


def make_plan(
    *,
    seed: int,
    operations: int,
    organisations: int,
    day: int = 1,
    inns: tuple[str, ...] = (),
    amount_max: int | None = None,
) -> Plan:
    """Return the plan of a seed; another `day` is the same plan with other operation ids.

    `inns` are organisations that the shop knows. Without them the seed determines the organisations. With `amount_max`
    no valid amount is larger, and one is as large.
    """
    if min(operations, organisations, day) < 1 or (amount_max is not None and amount_max < 1):
        raise ValueError("a storm has at least one operation, one organisation and one kopeck, and days count from 1")
    planner = _Planner(seed, day, operations, inns or _inns(chance(seed), organisations))
    planner.amount_max = amount_max
    return planner.plan()


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
        self.amount_max: int | None = None
        self.variants = {kind: self._shuffled_cycle(variants) for kind, variants in VARIANTS.items()}
        self.placed: list[tuple[float, int, Step]] = []

    def plan(self) -> Plan:
        strangers = _inns(self.ids, max(1, round(self.count * STRANGER_SHARE)))
        operations = self._operations(strangers)
        forced = self._forced()
        for operation in operations:
            self._schedule(operation, forced.get(operation.number, Counter()))
        steps = tuple(step for *_, step in sorted(self.placed, key=lambda entry: entry[:2]))
        met = {operation.inn for operation in operations}
        return Plan(
            seed=self.seed,
            day=self.day,
            organisations=self.organisations,
            strangers=tuple(inn for inn in strangers if inn in met),
            operations=operations,
            steps=steps,
            amount_max=self.amount_max,
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
                    amount=self._largest() if number == huge else self._amount(),
                    document_number=self.rng.choice(SPELLINGS).format(number + 1),
                    document_date=f"{moment:%Y-%m-%dT%H:%M:%SZ}",
                )
            )
        return tuple(made)

    def _forced(self) -> dict[int, Counter[Kind]]:
        """Choose operations for each kind and each of its bodies, so that even a small day has all of them."""
        chosen: dict[int, Counter[Kind]] = {}
        for kind in EXTRAS:
            for _ in VARIANTS.get(kind, ("once",)):
                chosen.setdefault(self.rng.randrange(self.count), Counter())[kind] += 1
        return chosen

    def _schedule(self, operation: Operation, forced: Mapping[Kind, int]) -> None:
        place = operation.number + self.rng.uniform(-REORDERED_BY, REORDERED_BY)
        first_place = self._first(operation, place)
        for kind, share in EXTRAS.items():
            for _ in range(max(forced.get(kind, 0), self.rng.random() < share)):
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
        if kind == Kind.SPELLED:
            variant = next(self.variants[kind])
            body = bodies.SPELLED[variant](members)
            return replace(step, body=body, detail=variant, expect=Expect.UNCOUNTED, after=operation.number)
        if kind in (Kind.ALTERED_AMOUNT, Kind.ALTERED_PAYER):
            return self._altered(step, operation)
        if kind in VARIANTS:
            return self._unusable(kind, operation)
        return self._forged(step, operation)

    def _altered(self, step: Step, operation: Operation) -> Step:
        """Use the id of a credited operation for other facts; before the credit both could be true."""
        amount, inn = operation.amount, operation.inn
        if step.kind == Kind.ALTERED_AMOUNT:
            amount = self._other_amount(amount)
        else:
            inn = self.rng.choice([other for other in self.organisations if other != inn] or [inn])
            amount = amount if inn != operation.inn else self._other_amount(amount)
        body = bodies.plain({**operation.members(), "amount": amount, "payer_inn": inn})
        return replace(step, body=body, claim=read_back(body), expect=Expect.UNCOUNTED, after=operation.number)

    def _unusable(self, kind: Kind, operation: Operation) -> Step:
        variant = next(self.variants[kind])
        body = VARIANTS[kind][variant]({**operation.members(), "operation_id": self._id(), "amount": self._amount()})
        step = Step(kind=kind, body=body, claim=read_back(body), expect=Expect.UNUSABLE, detail=variant)
        if kind != Kind.UNUSUAL or step.claim is None:
            return step
        return replace(step, expect=Expect.AS_WRITTEN, as_written=(operation.inn, step.claim.amounts[0]))

    def _forged(self, step: Step, operation: Operation) -> Step:
        members = {**operation.members(), "operation_id": self._id(), "amount": self._amount()}
        about: int | None = None
        signed = {
            Kind.FORGED: Signed.WRONG_SECRET,
            Kind.FORGED_REPEAT: Signed.WRONG_SECRET,
            Kind.TRUNCATED: Signed.TRUNCATED,
            Kind.UNSIGNED: Signed.NOT,
            Kind.OTHER_BYTES: Signed.OTHER_BYTES,
            Kind.STALE: Signed.STALE,
            Kind.EARLY: Signed.EARLY,
        }[step.kind]
        if step.kind == Kind.FORGED_REPEAT:
            members["operation_id"], about = operation.id, operation.number
        body = bodies.plain(members)
        return Step(
            kind=step.kind,
            body=body,
            claim=read_back(body),
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
        most = AMOUNT_MAX if self.amount_max is None else min(self.amount_max, AMOUNT_MAX)
        if self.rng.random() < 0.02 or most <= SMALL_AMOUNT:
            return self.rng.randint(1, min(SMALL_AMOUNT - 1, most))
        return self.rng.randint(SMALL_AMOUNT, most)

    def _other_amount(self, amount: int) -> int:
        """Return a larger amount; a smaller one where none is left above."""
        larger = amount + self._amount()
        return larger if self.amount_max is None or larger <= self.amount_max else amount // 2 or 2

    def _largest(self) -> int:
        beyond_floats = HUGE_AMOUNT + 2 * self.rng.randrange(10**9)
        return beyond_floats if self.amount_max is None else min(beyond_floats, self.amount_max)

    def _id(self) -> str:
        return str(uuid.UUID(int=self.ids.getrandbits(128), version=4))

    def _put(self, place: float, step: Step) -> None:
        self.placed.append((place, len(self.placed), step))

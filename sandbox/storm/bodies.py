"""The bodies of a storm: valid ones, the same JSON in other bytes, and malformed ones."""

import json
import random
from collections.abc import Callable
from typing import Any

Members = dict[str, Any]

HUGE_TEXT_CHARACTERS = 50_000
HUGE_NUMBER_DIGITS = 100_000
BRACKETS = b"[" * 100_000
SPACES = b" " * 1_000_000


def plain(members: Members) -> bytes:
    """Return a body as most banks write it."""
    return json.dumps(members, ensure_ascii=False).encode()


def rewritten(members: Members, rng: random.Random) -> bytes:
    """Return the same JSON in other bytes: another order, other white space, escapes."""
    backwards = dict(reversed(members.items()))
    forms = (
        json.dumps(backwards, ensure_ascii=False),
        json.dumps(members, ensure_ascii=False, indent=2),
        json.dumps(members, ensure_ascii=True, separators=(",", ":")),
        f"\r\n {json.dumps(backwards, ensure_ascii=True, separators=(' , ', ' : '))}\n",
    )
    return rng.choice(forms).encode()


def without(name: str) -> Callable[[Members], bytes]:
    """Return a function that leaves a member out."""
    return lambda members: plain({key: value for key, value in members.items() if key != name})


def having(name: str, value: object) -> Callable[[Members], bytes]:
    """Return a function that replaces a member."""
    return lambda members: plain({**members, name: value})


MALFORMED: dict[str, Callable[[Members], bytes]] = {
    "empty": lambda _: b"",
    "a form": lambda members: "&".join(f"{name}={value}" for name, value in members.items()).encode(),
    "broken off": lambda members: plain(members)[:-20],
    "a list": lambda members: plain(members).join((b"[", b"]")),
    "not UTF-8": lambda members: plain(members).replace(b'"document_number": "', b'"document_number": "\xff\xfe'),
    "no operation_id": without("operation_id"),
    "no amount": without("amount"),
    "no payer_inn": without("payer_inn"),
    "operation_id of another shape": having("operation_id", "328"),
    "operation_id is null": having("operation_id", None),
    "amount below zero": lambda members: plain({**members, "amount": -members["amount"]}),
    "amount with a fraction": lambda members: plain({**members, "amount": members["amount"] + 0.5}),
    "amount in words": having("amount", "many"),
    "amount is a list": having("amount", [145000]),
    "amount is NaN": having("amount", float("nan")),
    "amount beyond 64 bits": having("amount", 2**63),
    "payer_inn in letters": having("payer_inn", "77 DROP TABLE"),
    "payer_inn is an object": having("payer_inn", {"$ne": ""}),
    "document_date in words": having("document_date", "yesterday"),
}
"""Bodies that every receiver must refuse.

Bodies that some receivers accept for good reasons are left out: a date without a zone, an amount as text.
"""

HUGE: dict[str, Callable[[Members], bytes]] = {
    "a number without end": lambda members: plain({**members, "amount": 0}).replace(
        b'"amount": 0', b'"amount": ' + b"9" * HUGE_NUMBER_DIGITS
    ),
    "a text without end": having("document_number", "№" * HUGE_TEXT_CHARACTERS),
    "brackets without end": lambda _: BRACKETS,
    "white space without end": lambda _: SPACES,
}
"""Malformed bodies that are large enough to overload a receiver without a limit."""

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


def amount_as(spelling: str) -> Callable[[Members], bytes]:
    """Return a function that writes the amount as it is in no other body; `{0}` stands for the number."""
    return lambda members: plain({**members, "amount": 0}).replace(
        b'"amount": 0', f'"amount": {spelling.format(members["amount"])}'.encode()
    )


def payer_as(change: Callable[[str], object]) -> Callable[[Members], bytes]:
    """Return a function that makes another payer of the organisation's INN."""
    return lambda members: plain({**members, "payer_inn": change(members["payer_inn"])})


def id_as(change: Callable[[str], str]) -> Callable[[Members], bytes]:
    """Return a function that spells the id in another way."""
    return lambda members: plain({**members, "operation_id": change(members["operation_id"])})


def _full_width(digits: str) -> str:
    return digits.translate({ord(digit): ord(digit) + 0xFEE0 for digit in "0123456789"})


def _in_thousands(members: Members) -> bytes:
    number = members["amount"]
    return amount_as("{0}e3" if number > 1000 else "{0}e0")({**members, "amount": number // 1000 or number})


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
    "amount is zero": having("amount", 0),
    "amount below zero": amount_as("-{0}"),
    "amount with a fraction": amount_as("{0}.5"),
    "amount in words": having("amount", "many"),
    "amount is a list": amount_as("[{0}]"),
    "amount is null": having("amount", None),
    "amount is true": having("amount", True),
    "amount is NaN": amount_as("NaN"),
    "amount beyond 64 bits": lambda members: plain({**members, "amount": 2**63 + members["amount"]}),
    "amount beyond a float": amount_as("{0}e999"),
    "payer_inn in letters": having("payer_inn", "77 DROP TABLE"),
    "payer_inn is empty": having("payer_inn", ""),
    "payer_inn of nine digits": payer_as(lambda inn: inn[:9]),
    "payer_inn of eleven digits": payer_as(lambda inn: f"{inn[:10]}0"),
    "payer_inn in full-width digits": payer_as(_full_width),
    "payer_inn is null": having("payer_inn", None),
    "payer_inn is an object": having("payer_inn", {"$ne": ""}),
    "payer_inn in a list": payer_as(lambda inn: [inn]),
    "document_date in words": having("document_date", "yesterday"),
}
"""Bodies that every receiver must refuse.

Bodies that some receivers accept for good reasons are left out: a date without a zone, and the spellings below.
"""

UNUSUAL: dict[str, Callable[[Members], bytes]] = {
    "amount as text": amount_as('"{0}"'),
    "amount with a point": amount_as("{0}.0"),
    "amount with an exponent": _in_thousands,
    "payer_inn as a number": payer_as(int),
    "payer_inn between spaces": payer_as(lambda inn: f" {inn} "),
}
"""Bodies that may be refused. If they are not, exactly what is written must be credited."""

SPELLED: dict[str, Callable[[Members], bytes]] = {
    "in capitals": id_as(str.upper),
    "in braces": id_as("{{{0}}}".format),
    "without dashes": id_as(lambda id_: id_.replace("-", "")),
    "as a URN": id_as("urn:uuid:{0}".format),
}
"""Other spellings of an id that is in use. They may be refused, and are never another operation."""

HUGE: dict[str, Callable[[Members], bytes]] = {
    "a number without end": lambda members: plain({**members, "amount": 0}).replace(
        b'"amount": 0', b'"amount": ' + b"9" * HUGE_NUMBER_DIGITS
    ),
    "a text without end": having("document_number", "№" * HUGE_TEXT_CHARACTERS),
    "brackets without end": lambda _: BRACKETS,
    "white space without end": lambda _: SPACES,
}
"""Malformed bodies that are large enough to overload a receiver without a limit."""

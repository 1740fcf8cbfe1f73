"""What a body carries, read back from its exact bytes: operation, payer, amount and document.

A value has several readings: the exact one, and those of a shop that cuts, rounds, wraps or guesses.
"""

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Any
from urllib.parse import parse_qsl
from uuid import UUID

from sandbox.storm import amounts

NAMES = ("operation_id", "amount", "payer_inn", "document_number", "document_date")
MEMBER = re.compile(r'"(\w+)"\s*:\s*("(?:[^"\\]|\\.)*"|[^\s,{}\[\]"]+)')
"""A member of JSON that is not whole."""

DIGITS_MAX = 40
"""A longer number fits no column; its exact value is of no use."""

INN = re.compile(r"[0-9]{10}|[0-9]{12}", re.ASCII)
INN_LENGTHS = (10, 12)


@dataclass(frozen=True, kw_only=True)
class Carried:
    """The facts of one body: each with all its readings, the most literal first."""

    operation_ids: tuple[str, ...] = ()
    payers: tuple[str, ...] = ()
    amounts: tuple[int, ...] = ()
    document_number: str | None = None
    document_date: str | None = None


def read_back(body: bytes) -> Carried:
    """Read the facts back from a body, also from one that is no JSON."""
    found = _members(body)
    numbers, dates = found.get("document_number", []), found.get("document_date", [])
    return Carried(
        operation_ids=_distinct(reading for value in found.get("operation_id", []) for reading in _ids(value)),
        payers=_distinct(reading for value in found.get("payer_inn", []) for reading in _payers(value)),
        amounts=tuple(dict.fromkeys(n for value in found.get("amount", []) for n in _amounts(value) if n)),
        document_number=next((value for value in numbers if isinstance(value, str)), None),
        document_date=next((value for value in dates if isinstance(value, str)), None),
    )


def same_id(text: object) -> str:
    """Return an operation id in one spelling; a text that is no UUID stays as it is."""
    try:
        return str(UUID(text if isinstance(text, str) else ""))
    except ValueError:
        return str(text)


def _members(body: bytes) -> dict[str, list[Any]]:
    """Return the values of each member at any depth; of a broken body, what can be made out."""
    found: dict[str, list[Any]] = {}

    def collect(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        for name, value in pairs:
            if name in NAMES:
                found.setdefault(name, []).append(value)
        return dict(pairs)

    text = body.decode(errors="replace")
    try:
        json.loads(text, object_pairs_hook=collect, parse_int=_number, parse_float=_number)
    except (ValueError, RecursionError):
        found.clear()
        collect(_pairs(text))
    return found


def _pairs(text: str) -> list[tuple[str, Any]]:
    if text.lstrip()[:1] not in ("{", "[", ""):
        return [(name, value) for name, value in parse_qsl(text) if name in NAMES]
    return [(name, _value(value)) for name, value in MEMBER.findall(text)]


def _value(text: str) -> Any:
    try:
        return json.loads(text, parse_int=_number, parse_float=_number)
    except ValueError:
        return text


def _number(text: str) -> Decimal:
    return Decimal(text)


def _ids(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield same_id(value)
        yield value


def _amounts(value: Any) -> Iterator[int]:
    """Return the amounts that shops may read out of a value; nothing for one that holds no number."""
    if isinstance(value, bool):
        yield int(value)
    elif isinstance(value, Decimal):
        yield from _of_number(value)
    elif isinstance(value, str):
        try:
            yield from _of_number(Decimal(unicodedata.normalize("NFKC", value).replace(" ", "").replace(",", ".")))
        except InvalidOperation:
            return
    elif isinstance(value, list | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _amounts(item)


def _of_number(number: Decimal) -> Iterator[int]:
    if not number.is_finite():
        return
    digits = "".join(map(str, number.as_tuple().digits))
    if number.adjusted() >= DIGITS_MAX:
        yield from amounts.capped(10**DIGITS_MAX)
        if len(digits) < DIGITS_MAX:
            yield int(digits)
        return
    whole = {int(number.to_integral_value(rounding)) for rounding in (ROUND_FLOOR, ROUND_CEILING, ROUND_HALF_UP)}
    for each in sorted(whole, reverse=True):
        yield each
        if each < 0:
            yield -each
        if amounts.is_beyond(each):
            yield from amounts.capped(each)
            yield from amounts.wrapped(each)
    if number.as_tuple().exponent:
        # Without its point or exponent; and as roubles with a fraction.
        yield from (int(digits), int(number * 100))


def _payers(value: Any) -> Iterator[str]:
    """Return the payers that shops may read out of a value: as it is, as text, cut, filled up, or its digits alone."""
    if isinstance(value, list | dict):
        plain = json.loads(json.dumps(value, default=str))
        yield from (str(plain), json.dumps(plain))
        for item in value.values() if isinstance(value, dict) else value:
            yield from _payers(item)
        return
    if value is None:
        yield from ("None", "null")
        return
    text = str(value)
    yield text
    plain_text = unicodedata.normalize("NFKC", text).strip()
    digits = re.sub(r"\D", "", plain_text, flags=re.ASCII)
    for each in (text.strip(), plain_text, digits):
        yield each
        yield from (each[:length] for length in INN_LENGTHS if len(each) > length)
    if digits:
        yield from (digits.zfill(length) for length in INN_LENGTHS)


def _distinct(readings: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(filter(None, readings)))

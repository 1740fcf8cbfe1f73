"""parse_json(): refuses what two parsers would read differently; and its messages as JSON pointers.

Called by the banks and the doors. Knows no body as a whole.
"""

import json
from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from errors import FieldProblem, UnusableBody
from fields import UNKNOWN_MEMBER
from limits import NESTING_MAX

TOO_DEEP = "The body is nested too deeply."


def is_json(content_type: str) -> bool:
    """Return whether a Content-Type says JSON; its charset is ignored, since JSON is UTF-8."""
    kind = content_type.partition(";")[0].strip().lower()
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))


def parse_json(body: bytes) -> Any:
    """Read strict JSON; raise UnusableBody for anything that two parsers could read differently.

    Refused: other encodings than UTF-8, NaN and Infinity, repeated keys. Fractions come back as Decimal, never float.
    """
    try:
        value = _decoder.decode(body.decode())
    except UnicodeDecodeError:
        raise UnusableBody("The body is not UTF-8.") from None
    except RecursionError:
        raise UnusableBody(TOO_DEEP) from None
    except ValueError as error:
        # Our own hooks say what is wrong; the parser's own words could quote the body.
        words = error.args[0] if type(error) is _StrictnessError else "The body is not JSON."
        raise UnusableBody(words) from None
    if _is_deeper_than(NESTING_MAX, value):
        raise UnusableBody(TOO_DEEP)
    return value


def problems(messages: Mapping[Any, Any] | list[Any]) -> list[FieldProblem]:
    """Turn marshmallow's messages into a list of JSON pointers, each with what is wrong there."""
    return list(_walk("#", messages))


class _StrictnessError(ValueError):
    """JSON that is well-formed to some parsers and not to others."""


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _StrictnessError("The body repeats a key within one object.")
    return members


def _decimal(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        raise _StrictnessError("The body holds a number that is out of all bounds.") from None


def _no_constant(_text: str) -> None:
    raise _StrictnessError("NaN and Infinity are not JSON.")


_decoder = json.JSONDecoder(object_pairs_hook=_distinct, parse_float=_decimal, parse_constant=_no_constant)
"""Made once: to make one costs as much as to read a webhook with it."""


def _is_deeper_than(limit: int, value: Any) -> bool:
    """Return whether a value is nested deeper than the limit; Python versions differ in what they can parse at all."""
    level = [value]
    for _ in range(limit):
        nested = [item for item in level if isinstance(item, dict | list)]
        if not nested:
            return False
        level = [below for item in nested for below in (item.values() if isinstance(item, dict) else item)]
    return any(isinstance(item, dict | list) for item in level)


def _walk(pointer: str, messages: Mapping[Any, Any] | list[Any]) -> Iterator[FieldProblem]:
    if isinstance(messages, Mapping):
        for key, below in messages.items():
            # The name of an unknown member is the caller's text, which no error repeats.
            nameless = key == "_schema" or below == [UNKNOWN_MEMBER]
            yield from _walk(pointer if nameless else f"{pointer}/{key}", below)
    else:
        for message in messages:
            yield {"pointer": pointer, "detail": str(message)}

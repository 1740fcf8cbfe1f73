"""The shapes that JSON bodies and queries are made of: strict parsing, and the fields that money, times and ids are.

Called by schemas.py, the banks and the doors. Knows no body as a whole, and no database.
"""

import json
import re
import unicodedata
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import UUID

from marshmallow import RAISE, Schema, ValidationError, fields

import rules
from errors import FieldProblem, UnusableBody
from limits import NESTING_MAX

TOO_DEEP = "The body is nested too deeply."

YEARS = r"(19|2[0-9])[0-9]{2}"
"""Times in other years than 1900 to 2999 are refused: not every database holds them, and no bank means them."""

RFC3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})", re.ASCII
)
UUID_TEXT = re.compile(
    r"(\{)?[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}(?(1)\})", re.ASCII | re.IGNORECASE
)

DIGITS = re.compile(r"[0-9]{1,19}", re.ASCII)

UNKNOWN_MEMBER = "Holds a member that is not known here."

TIME_JSON = {"pattern": f"^{YEARS}-"}
TEXT_JSON = {"pattern": r"^[^\u0000-\u001f\u007f-\u009f]*$"}
MONEY_JSON = {"minimum": 1, "maximum": rules.MONEY_MAX}


def is_json(content_type: str) -> bool:
    """Tell whether a Content-Type says JSON; its charset is ignored, since JSON is UTF-8."""
    kind = content_type.partition(";")[0].strip().lower()
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))


def parse_json(body: bytes) -> Any:
    """Read strict JSON; raise UnusableBody for anything that two parsers could read differently.

    Refused: other encodings than UTF-8, NaN and Infinity, repeated keys. Fractions come back as Decimal, never float.
    """
    try:
        value = json.loads(
            body.decode(),
            object_pairs_hook=_distinct,
            parse_float=_decimal,
            parse_constant=_no_constant,
        )
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


def _is_deeper_than(limit: int, value: Any) -> bool:
    """Tell whether a value is nested deeper than the limit; Python versions differ in what they can parse at all."""
    level = [value]
    for _ in range(limit):
        level = [
            below
            for item in level
            if isinstance(item, dict | list)
            for below in (item.values() if isinstance(item, dict) else item)
        ]
    return any(isinstance(item, dict | list) for item in level)


def _no_constant(_text: str) -> None:
    raise _StrictnessError("NaN and Infinity are not JSON.")


def _walk(pointer: str, messages: Mapping[Any, Any] | list[Any]) -> Iterator[FieldProblem]:
    if isinstance(messages, Mapping):
        for key, below in messages.items():
            # The name of an unknown member is the caller's text, which no error repeats.
            nameless = key == "_schema" or below == [UNKNOWN_MEMBER]
            yield from _walk(pointer if nameless else f"{pointer}/{key}", below)
    else:
        for message in messages:
            yield {"pointer": pointer, "detail": str(message)}


class Text(fields.String):
    """Text that every database can hold: no control characters and no halves of a surrogate pair."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"metadata": TEXT_JSON, **kwargs})

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        text = super()._deserialize(value, attr, data, **kwargs)
        if any(unicodedata.category(character) in ("Cc", "Cs") for character in text):
            raise ValidationError("Must not hold control characters.")
        return text


class Kopecks(fields.Integer):
    """A positive whole number of kopecks; `145000.0` is the same number, `145000.5` is refused, nothing is rounded."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"metadata": MONEY_JSON, **kwargs})

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int | Decimal):
            raise ValidationError("Must be a whole number of kopecks.")
        # Compared before it is converted: int(Decimal("1e999999")) would fill the memory.
        if not 1 <= value <= rules.MONEY_MAX:
            raise ValidationError(f"Must be from 1 to {rules.MONEY_MAX} kopecks.")
        if value != int(value):
            raise ValidationError("Must be a whole number of kopecks, without a fraction.")
        return int(value)


class Whole(fields.Integer):
    """A whole number of a body; `5.0` is the same number, `"5"`, `5.5` and `true` are refused."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int | Decimal):
            raise ValidationError("Must be a whole number.")
        # Compared before it is converted, as above.
        if not -rules.MONEY_MAX <= value <= rules.MONEY_MAX or value != int(value):
            raise ValidationError("Must be a whole number.")
        return int(value)


class Flag(fields.Boolean):
    """true or false, and nothing that other languages take for one."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> bool:
        if not isinstance(value, bool):
            raise ValidationError("Must be true or false.")
        return value


class Inn(fields.String):
    """A tax number: exactly ten or twelve ASCII digits."""

    def __init__(self, **kwargs: Any) -> None:
        shape = {"pattern": f"^({rules.INN.pattern})$"}
        super().__init__(**{**kwargs, "metadata": shape | kwargs.get("metadata", {})})

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        text = super()._deserialize(value, attr, data, **kwargs)
        if not rules.INN.fullmatch(text):
            raise ValidationError("Must be 10 or 12 digits.")
        return text


class OperationId(fields.UUID):
    """A UUID in any of its usual spellings: capitals, braces and missing dashes name the same operation."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> UUID:
        if not isinstance(value, str) or not UUID_TEXT.fullmatch(value):
            raise ValidationError("Must be a UUID.")
        return UUID(value)


class Moment(fields.AwareDateTime):
    """An RFC 3339 time with its zone, kept in UTC; leap seconds and years outside 1900 to 2999 are refused."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"metadata": TIME_JSON, **kwargs})

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> datetime:
        if not isinstance(value, str) or not RFC3339.fullmatch(value):
            raise ValidationError("Must be a date and time with its zone, such as 2024-04-27T21:00:00Z.")
        if not re.match(YEARS, value):
            raise ValidationError("Must be in a year from 1900 to 2999.")
        try:
            return datetime.fromisoformat(value.upper()).astimezone(UTC)
        except ValueError:
            raise ValidationError("Is not a time that exists (leap seconds are not accepted).") from None

    def _serialize(self, value: datetime | None, attr: str | None, obj: Any, **kwargs: Any) -> str | None:
        return None if value is None else rules.rfc3339(value)


class Strict(Schema):
    """A body or query of our own API, in which a misspelt member must not pass in silence."""

    class Meta:
        """Refuse what is not listed."""

        unknown = RAISE

    error_messages = {"unknown": UNKNOWN_MEMBER}  # noqa: RUF012 - declared by marshmallow


class QueryNumber(fields.Integer):
    """A number in a query: digits and nothing else, where int() would take signs, spaces and digits of any script."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> int:
        if not isinstance(value, str) or not DIGITS.fullmatch(value):
            raise ValidationError("Must be a whole number.")
        return int(value)


class QueryMoment(Moment):
    """A moment in a query, where the + of a zone arrives as a space unless it is written as %2B."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> datetime:
        text = value.replace(" ", "+") if isinstance(value, str) else value
        return super()._deserialize(text, attr, data, **kwargs)

"""The marshmallow fields that JSON bodies and queries are made of: money, INN, ids, moments.

Used by schemas.py and the shell. Knows no body as a whole, and no database.
"""

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from marshmallow import RAISE, Schema, ValidationError, fields

import rules
from enums import AccountKind

ACCOUNT_CODE = re.compile(rf"({'|'.join(AccountKind)}):[a-z0-9_-]{{1,32}}", re.ASCII)

DAY = re.compile(r"(19|2[0-9])[0-9]{2}-[0-9]{2}-[0-9]{2}", re.ASCII)

YEARS = r"(19|2[0-9])[0-9]{2}"
"""What the document of the API says of years; within hours of the bounds the zone decides, which no pattern can say."""

RFC3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})", re.ASCII
)
UUID_TEXT = re.compile(
    r"(\{)?[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}(?(1)\})", re.ASCII | re.IGNORECASE
)

NOT_TEXT = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters, and halves of a surrogate pair."""

DIGITS = re.compile(r"[0-9]{1,19}", re.ASCII)

UNKNOWN_MEMBER = "Holds a member that is not known here."

TIME_JSON = {"pattern": f"^{YEARS}-"}
TEXT_JSON = {"pattern": r"^[^\u0000-\u001f\u007f-\u009f]*$"}
MONEY_JSON = {"minimum": 1, "maximum": rules.MONEY_MAX}


class Text(fields.String):
    """Text that every database can hold: no control characters and no halves of a surrogate pair."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"metadata": TEXT_JSON, **kwargs})

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        text = super()._deserialize(value, attr, data, **kwargs)
        if NOT_TEXT.search(text):
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
    """An RFC 3339 time with its zone, kept in UTC; leap seconds, and times outside 1900 to 2999 in UTC, are refused."""

    def __init__(self, *, bounded: bool = True, **kwargs: Any) -> None:
        super().__init__(**{"metadata": TIME_JSON, **kwargs})
        self._bounded = bounded

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> datetime:
        if not isinstance(value, str) or not RFC3339.fullmatch(value):
            raise ValidationError("Must be a date and time with its zone, such as 2024-04-27T21:00:00Z.")
        try:
            moment = datetime.fromisoformat(value.upper())
        except ValueError:
            raise ValidationError("Is not a time that exists (leap seconds are not accepted).") from None
        if self._bounded and not rules.in_bounds(moment):
            raise ValidationError("Must be in a year from 1900 to 2999, in UTC.")
        try:
            return moment.astimezone(UTC)
        except OverflowError:
            raise ValidationError("Must be in a year from 1 to 9999, in UTC.") from None

    def _serialize(self, value: datetime | None, attr: str | None, obj: Any, **kwargs: Any) -> str | None:
        return None if value is None else rules.rfc3339(value)


class Strict(Schema):
    """A body or query of our own API, in which a misspelt member must not pass in silence."""

    class Meta:
        """Refuse what is not listed."""

        unknown = RAISE

    error_messages = {"unknown": UNKNOWN_MEMBER}  # noqa: RUF012 - declared by marshmallow


class AccountCode(fields.String):
    """A system account: its kind, a colon, and a name of small letters, digits, - and _."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"metadata": {"pattern": f"^({ACCOUNT_CODE.pattern})$"}, **kwargs})

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        if not isinstance(value, str) or not ACCOUNT_CODE.fullmatch(value):
            raise ValidationError(f"Must be a kind ({', '.join(AccountKind)}), a colon and a name, such as fees:shop.")
        return value


class Day(fields.Date):
    """A calendar day such as 2026-12-31, in the years of other times."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "metadata": TIME_JSON | kwargs.get("metadata", {})})

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        if not isinstance(value, str) or not DAY.fullmatch(value):
            raise ValidationError("Must be a day such as 2026-12-31.")
        return super()._deserialize(value, attr, data, **kwargs)


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

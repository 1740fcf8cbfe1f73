"""Every JSON body and query, in and out: shape only, never the database.

Called by the banks and the doors; the OpenAPI document is made from these same classes.
"""

import json
import re
import unicodedata
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import UUID

from marshmallow import EXCLUDE, RAISE, Schema, ValidationError, fields, validate

import rules
from errors import FieldProblem, UnusableBody
from limits import NESTING_MAX

DOCUMENT_NUMBER_CHARACTERS_MAX = 50
"""As in the bank format that Kopeck took over."""

TOO_DEEP = "The body is nested too deeply."
NAME_CHARACTERS_MAX = 255
NOTE_CHARACTERS_MAX = 1000
PAGE_ROWS_DEFAULT = 50
PAGE_ROWS_MAX = 500
INCIDENTS_DEFAULT = 20
INCIDENTS_MAX = 100

YEARS = r"(19|2[0-9])[0-9]{2}"
"""Times in other years than 1900 to 2999 are refused: not every database holds them, and no bank means them."""

RFC3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})", re.ASCII
)
UUID_TEXT = re.compile(
    r"(\{)?[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}(?(1)\})", re.ASCII | re.IGNORECASE
)
ROUBLES = ("RUB", "RUR", "643")
"""The three names under which Russian banks write roubles."""

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


class Inn(fields.String):
    """A tax number: exactly ten or twelve ASCII digits."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"metadata": {"pattern": f"^({rules.INN.pattern})$"}, **kwargs})

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


class QueryMoment(Moment):
    """A moment in a query, where the + of a zone arrives as a space unless it is written as %2B."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> datetime:
        text = value.replace(" ", "+") if isinstance(value, str) else value
        return super()._deserialize(text, attr, data, **kwargs)


class BankWebhook(Schema):
    """The plain bank's announcement of money; members that are not listed are accepted and kept with the body."""

    class Meta:
        """Banks add members without asking."""

        unknown = EXCLUDE

    operation_id = OperationId(required=True)
    amount = Kopecks(required=True)
    payer_inn = Inn(required=True)
    document_number = Text(required=True, validate=validate.Length(1, DOCUMENT_NUMBER_CHARACTERS_MAX))
    document_date = Moment(required=True)
    currency = fields.String(
        load_default="RUB",
        validate=validate.OneOf(ROUBLES, error="Only roubles are credited."),
        metadata={"description": "Not part of the format; a sender that adds it must mean roubles."},
    )


class WebhookAnswer(Schema):
    """What a bank hears; credited, duplicate and conflict come with 200, held with 202."""

    status = fields.String(required=True, validate=validate.OneOf(["credited", "duplicate", "conflict", "held"]))
    operation_id = fields.UUID(required=True)
    payment_id = fields.UUID(required=True, allow_none=True)
    incident_id = fields.Integer(required=True, allow_none=True)


class WhichBank(Strict):
    """Whose format a body is in."""

    bank = fields.String(load_default="plain")


class SignatureReport(Schema):
    """Whether a signature holds, with which secret, and how old it is."""

    valid = fields.Boolean(required=True)
    scheme = fields.String(required=True, allow_none=True)
    key_id = fields.String(required=True, allow_none=True)
    key_position = fields.Integer(
        required=True, allow_none=True, metadata={"description": "0 is the newest of the current secrets."}
    )
    age_seconds = fields.Integer(required=True, allow_none=True)
    reason = fields.String(required=True, allow_none=True)


class FieldProblemOut(Schema):
    """One thing that is wrong: where in the body (a JSON pointer), or in which query parameter."""

    pointer = fields.String()
    parameter = fields.String()
    detail = fields.String(required=True)


class VerifyAnswer(Schema):
    """What the webhook door would do with this very request; nothing was written."""

    signature = fields.Nested(SignatureReport, required=True)
    outcome = fields.String(
        required=True,
        validate=validate.OneOf(["credited", "duplicate", "conflict", "held", "unusable", "refused"]),
    )
    http_status = fields.Integer(required=True)
    inn = fields.String(required=True, allow_none=True)
    balance = fields.Integer(required=True, allow_none=True, metadata={"description": "Kopecks, now."})
    balance_after = fields.Integer(
        required=True, allow_none=True, metadata={"description": "Kopecks, once this webhook had been taken."}
    )
    errors = fields.List(fields.Nested(FieldProblemOut), required=True)


class OrganizationIn(Strict):
    """An organisation to register."""

    inn = Inn(required=True)
    name = Text(load_default="", validate=validate.Length(0, NAME_CHARACTERS_MAX))


class OrganizationOut(Schema):
    """An organisation and what it holds."""

    inn = fields.String(required=True)
    name = fields.String(required=True)
    balance = fields.Integer(required=True, metadata={"description": "Kopecks."})
    currency = fields.String(required=True)
    version = fields.Integer(required=True, metadata={"description": "How many times the balance has moved."})
    inn_checksum_ok = fields.Boolean(required=True, metadata={"description": "Advice only."})
    created_at = Moment(required=True)


class BalanceOut(Schema):
    """The balance of one organisation."""

    inn = fields.String(required=True)
    balance = fields.Integer(required=True, metadata={"description": "Kopecks."})
    currency = fields.String(required=True)
    version = fields.Integer(required=True, metadata={"description": "How many times the balance has moved."})


class LogEntryOut(Schema):
    """One move of a balance: before + delta = after, versions without a gap."""

    version = fields.Integer(required=True)
    created_at = Moment(required=True)
    delta = fields.Integer(required=True)
    balance_before = fields.Integer(required=True)
    balance_after = fields.Integer(required=True)
    reason = fields.String(required=True)
    payment_id = fields.UUID(required=True)
    operation_id = fields.UUID(required=True)
    document_number = fields.String(required=True)
    document_date = Moment(required=True)


class PaymentOut(Schema):
    """Money that reached a balance, as the bank announced it."""

    payment_id = fields.UUID(required=True)
    operation_id = fields.UUID(required=True)
    external_id = fields.String(required=True, allow_none=True)
    source = fields.String(required=True)
    amount = fields.Integer(required=True)
    currency = fields.String(required=True)
    payer_inn = fields.String(required=True)
    document_number = fields.String(required=True)
    document_date = Moment(required=True)
    body_sha256 = fields.String(required=True)
    key_id = fields.String(required=True)
    received_at = Moment(required=True)


class IncidentOut(Schema):
    """Something a person must look at."""

    id = fields.Integer(required=True)
    kind = fields.String(required=True)
    source = fields.String(required=True)
    operation_id = fields.UUID(required=True, allow_none=True)
    facts = fields.Dict(required=True)
    body_base64 = fields.String(required=True, metadata={"description": "What arrived, byte for byte."})
    body_sha256 = fields.String(required=True)
    key_id = fields.String(required=True)
    seen_count = fields.Integer(required=True)
    created_at = Moment(required=True)
    last_seen_at = Moment(required=True)
    resolved_at = Moment(required=True, allow_none=True)
    resolved_by = fields.String(required=True, allow_none=True)
    resolution = fields.String(required=True, allow_none=True)


class ResolveIn(Strict):
    """Why an incident needs nothing more."""

    resolution = Text(required=True, validate=validate.Length(1, NOTE_CHARACTERS_MAX))


class AssignIn(Strict):
    """To whom the money of an incident belongs."""

    inn = Inn(required=True)


class Page(Strict):
    """Which part of a list is asked for."""

    cursor = fields.String(validate=validate.Length(1, 200), metadata={"description": "`next` of the page before."})
    limit = fields.Integer(load_default=PAGE_ROWS_DEFAULT, validate=validate.Range(1, PAGE_ROWS_MAX))


class StatementPage(Page):
    """Which part of a statement is asked for; `from` is within it, `to` is not."""

    since = QueryMoment(data_key="from")
    until = QueryMoment(data_key="to")
    format = fields.String(load_default=None, validate=validate.OneOf(["json", "csv"]))


class IncidentPage(Page):
    """Which incidents are asked for; fewer at once, since each carries the body that arrived."""

    limit = fields.Integer(load_default=INCIDENTS_DEFAULT, validate=validate.Range(1, INCIDENTS_MAX))

    state = fields.String(load_default="open", validate=validate.OneOf(["open", "resolved", "all"]))


def page_of(item: type[Schema]) -> type[Schema]:
    """Return the schema of one page of a list: its items and the cursor of the next page."""
    return Schema.from_dict(
        {
            "items": fields.List(fields.Nested(item), required=True),
            "next": fields.String(required=True, allow_none=True),
        },
        name=f"{item.__name__.removesuffix('Out')}Page",
    )


class HealthOut(Schema):
    """Whether the process, or the process and its database, are in order."""

    status = fields.String(required=True)


class ProblemOut(Schema):
    """Any error, as RFC 9457 has it."""

    type = fields.String(required=True)
    title = fields.String(required=True)
    status = fields.Integer(required=True)
    detail = fields.String()
    errors = fields.List(fields.Nested(FieldProblemOut))
    request_id = fields.String()

"""Parses and validates request bodies as upstream does, with the error format of its framework.

docs/sandbox.md lists where the rules are stricter than upstream's.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from http_client import addresses
from sandbox import context
from sandbox.gateway.model import AMOUNT_MAX

WHOLE = re.compile(r"\s*([+-]?[0-9]{1,30})(\.0*)?\s*", re.ASCII)
REDIRECT = re.compile(r"https?://[^\s/?#\\]+[^\s\\]*", re.I)
NESTING_MAX = 32
REFERENCE_CHARACTERS_MAX = 1000
URL_CHARACTERS_MAX = 2048
NOT_SENT_TO = (
    "Webhooks are sent to the public internet, to networks in SANDBOX_NETWORKS, "
    "and to this machine unless SANDBOX_PUBLIC=yes."
)

Problem = dict[str, Any]


class TooDeep(Exception):
    """A body that is nested too deeply; upstream's framework cannot parse it either, and answers 400."""


class Unprocessable(Exception):
    """A body that is not valid; `problems` is the `detail` of upstream's 422."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__(f"{len(problems)} problems")


@dataclass(frozen=True, kw_only=True)
class NewInvoice:
    """The body of POST /api/create-invoice."""

    amount: int
    reference: str
    webhook_url: str
    redirect_url: str


def read_invoice(raw: bytes) -> NewInvoice:
    """Parse the body of POST /api/create-invoice; raise Unprocessable."""
    body = json_object(raw)
    problems: list[Problem] = []
    amount = _amount(body, problems)
    reference = _text(body, ("reference",), problems, REFERENCE_CHARACTERS_MAX)
    webhook_url = _text(body, ("webhookUrl", "webhook_url"), problems, URL_CHARACTERS_MAX)
    redirect_url = _text(body, ("redirectUrl", "redirect_url"), problems, URL_CHARACTERS_MAX)
    if not problems:
        problems += _problems_with_urls(webhook_url, redirect_url)
    if problems:
        raise Unprocessable(problems)
    return NewInvoice(amount=amount, reference=reference, webhook_url=webhook_url, redirect_url=redirect_url)


def json_object(raw: bytes) -> dict[str, Any]:
    """Parse a body that must be a JSON object; raise Unprocessable or TooDeep."""
    try:
        body = parse_json(raw)
    except ValueError:
        raise Unprocessable([_problem("json_invalid", ["body", 0], "JSON decode error", {})]) from None
    if not isinstance(body, dict):
        message = "Input should be a valid dictionary or object to extract fields from"
        raise Unprocessable([_problem("model_attributes_type", ["body"], message, body)])
    return body


def parse_json(raw: bytes | str) -> Any:
    """Parse JSON; raise ValueError, or TooDeep for what could not be written again either."""
    try:
        value = json.loads(raw)
    except RecursionError:
        raise TooDeep from None
    level = [value]
    for _ in range(NESTING_MAX):
        level = [inner for item in level for inner in _items(item)]
    if level:
        raise TooDeep
    return value


def _items(value: Any) -> list[Any]:
    """Return what a list or an object holds."""
    return list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []


def text_member(body: Mapping[str, Any], name: str) -> str:
    """Return a member that must be a string; raise Unprocessable."""
    problems: list[Problem] = []
    text = _text(body, (name,), problems, REFERENCE_CHARACTERS_MAX)
    if problems:
        raise Unprocessable(problems)
    return text


def missing_field(place: str, name: str) -> Unprocessable:
    """Return the error for a missing field of a form or query."""
    return Unprocessable([_problem("missing", [place, name], "Field required", None)])


def invalid_field(place: str, name: str, message: str, given: object) -> Unprocessable:
    """Return the error for an invalid field of a form or query."""
    return Unprocessable([_problem("value_error", [place, name], message, given)])


def whole_number(given: object) -> int:
    """Parse what upstream's framework accepts as an integer: 250, 250.0, "250", true; raise ValueError."""
    if isinstance(given, float):
        if not math.isfinite(given):
            raise ValueError("finite_number", "Input should be a finite number")
        if not given.is_integer():
            raise ValueError("int_from_float", "Input should be a valid integer, got a number with a fractional part")
        return int(given)
    if isinstance(given, int):
        return int(given)
    if not isinstance(given, str):
        raise ValueError("int_type", "Input should be a valid integer")
    shape = WHOLE.fullmatch(given)
    if shape is None:
        raise ValueError("int_parsing", "Input should be a valid integer, unable to parse string as an integer")
    return int(shape[1])


def _amount(body: Mapping[str, Any], problems: list[Problem]) -> int:
    place = ["body", "amount"]
    if "amount" not in body:
        problems.append(_problem("missing", place, "Field required", body))
        return 0
    given = body["amount"]
    try:
        amount = whole_number(given)
    except ValueError as problem:
        kind, message = problem.args
        problems.append(_problem(kind, place, message, given))
        return 0
    if amount < 1:
        problems.append(_problem("greater_than", place, "Input should be greater than 0", given))
    elif amount > AMOUNT_MAX:
        message = f"Input should be less than or equal to {AMOUNT_MAX}"
        problems.append(_problem("less_than_equal", place, message, given))
    return amount


def _text(body: Mapping[str, Any], names: tuple[str, ...], problems: list[Problem], characters_max: int) -> str:
    place = ["body", names[0]]
    name = next((name for name in names if name in body), None)
    if name is None:
        problems.append(_problem("missing", place, "Field required", body))
        return ""
    given = body[name]
    if not isinstance(given, str):
        problems.append(_problem("string_type", place, "Input should be a valid string", given))
    elif any("\ud800" <= character <= "\udfff" for character in given):
        problems.append(_problem("string_unicode", place, "Input should be a valid string", None))
    elif len(given) > characters_max:
        message = f"String should have at most {characters_max} characters"
        problems.append(_problem("string_too_long", place, message, None))
    else:
        return given
    return ""


def _problems_with_urls(webhook_url: str, redirect_url: str) -> list[Problem]:
    problems = []
    if reason := _problem_with_webhook(webhook_url):
        problems.append(_problem("value_error", ["body", "webhookUrl"], reason, webhook_url))
    if not (redirect_url.isprintable() and REDIRECT.fullmatch(redirect_url)):
        reason = "The address must start with http:// or https:// and name a host."
        problems.append(_problem("value_error", ["body", "redirectUrl"], reason, redirect_url))
    return problems


def _problem_with_webhook(url: str) -> str | None:
    """Return what is wrong with a webhook's address; None if it may be used.

    The addresses behind a host name are checked later, when a webhook is sent.
    """
    if not url:  # no webhook is wanted
        return None
    try:
        target = addresses.split(url)
    except addresses.Unusable as problem:
        return str(problem)
    settings = context.settings()
    if addresses.is_localhost(target.host):
        fits = not settings.public
    else:
        fits = not addresses.is_address(target.host) or addresses.is_allowed(
            target.host, loopback_allowed=not settings.public, networks=settings.networks
        )
    return None if fits else NOT_SENT_TO


def _problem(kind: str, place: list[Any], message: str, given: object) -> Problem:
    try:
        json.dumps(given, allow_nan=False)
    except ValueError:  # JSON has no infinity
        given = None
    return {"type": kind, "loc": place, "msg": message, "input": given}

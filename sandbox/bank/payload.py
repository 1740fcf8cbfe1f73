"""The body of the mock bank's webhooks: sample values, validation, encoding, signatures."""

import json
import re
import uuid
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import signing

SAMPLE = {"amount": 145_000, "payer_inn": "1234567890", "document_number": "PAY-328"}
"""The sample of the older systems, with a new operation and the current date."""

FIELDS = ("operation_id", "amount", "payer_inn", "document_number", "document_date")
MONEY_MAX = 2**63 - 1
INN = re.compile(r"[0-9]{10}|[0-9]{12}", re.ASCII)
MOMENT = re.compile(r"\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(\.\d{1,9})?([Zz]|[+-]\d{2}:\d{2})", re.ASCII)
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")

Problems = dict[str, list[str]]


def with_defaults(given: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """Return the sample with the given members in place of its own; unknown members are added."""
    sample = {"operation_id": str(uuid.uuid4()), **SAMPLE, "document_date": f"{now:%Y-%m-%dT%H:%M:%SZ}"}
    ordered = {name: sample[name] for name in FIELDS}
    return {**ordered, **given}


def problems(given: Mapping[str, Any]) -> Problems:
    """Return the problems by field; missing fields are allowed."""
    found: Problems = {}
    for name, value in given.items():
        problem = CHECKS[name](value) if name in CHECKS else "There is no such field."
        if problem:
            found[name] = [problem]
    return found


def encode(members: Mapping[str, Any]) -> bytes:
    """Return the exact bytes that are signed and sent."""
    return json.dumps(members, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _uuid(value: object) -> str | None:
    try:
        uuid.UUID(value if isinstance(value, str) else "")
    except ValueError:
        return "Must be a UUID."
    return None


def _amount(value: object) -> str | None:
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    return None if is_whole and 1 <= int(str(value)) <= MONEY_MAX else "Must be whole kopecks, 1 to 2^63 − 1."


def _inn(value: object) -> str | None:
    return None if isinstance(value, str) and INN.fullmatch(value) else "Must be 10 or 12 digits, as text."


def _number(value: object) -> str | None:
    fits = isinstance(value, str) and 1 <= len(value) <= 50 and not CONTROL.search(value)
    return None if fits else "Must be 1 to 50 characters, without control characters."


def _moment(value: object) -> str | None:
    message = "Must be RFC 3339 with its zone, such as 2024-04-27T21:00:00Z."
    if not isinstance(value, str) or not MOMENT.fullmatch(value):
        return message
    try:
        datetime.fromisoformat(value.upper())
    except ValueError:
        return message
    return None


CHECKS: dict[str, Callable[[object], str | None]] = {
    "operation_id": _uuid,
    "amount": _amount,
    "payer_inn": _inn,
    "document_number": _number,
    "document_date": _moment,
}

SIGNATURES: dict[str, Callable[[bytes, str], str | None]] = {
    "right": signing.sign,
    "wrong": lambda body, secret: signing.sign(body, f"not {secret}"),
    "truncated": lambda body, secret: signing.sign(body, secret)[:32],
    "missing": lambda *_: None,
}
"""The kinds of signature: the right one, and those that a shop must refuse."""

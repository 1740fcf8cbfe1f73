"""What can be read of a body that cannot be used: enough to know its next repeat by.

Called by Bank.identify(). Refuses nothing; where two operations could look alike, it keeps them apart.
"""

import hashlib
import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import UUID

COUNTERS = frozenset(
    f"{word}{ending}" for word in ("attempt", "retry") for ending in ("", "s", "no", "number", "count")
)
COUNTERS |= {"retries"}
"""Members in which senders count how often they have sent the same; in small letters, without - and _."""

SCALAR = r'"(?:[^"\\]|\\.)*"|-?[0-9][0-9.eE+-]*|true|false|null'
"""A string, a number or a word of JSON."""

WHOLE_SCALAR = re.compile(rf"""({SCALAR})\s*(?:,\s*(?=["}}\]]|\Z)|[}}\]]|\Z)""")
"""One and what may come next; anything else means that it was only a part, as the 1 of `1,000` is."""


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What a repeat has in common with an unusable body, and the operation that it names, if it names one."""

    text: str
    operation_id: UUID | None


class _Number(str):
    """A number as it is written."""


class _Object(tuple[tuple[str, Any], ...]):
    """An object with all its members, those that are repeated too."""


Found = list[tuple[Sequence[str | int], Any]]
"""Members that were looked for: where each stands, and what it holds."""

OperationOf = Callable[[str], UUID | None]


def identify(
    body: bytes,
    *,
    operation: str,
    facts: Collection[str],
    operation_of: OperationOf,
    message_id: str | None,
) -> Identity:
    """Name what arrived: by its operation and facts, or by the sender's id of the message, or by all of the body.

    `operation` and `facts` are the names of members; the operation may be "" when a bank has none.
    """
    document, found = _read(body, {operation, *facts} - {""})
    named = [value for place, value in found if place[-1] == operation]
    if named and all(isinstance(value, str) and value for value in named):
        ids = {operation_of(value) for value in named}
        spelled = [(place, operation_of(value) or value if place[-1] == operation else value) for place, value in found]
        return Identity(text=f"members:{_written(spelled)}", operation_id=ids.pop() if len(ids) == 1 else None)
    if message_id is not None:
        return Identity(text=f"message:{json.dumps(message_id)}:{_written(found)}", operation_id=None)
    if document is not None:
        return Identity(text=f"document:{json.dumps(document)}", operation_id=None)
    return Identity(text=f"body:{hashlib.sha256(body).hexdigest()}", operation_id=None)


def _read(body: bytes, names: Collection[str]) -> tuple[Any, Found]:
    """Return a whole JSON body in one spelling, or None; and the members with these names, wherever they stand."""
    # What is no text stays apart from everything else.
    text = body.decode(json.detect_encoding(body), errors="surrogateescape")
    try:
        value = json.loads(
            text,
            object_pairs_hook=_Object,
            parse_int=_Number,
            parse_float=_Number,
            parse_constant=_Number,
            strict=False,
        )
        # In the order of their places, and of the body where one is repeated.
        found = sorted(_members(value, names, ()), key=lambda member: json.dumps(member[0]))
        return {"value": _canonical(value)}, found
    except (ValueError, RecursionError):
        return None, _scan(text, names)


def _members(
    value: Any, names: Collection[str], place: tuple[str | int, ...]
) -> Iterator[tuple[Sequence[str | int], Any]]:
    pairs: Iterable[tuple[str | int, Any]] = ()
    if isinstance(value, _Object):
        pairs = value
    elif isinstance(value, list):
        pairs = enumerate(value)
    for key, below in pairs:
        if key in names:
            yield (*place, key), below
        else:
            yield from _members(below, names, (*place, key))


def _scan(text: str, names: Collection[str]) -> Found:
    """Find members in what is not JSON, such as a body that was cut off; nothing if one of them is not clear."""
    found: Found = []
    for name in re.finditer(f'"({"|".join(map(re.escape, names))})"\\s*:\\s*', text) if names else ():
        token = WHOLE_SCALAR.match(text, name.end())
        if token is None:
            return []
        try:
            value = json.loads(token[1], parse_int=_Number, parse_float=_Number, strict=False)
        except ValueError:
            return []
        found.append(((name[1],), value))
    return found


def _written(found: Found) -> str:
    return json.dumps(
        [[list(place), str(value) if isinstance(value, UUID) else _canonical(value)] for place, value in found]
    )


def _canonical(value: Any) -> Any:
    """Return a value in the one spelling that all its spellings share, without what senders count in it."""
    if isinstance(value, _Number):
        return {"number": _digits(value)}
    if isinstance(value, _Object):
        members = sorted((member for member in value if not _counts(*member)), key=lambda member: member[0])
        return {"members": [[key, _canonical(below)] for key, below in members]}
    if isinstance(value, list):
        return [_canonical(below) for below in value]
    return value


def _counts(name: str, value: Any) -> bool:
    return name.lower().replace("_", "").replace("-", "") in COUNTERS and isinstance(value, str) and value.isdigit()


def _digits(number: str) -> str:
    """Write 1, 1.0 and 10e-1 alike; exactly, where arithmetic would round."""
    try:
        sign, digits, exponent = Decimal(number).as_tuple()
    except InvalidOperation:
        return number
    if not isinstance(exponent, int):
        return number  # NaN and the like
    written = "".join(map(str, digits)).lstrip("0")
    kept = written.rstrip("0")
    return f"{'-' * sign}{kept}e{exponent + len(written) - len(kept)}" if kept else "0"

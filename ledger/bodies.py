"""What stored bodies say, compared with the columns that were once filled from them.

Called by the audit. A body is the bank's own word, so each fact that counts can be read again from it.
"""

import hashlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import banks
import rules
from banks.base import Announcement
from errors import UnusableBody

FACTS = ("operation_id", "external_id", "amount", "payer_inn", "document_number", "document_date")


def differences(source: str, body: object, sha256: str, facts: Mapping[str, object]) -> Iterator[str]:
    """Yield what is wrong with a stored body, and each of the facts, by name, that it tells otherwise.

    Of a bank that is not in the registry only damage is seen.
    """
    yield from damage(body, sha256)
    if not isinstance(body, bytes) or not banks.is_known(source):
        return
    announcement = read(source, body)
    if announcement is None:
        yield f"its body cannot be read as one of the bank {source}"
        return
    for name, kept in facts.items():
        said = getattr(announcement, name)
        if said != kept:
            yield f"its body says {name} {written(said)}, the row says {written(kept)}"


def read(source: str, body: object) -> Announcement | None:
    """Return what a stored body says; None if it, or its bank, cannot be read."""
    if not isinstance(body, bytes) or not banks.is_known(source):
        return None
    try:
        return banks.find(source).read_stored(body)
    except UnusableBody:
        return None


def damage(body: object, sha256: str) -> Iterator[str]:
    """Yield that a body is not the one that was received."""
    # SQLite keeps text where it was told of bytes.
    if not isinstance(body, bytes) or hashlib.sha256(body).hexdigest() != sha256:
        yield "its body is not the one whose SHA-256 was kept"


def announced(operation_id: UUID | None, facts: object) -> dict[str, Any] | None:
    """Return the facts of an incident as they are compared with its body; None if one of them cannot be a bank's."""
    if not isinstance(facts, dict):
        return None
    try:
        kept = facts["announced"]
        document_date = datetime.fromisoformat(kept["document_date"])
        if document_date.tzinfo is None or not _can_be_stored(kept, facts["external_id"]):
            return None
        return {
            "operation_id": operation_id,
            "external_id": facts["external_id"],
            **{name: kept[name] for name in ("amount", "payer_inn", "document_number")},
            # Not every moment that can be written has one in UTC: the year 1 began earlier in the east.
            "document_date": document_date.astimezone(UTC),
        }
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def _can_be_stored(kept: Mapping[str, Any], external_id: object) -> bool:
    """Return whether a payment can have these facts; somebody may have rewritten them."""
    return (
        type(kept["amount"]) is int
        and 0 < kept["amount"] <= rules.MONEY_MAX
        and rules.INN.fullmatch(kept["payer_inn"]) is not None
        and isinstance(kept["document_number"], str)
        and len(kept["document_number"]) <= rules.DOCUMENT_NUMBER_CHARACTERS_MAX
        and (external_id is None or isinstance(external_id, str))
    )


def member(facts: object, name: str) -> Any:
    """Return a member of facts, which may be of any kind when somebody has rewritten them; None if it is not there."""
    return facts.get(name) if isinstance(facts, dict) else None


def written(value: object) -> str:
    """Write a value as people read it."""
    return rules.rfc3339(value.astimezone(UTC)) if isinstance(value, datetime) else str(value)

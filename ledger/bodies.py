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
from errors import BankUnknown, UnusableBody

FACTS = ("operation_id", "external_id", "amount", "payer_inn", "document_number", "document_date")


def differences(source: str, body: object, sha256: str, facts: Mapping[str, object]) -> Iterator[str]:
    """Yield what is wrong with a stored body, and each of the facts, by name, that it tells otherwise."""
    yield from damage(body, sha256)
    if not isinstance(body, bytes):
        return
    try:
        announcement = banks.find(source).read_stored(body)
    except BankUnknown:
        yield f"no bank is called {source}, so its body cannot be read again"
        return
    except UnusableBody:
        yield f"its body cannot be read as one of the bank {source}"
        return
    for name, kept in facts.items():
        said = getattr(announcement, name)
        if said != kept:
            yield f"its body says {name} {_written(said)}, the row says {_written(kept)}"


def damage(body: object, sha256: str) -> Iterator[str]:
    """Yield that a body is not the one that was received."""
    # SQLite keeps text where it was told of bytes.
    if not isinstance(body, bytes) or hashlib.sha256(body).hexdigest() != sha256:
        yield "its body is not the one whose SHA-256 was kept"


def announced(operation_id: UUID | None, facts: Mapping[str, Any]) -> dict[str, object]:
    """Return the facts of an incident as they are compared with its body."""
    kept = facts["announced"]
    return {
        "operation_id": operation_id,
        "external_id": facts["external_id"],
        **{name: kept[name] for name in ("amount", "payer_inn", "document_number")},
        "document_date": datetime.fromisoformat(kept["document_date"]),
    }


def _written(value: object) -> str:
    return rules.rfc3339(value.astimezone(UTC)) if isinstance(value, datetime) else str(value)

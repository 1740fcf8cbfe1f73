"""The hash of each row of the ledger, over all that it says and the row before: the form that docs/proof.md describes.

Called by whoever writes such a row, and by whoever checks one. Touches no table.
"""

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from operator import itemgetter
from typing import Any
from uuid import UUID

from rules import rfc3339

LOG, TRANSFERS, LIMITS = "kopeck-log-1", "kopeck-transfers-1", "kopeck-limits-1"
"""Which form a row is hashed in; a change of the form is another name."""

MOVE = (
    "version",
    "reason",
    "delta",
    "balance_before",
    "balance_after",
    "counter_account",
    "overdraft_limit",
    "created_at",
)
PAYMENT = (
    "id",
    "operation_id",
    "external_id",
    "forward_id",
    "source",
    "payer_inn",
    "amount",
    "currency",
    "document_number",
    "document_date",
    "body_sha256",
    "key_id",
    "received_at",
)
DEBIT = ("id", "operation_id", "source", "amount", "currency", "note", "made_by", "made_at")
TRANSFER = (
    "number",
    "operation_id",
    "debit_account",
    "credit_account",
    "amount",
    "currency",
    "note",
    "made_by",
    "made_at",
)
LIMIT = ("number", "overdraft_limit", "set_by", "set_at")
"""What of each table is hashed, in this order: everything but what says the same in another way."""

_move, _payment, _debit, _transfer, _limit = (itemgetter(*names) for names in (MOVE, PAYMENT, DEBIT, TRANSFER, LIMIT))


def move_sha256(before: str, inn: str, move: Mapping[str, Any], cause: Mapping[str, Any]) -> str:
    """Return the hash of a row of balance_log; its cause is the row of its payment, or else of its debit."""
    return _sha256([LOG, before, inn, *_members(move, cause)])


def move_members(move: Mapping[str, Any], cause: Mapping[str, Any]) -> list[Any]:
    """Return what of a row of balance_log is hashed, as JSON has it."""
    return [value if isinstance(value, str | int | None) else _text(value) for value in _members(move, cause)]


def transfer_sha256(before: str, transfer: Mapping[str, Any]) -> str:
    """Return the hash of a row of transfers."""
    return _sha256([TRANSFERS, before, *_transfer(transfer)])


def limit_sha256(before: str, inn: str, limit: Mapping[str, Any]) -> str:
    """Return the hash of a row of overdraft_limits."""
    return _sha256([LIMITS, before, inn, *_limit(limit)])


def _members(move: Mapping[str, Any], cause: Mapping[str, Any]) -> list[Any]:
    return [*_move(move), *(_debit(cause) if move["payment_id"] is None else _payment(cause))]


def _text(value: Any) -> str:
    """Write what JSON has no form for."""
    if isinstance(value, datetime):
        return rfc3339(value)
    if isinstance(value, UUID):
        return str(value)
    raise TypeError(f"{type(value).__name__} is in no row of the ledger")


_as_json = json.JSONEncoder(separators=(",", ":"), default=_text).encode


def _sha256(members: list[Any]) -> str:
    return hashlib.sha256(_as_json(members).encode()).hexdigest()

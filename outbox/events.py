"""What is announced: the events, their ids and their data, the same whether they are sent or looked up.

Called by the use cases and the lists. Opens no transaction and writes nothing.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Select, select

import rules
from banks.plain import PlainBank
from enums import EventType
from ledger.posting import Credit, Move
from models import CURRENCY, BalanceLog, Organization, Payment


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened; `data` is JSON, `version` the organisation's."""

    id: UUID
    type: str
    organization_id: int | None
    version: int | None
    data: str
    occurred_at: datetime


def credited(credit: Credit, move: Move) -> Event:
    """Return the event of a credit that was just posted."""
    facts = {**credit.facts._asdict(), "operation_id": credit.operation_id, "forward_id": None, "inn": credit.inn}
    return of_move({**facts, **vars(move), "created_at": credit.received_at})


def of_move(moved: Mapping[str, Any]) -> Event:
    """Return the event of a move, the same whenever it is asked for; moves_query() says what is needed."""
    return Event(
        id=event_id(EventType.CREDITED, moved["payment_id"]),
        type=EventType.CREDITED,
        organization_id=moved["organization_id"],
        version=moved["version"],
        data=json.dumps(credited_data(moved), ensure_ascii=False),
        occurred_at=moved["created_at"],
    )


def credited_data(moved: Mapping[str, Any]) -> dict[str, Any]:
    """Return the members of balance.credited; `forward_id` only where another Kopeck knows the operation under it."""
    forward_id = _forward_id(moved)
    handed_on = {} if forward_id == moved["operation_id"] else {"forward_id": str(forward_id)}
    return {
        "organization": moved["inn"],
        "version": moved["version"],
        "delta": moved["delta"],
        "balance_before": moved["balance_before"],
        "balance_after": moved["balance_after"],
        "currency": CURRENCY,
        "payment_id": str(moved["payment_id"]),
        "operation_id": str(moved["operation_id"]),
        "amount": moved["delta"],
        "source": moved["source"],
        "payer_inn": moved["payer_inn"],
        "document_number": moved["document_number"],
        "document_date": rules.rfc3339(moved["document_date"]),
        **handed_on,
    }


def _forward_id(moved: Mapping[str, Any]) -> UUID:
    """Return the operation under which a receiver that takes us for one bank knows a payment: each has its own.

    The plain bank's go on as they are. Another bank may use the same ids, so its payments go on under ours, which
    nobody can use up beforehand. What an older version has handed on under another id keeps that one.
    """
    is_plain = moved["source"] == PlainBank.name
    id_: UUID = moved["forward_id"] or moved["operation_id" if is_plain else "payment_id"]
    return id_


def ping(endpoint_id: int, *, ping_id: UUID, now: datetime) -> Event:
    """Return an event that says nothing but that the endpoint can be reached."""
    return Event(
        id=ping_id,
        type=EventType.PING,
        organization_id=None,
        version=None,
        data=json.dumps({"endpoint": endpoint_id}),
        occurred_at=now,
    )


def event_id(kind: EventType, cause: UUID) -> UUID:
    """Return the one id of the event of a kind that a payment caused, sorted by time as the payment's own (UUIDv7).

    Worked out and not drawn, so that an event has its id even if nobody listened when it happened.
    """
    digest = int.from_bytes(hashlib.sha256(f"{kind}:{cause}".encode()).digest()[:8])
    return UUID(int=cause.int >> 64 << 64 | 0b10 << 62 | digest >> 2)


def moves_query() -> Select[*tuple[Any, ...]]:
    """Select every move of every balance with what its event says."""
    return (
        select(
            BalanceLog.organization_id,
            BalanceLog.version,
            BalanceLog.delta,
            BalanceLog.balance_before,
            BalanceLog.balance_after,
            BalanceLog.payment_id,
            BalanceLog.created_at,
            Organization.inn,
            Payment.operation_id,
            Payment.forward_id,
            Payment.source,
            Payment.payer_inn,
            Payment.document_number,
            Payment.document_date,
        )
        .join(Payment, Payment.id == BalanceLog.payment_id)
        .join(Organization, Organization.id == BalanceLog.organization_id)
    )

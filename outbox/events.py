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

from sqlalchemy import Select, func, select

import rules
from banks.plain import PlainBank
from enums import EventType
from ledger.entries import Entry
from ledger.moves import Move
from models import CURRENCY, BalanceLog, Debit, Organization, Payment


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened; `data` is JSON, `version` the organisation's."""

    id: UUID
    type: str
    organization_id: int | None
    version: int | None
    data: str
    occurred_at: datetime


def posted(entry: Entry, move: Move) -> Event:
    """Return the event of a credit or a debit that was just posted."""
    known = {**entry.facts._asdict(), **entry.key.operation._asdict(), "forward_id": None, "inn": entry.inn}
    return of_move({**known, "operation_id": known["id"], **move._asdict(), "created_at": entry.moment})


def of_move(moved: Mapping[str, Any]) -> Event:
    """Return the event of a move, the same whenever it is asked for; moves_query() says what is needed."""
    is_debit = moved["payment_id"] is None
    kind = EventType.DEBITED if is_debit else EventType.CREDITED
    return Event(
        id=event_id(kind, cause_of(moved)),
        type=kind,
        organization_id=moved["organization_id"],
        version=moved["version"],
        data=json.dumps(debited_data(moved) if is_debit else credited_data(moved), ensure_ascii=False),
        occurred_at=moved["created_at"],
    )


def cause_of(moved: Mapping[str, Any]) -> UUID:
    """Return the id of what moved a balance, a payment or a debit; all of them sort by time."""
    id_: UUID = moved["payment_id"] or moved["debit_id"]
    return id_


def credited_data(moved: Mapping[str, Any]) -> dict[str, Any]:
    """Return the members of balance.credited; `forward_id` only where another Kopeck knows the operation under it."""
    forward_id = _forward_id(moved)
    handed_on = {} if forward_id == moved["operation_id"] else {"forward_id": str(forward_id)}
    return {
        **_moved_data(moved),
        "payment_id": str(moved["payment_id"]),
        "operation_id": str(moved["operation_id"]),
        "amount": moved["delta"],
        "source": moved["source"],
        "payer_inn": moved["payer_inn"],
        "document_number": moved["document_number"],
        "document_date": rules.rfc3339(moved["document_date"]),
        **handed_on,
    }


def debited_data(moved: Mapping[str, Any]) -> dict[str, Any]:
    """Return the members of balance.debited; what a person noted about it is not for others."""
    return {
        **_moved_data(moved),
        "debit_id": str(moved["debit_id"]),
        "operation_id": str(moved["operation_id"]),
        "amount": -moved["delta"],
        "source": moved["source"],
        "counter_account": moved["counter_account"],
    }


def _moved_data(moved: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "organization": moved["inn"],
        "version": moved["version"],
        "delta": moved["delta"],
        "balance_before": moved["balance_before"],
        "balance_after": moved["balance_after"],
        "currency": CURRENCY,
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
    """Return the one id of the event of a kind that a payment or debit caused, sorted by time as that one's (UUIDv7).

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
            BalanceLog.debit_id,
            BalanceLog.counter_account,
            BalanceLog.created_at,
            Organization.inn,
            func.coalesce(Payment.operation_id, Debit.operation_id).label("operation_id"),
            Payment.forward_id,
            func.coalesce(Payment.source, Debit.source).label("source"),
            Payment.payer_inn,
            Payment.document_number,
            Payment.document_date,
        )
        .outerjoin(Payment, Payment.id == BalanceLog.payment_id)
        .outerjoin(Debit, Debit.id == BalanceLog.debit_id)
        .join(Organization, Organization.id == BalanceLog.organization_id)
    )

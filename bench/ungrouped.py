"""Kopeck without group commit: each webhook in a transaction of its own, otherwise the same.

Served by `gunicorn bench.ungrouped:app`.
"""

from datetime import datetime

import ledger
import services
from app import create_app
from banks.base import Bank, Message
from database import transaction
from ledger import Credit
from rules import Facts
from services import Receipt


def receive(bank: Bank, message: Message, *, key_id: str, now: datetime, **_settings: str) -> Receipt:
    """Credit one webhook; the bench sends none that would have to be kept for a person."""
    credit = _credit(bank, message, key_id, now)
    with transaction() as session:
        (outcome,) = ledger.post(session, [credit])
    return Receipt(
        status=str(outcome.status),
        operation_id=credit.operation_id,
        payment_id=outcome.first.payment_id if outcome.first else None,
        incident_id=None,
    )


def _credit(bank: Bank, message: Message, key_id: str, now: datetime) -> Credit:
    announcement = bank.read(message)
    facts = Facts(
        source=bank.name,
        amount=announcement.amount,
        payer_inn=announcement.payer_inn,
        document_number=announcement.document_number,
        document_date=announcement.document_date,
    )
    return Credit(
        operation_id=announcement.operation_id,
        inn=announcement.payer_inn,
        facts=facts,
        external_id=announcement.external_id,
        body=message.body,
        key_id=key_id,
        received_at=now,
        may_create=True,
    )


services.receive = receive
app = create_app()

"""Kopeck without group commit: each webhook has its own transaction.

Served by `gunicorn bench.ungrouped:app`.
"""

from datetime import datetime

import services
from app import create_app
from banks.base import Bank, Message
from database.session import transaction
from enums import UnknownInn
from services import Receipt


def receive(
    bank: Bank, message: Message, *, key_id: str, message_id: str | None = None, unknown_inn: UnknownInn, now: datetime
) -> Receipt:
    """Receive one webhook like services.receive_webhook(). The bench sends no unreadable ones."""
    credit = services._read(bank, message, key_id=key_id, may_create=unknown_inn == "create", now=now)
    with transaction() as session:
        (receipt,) = services._take(session, [credit])
    return receipt


services.receive_webhook = receive
app = create_app()

"""The ceiling: Kopeck without a database. It checks signature and schema, and answers `credited`.

Only services.receive_webhook() is replaced, and what looks at the database beside it. Everything else is Kopeck itself,
so the ceiling follows every change.
Served by `gunicorn bench.ceiling:app`.
"""

from collections.abc import Callable
from datetime import datetime

import services
from app import create_app
from banks.base import Bank, Message
from database import checks
from database.columns import new_id
from enums import WebhookStatus
from ledger import overdue
from services import Receipt


def receive(bank: Bank, message: Message, *, now: datetime, **_settings: str | None) -> Receipt:
    """Read the body as Kopeck does, and invent the rest."""
    announcement = bank.announcement(message)
    return Receipt(
        status=WebhookStatus.CREDITED, operation_id=announcement.operation_id, payment_id=new_id(now), incident_id=None
    )


def report(*, clock: Callable[[], datetime]) -> None:
    """Look at no database when the server starts."""


def look(*, now: datetime) -> None:
    """Look at no inbox."""


services.receive_webhook = receive
checks.report, overdue.look = report, look
app = create_app()

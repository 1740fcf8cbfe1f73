"""Plain functions that make what tests need, with keyword overrides."""

import json
import uuid
from datetime import UTC, datetime

from sqlalchemy import URL

from config import Config
from encryption import SecretCipher
from ledger import organizations
from ledger.entries import Credit, Debit
from rules import Facts

SECRET = "b5e07a1c93d24f68a0c7be519d3f8214"
OLD_SECRET = "47d9c2e8510fb63a9e84d7c05b12f6a3"
SECRETS_KEY = "e93b70d5c81a4f26b7d05c9e2a64f813"
INN = "1234567890"
OTHER_INN = "7707083893"
KEY_ID = SecretCipher([SECRETS_KEY]).key_id(SECRET)
START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def make_config(url: URL, **overrides: str) -> Config:
    environ = {
        "DATABASE_URL": url.render_as_string(hide_password=False),
        "BANK_WEBHOOK_SECRETS": f"{SECRET},{OLD_SECRET}",
        "SECRETS_KEYS": SECRETS_KEY,
        **overrides,
    }
    return Config.from_env(environ)


def make_org(inn: str = INN, name: str = "Sample") -> str:
    organizations.register(inn=inn, name=name, now=START)
    return inn


def make_announcement(**overrides: object) -> dict[str, object]:
    return {
        "operation_id": str(uuid.uuid4()),
        "amount": 145000,
        "payer_inn": INN,
        "document_number": "PAY-328",
        "document_date": "2024-04-27T21:00:00Z",
        **overrides,
    }


def make_body(**overrides: object) -> bytes:
    return json.dumps(make_announcement(**overrides), ensure_ascii=False).encode()


def make_credit(
    *,
    inn: str = INN,
    amount: int = 100,
    operation_id: uuid.UUID | None = None,
    payer_inn: str | None = None,
    may_create: bool = True,
    received_at: datetime = START,
) -> Credit:
    facts = Facts(
        source="plain", amount=amount, payer_inn=payer_inn or inn, document_number="PAY-328", document_date=START
    )
    operation_id = operation_id or uuid.uuid4()
    return Credit(
        operation_id=operation_id,
        inn=inn,
        facts=facts,
        external_id=None,
        body=make_body(
            operation_id=str(operation_id), amount=amount, payer_inn=facts.payer_inn, document_date=START.isoformat()
        ),
        key_id="test",
        received_at=received_at,
        may_create=may_create,
    )


def make_debit(
    *,
    inn: str = INN,
    amount: int = 100,
    counter_account: str = "fees:shop",
    outside: bool = False,
    operation_id: uuid.UUID | None = None,
    source: str = "test",
) -> Debit:
    return Debit(
        operation_id=operation_id or uuid.uuid4(),
        source=source,
        inn=inn,
        amount=amount,
        counter_account=counter_account,
        outside=outside,
        note="commission",
        made_by="test",
        made_at=START,
    )

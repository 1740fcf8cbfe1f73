"""The usual way to write a credit: Flask, Flask-SQLAlchemy, marshmallow, and one ORM transaction for each request.

It uses the tables of Kopeck, so `flask ledger verify` can check the result. Served by `gunicorn bench.plain:app`.
"""

import hashlib
import hmac
import uuid
from datetime import UTC, datetime
from typing import Any

from flask import Flask, request
from marshmallow import EXCLUDE, Schema, ValidationError, fields, validate
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

import config
from database.columns import new_id
from database.extension import db
from models import EMPTY_LOG_SHA256, BalanceLog, Organization, Payment

settings = config.load()
SECRET = settings.bank_secrets["plain"][0]

app = Flask(__name__)
app.config["SQLALCHEMY_DATABASE_URI"] = settings.database_url
db.init_app(app)

Answer = tuple[dict[str, Any], int]


class CreditSchema(Schema):
    """The body of a bank's webhook."""

    class Meta:
        """Unknown fields are ignored."""

        unknown = EXCLUDE

    operation_id = fields.UUID(required=True)
    amount = fields.Integer(required=True, strict=True, validate=validate.Range(min=1))
    payer_inn = fields.String(required=True, validate=validate.Regexp(r"^(\d{10}|\d{12})$"))
    document_number = fields.String(required=True, validate=validate.Length(1, 50))
    document_date = fields.AwareDateTime(required=True)


schema = CreditSchema()

ACCOUNT = "bank:plain"
"""Made by the case, beforehand."""


@app.post("/api/v1/webhook/bank/")
def bank_webhook() -> Answer:
    """Check the signature and the body, then credit once."""
    body = request.get_data()
    signature = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(signature, request.headers.get("X-Signature", "")):
        return {"error": "bad signature"}, 401
    try:
        data = schema.load(request.get_json())
    except ValidationError as error:
        return {"errors": error.messages}, 400
    if db.session.scalar(select(Payment).where(Payment.operation_id == data["operation_id"])):
        return {"status": "duplicate", "operation_id": str(data["operation_id"])}, 200
    try:
        payment = credit(data, body)
        db.session.commit()
    except IntegrityError:
        db.session.rollback()
        return {"status": "duplicate", "operation_id": str(data["operation_id"])}, 200
    return {"status": "credited", "operation_id": str(data["operation_id"]), "payment_id": str(payment)}, 200


def credit(data: dict[str, Any], body: bytes) -> uuid.UUID:
    """Add the payment and its log row, change the balance, and return the payment's id."""
    now = datetime.now(UTC)
    organization = locked_organization(data["payer_inn"], now)
    payment = Payment(
        id=new_id(now),
        operation_id=data["operation_id"],
        source="plain",
        organization_id=organization.id,
        payer_inn=data["payer_inn"],
        amount=data["amount"],
        document_number=data["document_number"],
        document_date=data["document_date"],
        body=body,
        body_sha256=hashlib.sha256(body).hexdigest(),
        key_id="plain",
        received_at=now,
    )
    db.session.add(payment)
    db.session.flush()
    before = organization.balance
    organization.balance = before + data["amount"]
    organization.version += 1
    log = BalanceLog(
        organization_id=organization.id,
        version=organization.version,
        delta=data["amount"],
        balance_before=before,
        balance_after=organization.balance,
        payment_id=payment.id,
        reason="credit",
        created_at=now,
        counter_account=ACCOUNT,
        overdraft_limit=organization.overdraft_limit,
        # Not hashed by this one: bench/hashing.py does it before anything is verified.
        row_sha256=EMPTY_LOG_SHA256,
    )
    db.session.add(log)
    return payment.id


def locked_organization(inn: str, now: datetime) -> Organization:
    """Return the organisation under a lock. Create it if it does not exist."""
    organization = db.session.scalar(select(Organization).where(Organization.inn == inn).with_for_update())
    if organization is None:
        organization = Organization(inn=inn, created_at=now)
        db.session.add(organization)
        db.session.flush()
    return organization

"""The reference: what anybody's webhook costs in Flask. It checks an HMAC and a schema, and reads one row.

It imports nothing of Kopeck, stores nothing, writes no log, and knows no errors but one.
Served by `gunicorn --worker-class=gevent bench.flask_alone:app`, with what gunicorn does by itself.
"""

import hashlib
import hmac
import os
from typing import Any
from uuid import uuid4

from flask import Flask, request
from marshmallow import EXCLUDE, Schema, fields, validate
from sqlalchemy import create_engine, text


class Credit(Schema):
    """The body of a bank's webhook."""

    operation_id = fields.UUID(required=True)
    amount = fields.Integer(required=True, strict=True, validate=validate.Range(min=1))
    payer_inn = fields.String(required=True, validate=validate.Regexp(r"^(\d{10}|\d{12})$"))
    document_number = fields.String(required=True, validate=validate.Length(1, 50))
    document_date = fields.AwareDateTime(required=True)


SECRET = os.environ["BANK_WEBHOOK_SECRETS"].encode()
BALANCE = text("SELECT inn, balance, currency, version FROM organizations WHERE inn = :inn")
schema = Credit(unknown=EXCLUDE)
engine = create_engine(os.environ["DATABASE_URL"], pool_size=16)
app = Flask(__name__)


@app.post("/api/v1/webhook/bank/")
def bank_webhook() -> Any:
    """Believe the bank, and say so."""
    signature = hmac.new(SECRET, request.get_data(), hashlib.sha256).hexdigest()
    if not hmac.compare_digest(signature, request.headers.get("X-Signature", "")):
        return {"error": "bad signature"}, 401
    credit = schema.load(request.get_json())
    return {"status": "credited", "operation_id": credit["operation_id"], "payment_id": uuid4(), "incident_id": None}


@app.get("/api/v1/organizations/<inn>/balance/")
def balance(inn: str) -> Any:
    """Read the balance of one organisation."""
    with engine.connect() as connection:
        return dict(connection.execute(BALANCE, {"inn": inn}).one()._mapping)

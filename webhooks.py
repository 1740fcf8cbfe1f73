"""Door: every signed push that comes in from a bank.

Takes the raw body, has the bank prove itself, and hands over to services.receive_webhook() or, with queued updates, to
services.enqueue_webhook(). Never parses before that.
"""

from typing import Any

from flask import request
from flask_smorest import Blueprint
from werkzeug.datastructures import EnvironHeaders

import banks
import context
import services
from banks.base import Message
from enums import WebhookStatus
from ledger import overdue, receipts
from ledger.inbox import CONTENT_TYPE_CHARACTERS_MAX
from schemas import AcceptedAnswer, BankWebhook, WebhookAnswer
from server.body import read_body

HTTP_STATUS = {
    WebhookStatus.CREDITED: 200,
    WebhookStatus.DUPLICATE: 200,
    WebhookStatus.CONFLICT: 200,
    WebhookStatus.HELD: 202,
}
"""A 2xx means that the webhook is committed: counted, or kept for a person. The bank need not repeat it."""

ACCEPTED = {"status": WebhookStatus.ACCEPTED}
"""With BALANCE_UPDATES=queued: stored and committed, to be counted or kept for a person in a moment."""

DESCRIPTION = """Sign the raw body: `X-Signature` is the hex HMAC-SHA256 of its bytes. Standard Webhooks headers are
accepted instead. Repeat until a 2xx comes; repeats are counted once."""

DOCUMENTATION: dict[str, Any] = {
    "summary": "Announce money that has arrived",
    "description": DESCRIPTION,
    "security": [{"signature": []}],
    "requestBody": {"required": True, "content": {"application/json": {"schema": BankWebhook}}},
    "responses": {
        "200": {
            "description": "Credited, or repeated (`duplicate`), or repeated with other facts (`conflict`); "
            "only `accepted`, without more, where the company credits later (`BALANCE_UPDATES=queued`)",
            "content": {"application/json": {"schema": {"anyOf": [WebhookAnswer, AcceptedAnswer]}}},
        },
        "202": {
            "description": "Kept for a person to assign (`held`)",
            "content": {"application/json": {"schema": WebhookAnswer}},
        },
    },
}

Answer = tuple[dict[str, Any], int, dict[str, str]]

blueprint = Blueprint("webhooks", __name__, description="Signed pushes from banks")


@blueprint.route("/webhook/bank/<name>/", methods=["POST"])
@blueprint.route("/webhook/bank/", methods=["POST"], defaults={"name": "plain"})
@blueprint.doc(**DOCUMENTATION)
def bank_webhook(name: str) -> Answer:
    """Take a bank's announcement of money."""
    bank = banks.find(name)
    running = context.current()
    config, moment = running.settings, running.clock()
    message = read_message()
    secrets = config.bank_secrets[name]
    signature = bank.authenticate(message, secrets=secrets, now=moment)
    key_id = running.cipher.key_id(secrets[signature.key_position])
    if config.balance_updates == "queued":
        services.enqueue_webhook(
            bank,
            message,
            key_id=key_id,
            message_id=signature.message_id,
            unknown_inn=config.unknown_inn,
            now=moment,
        )
        overdue.look(now=moment)
        return ACCEPTED, 200, {}
    receipt = services.receive_webhook(
        bank, message, key_id=key_id, message_id=signature.message_id, unknown_inn=config.unknown_inn, now=moment
    )
    overdue.look(now=moment)
    return _answer(receipt), HTTP_STATUS[receipt.status], _receipt_header(receipt, config.seal_key)


def _answer(receipt: services.Receipt) -> dict[str, Any]:
    """Return a WebhookAnswer, made by hand: to have the schema make it costs more than to read the webhook's own."""
    return {
        "status": receipt.status,
        "operation_id": receipt.operation_id,
        "payment_id": receipt.payment_id,
        "incident_id": receipt.incident_id,
    }


def _receipt_header(receipt: services.Receipt, key: str | None) -> dict[str, str]:
    if key is None or receipt.recorded is None:
        return {}
    return {receipts.HEADER: receipts.line(receipt.operation_id, receipt.recorded, key=key)}


def read_message() -> Message:
    """Take the request as it arrived; a body over the limit ends here with 413."""
    environ = request.environ
    return Message(
        body=read_body(),
        headers=EnvironHeaders(environ),
        # Cut here and not when it is stored, so that a webhook is read the same whether it waits or not.
        content_type=environ.get("CONTENT_TYPE", "")[:CONTENT_TYPE_CHARACTERS_MAX],
    )

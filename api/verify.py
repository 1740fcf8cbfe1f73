"""REST: a dry run of the webhook door, for whoever is setting up a bank."""

from typing import Any

from flask_smorest import Blueprint

import banks
import services
from api.access import require
from api.parsing import READER
from context import cipher, now, settings
from enums import PreviewOutcome, WebhookStatus
from errors import SignatureRejected
from schemas import VerifyAnswer, WhichBank
from webhooks import HTTP_STATUS, read_message

ANYTHING = {"description": "The very bytes that the bank would send, whatever they are."}
NO_SIGNATURE = {"valid": False, "scheme": None, "key_id": None, "key_position": None, "age_seconds": None}

blueprint = Blueprint("verify", __name__, description="Try a webhook without sending it")
blueprint.ARGUMENTS_PARSER = READER


@blueprint.route("/webhooks/verify/", methods=["POST"])
@require("webhooks:verify", read_only=True)
@blueprint.arguments(WhichBank, location="query")
@blueprint.doc(requestBody={"content": {"application/json": {"schema": ANYTHING}}})
@blueprint.response(200, VerifyAnswer)
def verify_webhook(query: dict[str, Any]) -> dict[str, Any]:
    """Return whether the signature of this very request is good, and what the webhook door would do with it.

    Nothing is written.
    """
    bank, message = banks.find(query["bank"]), read_message()
    secrets = settings().bank_secrets[bank.name]
    try:
        signature = bank.authenticate(message, secrets=secrets, now=now())
    except SignatureRejected as error:
        refused = services.Preview(outcome=PreviewOutcome.REFUSED, refusal=error)
        return {"signature": {**NO_SIGNATURE, "reason": error.detail}, **_described(refused)}
    preview = services.preview(bank, message, unknown_inn=settings().unknown_inn)
    key_id = cipher().key_id(secrets[signature.key_position])
    return {"signature": {"valid": True, **vars(signature), "key_id": key_id, "reason": None}, **_described(preview)}


def _described(preview: services.Preview) -> dict[str, Any]:
    refusal = preview.refusal
    return {
        **vars(preview),
        "http_status": refusal.status if refusal else HTTP_STATUS[WebhookStatus(preview.outcome)],
        "errors": refusal.members.get("errors", []) if refusal else [],
    }

"""The plain bank: the JSON body of the design card, answered at the bare webhook path."""

from marshmallow import ValidationError

from banks.base import Announcement, Bank, Message
from errors import NotJson, UnusableBody
from schemas import BankWebhook
from strict_json import is_json, parse_json, problems

SHAPE = BankWebhook()
"""Made once: to make a schema costs more than to read a webhook with it."""


class PlainBank(Bank):
    """JSON with operation_id, amount in kopecks, payer_inn, document_number, document_date."""

    name = "plain"

    def read(self, message: Message) -> Announcement:
        """Read the five members; others are accepted and stay in the stored body."""
        if not is_json(message.content_type):
            raise NotJson
        try:
            members = SHAPE.load(parse_json(message.body))
        except ValidationError as error:
            raise UnusableBody(errors=problems(error.messages)) from None
        return Announcement(
            operation_id=members["operation_id"],
            amount=members["amount"],
            payer_inn=members["payer_inn"],
            document_number=members["document_number"],
            document_date=members["document_date"],
        )

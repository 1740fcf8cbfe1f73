"""The plain bank: the JSON body of the design card, answered at the bare webhook path."""

from uuid import UUID

from marshmallow import ValidationError

from banks.base import Announcement, Bank
from errors import NotJson, UnusableBody
from fields import UUID_TEXT
from schemas import BankWebhook, StoredBankWebhook
from strict_json import is_json, parse_json, problems

SHAPE, STORED_SHAPE = BankWebhook(), StoredBankWebhook()
"""Made once: to make a schema costs more than to read a webhook with it."""


class PlainBank(Bank):
    """JSON with operation_id, amount in kopecks, payer_inn, document_number, document_date."""

    name = "plain"
    operation_member = "operation_id"
    fact_members = tuple(sorted(SHAPE.fields.keys() - {operation_member}))

    def read(self, body: bytes, *, content_type: str) -> Announcement:
        """Read the five members; others are accepted and stay in the stored body."""
        if not is_json(content_type):
            raise NotJson
        return _read(body, SHAPE)

    def read_stored(self, body: bytes) -> Announcement:
        """Read a body again; older versions judged its date by the year as it is written, and not in UTC."""
        return _read(body, STORED_SHAPE)

    def operation_of(self, external_id: str) -> UUID | None:
        """Return the UUID in any of its spellings; this bank has no other ids."""
        return UUID(external_id) if UUID_TEXT.fullmatch(external_id) else None


def _read(body: bytes, shape: BankWebhook) -> Announcement:
    try:
        members = shape.load(parse_json(body))
    except ValidationError as error:
        raise UnusableBody(errors=problems(error.messages)) from None
    return Announcement(
        operation_id=members["operation_id"],
        amount=members["amount"],
        payer_inn=members["payer_inn"],
        document_number=members["document_number"],
        document_date=members["document_date"],
    )

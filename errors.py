"""The PaymentError family: whatever is refused, with its status, slug, title and words.

Raised by every layer; server/problems.py renders it for HTTP, cli/output.py for the shell.
Never quotes a caller's input, a driver's message or a provider's text.
"""

from collections.abc import Mapping
from typing import ClassVar

from limits import EXPORT_SECONDS, RETRY_AFTER_SECONDS

FieldProblem = Mapping[str, str]


class PaymentError(Exception):
    """Whatever a caller did that cannot be done; a subclass is status, slug, title and its usual words."""

    status: ClassVar[int]
    slug: ClassVar[str]
    title: ClassVar[str]
    words: ClassVar[str] = ""
    headers: ClassVar[Mapping[str, str]] = {}

    def __init__(self, detail: str = "", **members: object) -> None:
        self.detail = detail or self.words
        self.members = members
        super().__init__(self.detail)


class SignatureRejected(PaymentError):
    """The webhook is not proven to come from a bank we know; nothing of it was read."""

    status = 401
    slug = "signature-rejected"
    title = "The signature does not hold"
    headers: ClassVar[Mapping[str, str]] = {"WWW-Authenticate": 'Signature headers="X-Signature"'}


class SecretUnusable(PaymentError):
    """No secret of this bank fits the scheme of the signature: our setting is wrong, whatever the sender did."""

    status = 503
    slug = "secret-unusable"
    title = "Signatures of this kind cannot be verified here yet"
    words = "This server has no secret that fits this kind of signature. Nothing was read; send the same again later."
    headers: ClassVar[Mapping[str, str]] = {"Retry-After": str(RETRY_AFTER_SECONDS)}


class UnusableBody(PaymentError):
    """The body does not have the shape that is asked for; `errors` points at each field."""

    status = 400
    slug = "unusable-body"
    title = "The body cannot be used"
    words = "The fields in `errors` cannot be used."

    def __init__(self, detail: str = "", errors: list[FieldProblem] | None = None) -> None:
        self.errors = errors or [{"pointer": "#", "detail": detail or self.words}]
        super().__init__(detail, errors=self.errors)


class BrokenBody(PaymentError):
    """The body did not arrive whole, so there is nothing that could be verified."""

    status = 400
    slug = "broken-body"
    title = "The body did not arrive whole"


class NotJson(UnusableBody):
    """The Content-Type is another than the one this address reads."""

    status = 415
    slug = "not-json"
    title = "The content type is not JSON"
    words = "Send Content-Type: application/json."


class InvalidQuery(PaymentError):
    """A query parameter does not have the shape that is asked for."""

    status = 400
    slug = "invalid-query"
    title = "The query cannot be used"


class PageUnknown(PaymentError):
    """The cursor is not one that this list gave out."""

    status = 404
    slug = "page-unknown"
    title = "No such page"
    words = "The cursor is not one that this list gave out; begin again without one."


class BankUnknown(PaymentError):
    """The path names a bank that is not in the registry."""

    status = 404
    slug = "bank-unknown"
    title = "No such bank"
    words = "No bank of this name is known here; the bare path is the plain bank's."


class OrganizationUnknown(PaymentError):
    """No organisation has this INN."""

    status = 404
    slug = "organization-unknown"
    title = "No such organisation"
    words = "No organisation has this INN."


class OrganizationExists(PaymentError):
    """An organisation with this INN is registered already."""

    status = 409
    slug = "organization-exists"
    title = "The organisation is registered already"
    words = "An organisation with this INN is registered already."


class Overdraft(PaymentError):
    """The balance does not cover what is asked for, with what the organisation may owe."""

    status = 409
    slug = "overdraft"
    title = "The balance does not cover it"
    words = "The balance, with what the organisation may owe, does not cover this; nothing was changed."


class OverdraftInUse(PaymentError):
    """The organisation owes more than the new limit would let it."""

    status = 409
    slug = "overdraft-in-use"
    title = "More is owed already"
    words = "The organisation owes more than this limit would allow; nothing was changed."


class BalanceLimit(PaymentError):
    """A balance cannot become so low, or so high, that no column could hold it."""

    status = 409
    slug = "balance-limit"
    title = "No balance can become that"
    words = "No balance can become so low; nothing was changed."


class OperationUnknown(PaymentError):
    """No payment has this operation."""

    status = 404
    slug = "operation-unknown"
    title = "No such operation"
    words = "No payment of this source has this operation id."


class OperationTaken(PaymentError):
    """The id of the operation was used before, for something else."""

    status = 409
    slug = "operation-taken"
    title = "The operation id was used for something else"
    words = "Something else was recorded under this operation id before; nothing was changed."


class IncidentUnknown(PaymentError):
    """No incident has this number."""

    status = 404
    slug = "incident-unknown"
    title = "No such incident"
    words = "No incident has this number."


class IncidentNotOpen(PaymentError):
    """Somebody resolved the incident before."""

    status = 409
    slug = "incident-not-open"
    title = "The incident is resolved already"
    words = "Somebody resolved this incident before; nothing was changed."


class IncidentNotAssignable(PaymentError):
    """The incident does not hold money that could be credited, or not to this organisation."""

    status = 409
    slug = "incident-not-assignable"
    title = "The incident cannot be assigned"


class ExportTooLong(PaymentError):
    """Writing the whole statement took longer than an answer may be waited for; nothing of it was sent."""

    status = 422
    slug = "export-too-long"
    title = "The statement is too long for one answer"
    words = (
        f"It could not be written within {EXPORT_SECONDS} seconds. Ask for a shorter span with `from` and `to`, "
        "or have `flask ledger` write it, which takes as long as it needs."
    )


class ExportNotWritten(PaymentError):
    """The file of a statement could not be written here; nothing of it was sent."""

    status = 503
    slug = "export-not-written"
    title = "The statement could not be written"
    words = "The server could not write it into its temporary folder, where there may be no space. Nothing was sent."
    headers: ClassVar[Mapping[str, str]] = {"Retry-After": str(RETRY_AFTER_SECONDS)}


class EndpointUnknown(PaymentError):
    """No endpoint has this number, or it was deleted."""

    status = 404
    slug = "endpoint-unknown"
    title = "No such endpoint"
    words = "No endpoint has this number; it may have been deleted."


class EndpointRefused(PaymentError):
    """Events are not sent to this address; `detail` says why."""

    status = 403
    slug = "endpoint-refused"
    title = "Nothing is sent to this address"


class EndpointDisabled(PaymentError):
    """Nothing is sent to an endpoint that is disabled; enable it first."""

    status = 409
    slug = "endpoint-disabled"
    title = "The endpoint is disabled"
    words = "Nothing is sent to an endpoint that is disabled; enable it first."


class LimitReached(PaymentError):
    """There are as many as there may be; `detail` says of what."""

    status = 409
    slug = "limit-reached"
    title = "There are too many already"


class SecretUnreadable(PaymentError):
    """A stored secret cannot be decrypted."""

    status = 409
    slug = "secret-unreadable"
    title = "What is stored encrypted cannot be read"
    words = (
        "A stored secret cannot be decrypted: SECRETS_KEYS must still list the key that it was encrypted with; "
        "if it does, the stored text was changed, or belongs to another row."
    )


class DeliveryUnknown(PaymentError):
    """No delivery has this number."""

    status = 404
    slug = "delivery-unknown"
    title = "No such delivery"
    words = "No delivery has this number."


class DeliveryUnderWay(PaymentError):
    """A worker is trying this delivery at this moment."""

    status = 409
    slug = "delivery-under-way"
    title = "The delivery is being tried"
    words = "A worker is trying this delivery at this moment; look at its attempts."


class ReplayUnknown(PaymentError):
    """The endpoint has no replay of this number."""

    status = 404
    slug = "replay-unknown"
    title = "No such replay"
    words = "This endpoint has no replay of this number."


class KeyRefused(PaymentError):
    """The API key is missing, unknown or revoked."""

    status = 401
    slug = "key-refused"
    title = "An API key is needed"
    headers: ClassVar[Mapping[str, str]] = {"WWW-Authenticate": "Bearer"}


class ScopeMissing(PaymentError):
    """The API key is good, but not for this."""

    status = 403
    slug = "scope-missing"
    title = "The API key does not allow this"


class IdempotencyKeyInvalid(PaymentError):
    """The Idempotency-Key is not of the form that is asked for."""

    status = 400
    slug = "idempotency-key-invalid"
    title = "The Idempotency-Key cannot be used"
    words = "An Idempotency-Key has 1 to 255 visible ASCII characters, without spaces. A UUID is a good one."


class IdempotencyKeyReused(PaymentError):
    """The Idempotency-Key was used before, for another call or another body."""

    status = 409
    slug = "idempotency-key-reused"
    title = "The Idempotency-Key belongs to another call"
    words = "This API key has used this Idempotency-Key for another call or body; nothing was changed. Make a new one."


class IdempotencyKeyInUse(PaymentError):
    """The first call with this Idempotency-Key is not finished yet."""

    status = 409
    slug = "idempotency-key-in-use"
    title = "The first call with this Idempotency-Key is under way"
    words = "The first call with this Idempotency-Key is not finished yet. Send the same again."
    headers: ClassVar[Mapping[str, str]] = {"Retry-After": str(RETRY_AFTER_SECONDS)}


class LoopbackOnly(PaymentError):
    """A development server was reached from another machine."""

    status = 403
    slug = "loopback-only"
    title = "This server is in development"
    words = "In development only this machine is answered. Set KOPECK_ENV=production to serve others."


class DatabaseUnavailable(PaymentError):
    """The database did not answer or not in time; the same request may be sent again safely."""

    status = 503
    slug = "database-unavailable"
    title = "The database is not available"
    headers: ClassVar[Mapping[str, str]] = {"Retry-After": str(RETRY_AFTER_SECONDS)}


class SecretsUnreadable(PaymentError):
    """SECRETS_KEYS fit nothing that is stored; this process would store what no other can read."""

    status = 503
    slug = "secrets-unreadable"
    title = "SECRETS_KEYS do not fit the database"
    words = (
        "SECRETS_KEYS can read none of the secrets of endpoints that are in use: set the keys that they were stored "
        "with, the same for the server and all workers."
    )
    headers: ClassVar[Mapping[str, str]] = {"Retry-After": str(RETRY_AFTER_SECONDS)}


class TryAgain(PaymentError):
    """Two requests got in each other's way and this one gave in; nothing was changed."""

    status = 503
    slug = "try-again"
    title = "Send the same again"
    headers: ClassVar[Mapping[str, str]] = {"Retry-After": str(RETRY_AFTER_SECONDS)}


class Busy(PaymentError):
    """More webhooks are waiting than this process takes at once; nothing was stored."""

    status = 503
    slug = "busy"
    title = "Too many at once"
    words = "More webhooks are waiting here than are taken at once. Nothing was stored; send it again."
    headers: ClassVar[Mapping[str, str]] = {"Retry-After": str(RETRY_AFTER_SECONDS)}

"""The PaymentError family and the one renderer to application/problem+json (RFC 9457).

Raised by every layer, rendered here for the whole app, unknown paths and crashes included.
Never quotes a caller's input, a driver's message or a provider's text.
"""

import json
import logging
import traceback
from collections.abc import Mapping
from http import HTTPStatus
from typing import ClassVar

from flask import Flask, Response, g
from sqlalchemy import exc
from werkzeug.exceptions import HTTPException

from limits import BODY_BYTES_MAX, BODY_SECONDS, RETRY_AFTER_SECONDS

NOT_READY_STATES = ("42P01", "42S02", "42501")
"""SQLSTATEs of a table that does not exist (PostgreSQL, MariaDB) or may not be used yet (PostgreSQL)."""

OUR_FAULT_CLASSES = ("22", "23", "45")
"""Classes of SQLSTATE that speak of a value, of a constraint, or of one of our triggers."""

UNKNOWN_COLUMN_STATE = "42S22"

PROBLEM_TYPE = "application/problem+json"
WORDS_FOR_STATUS = {
    400: "The request cannot be understood.",
    404: "There is nothing at this address. Those that exist are shown at /api/v1/swagger/.",
    405: "This address exists, but not for this method; the Allow header lists those that work.",
    408: f"The body did not arrive within {BODY_SECONDS} seconds. Nothing was changed.",
    413: f"The body is larger than this server accepts; send at most {BODY_BYTES_MAX} bytes.",
    414: "The address is longer than this server accepts.",
}

log = logging.getLogger("kopeck")

FieldProblem = Mapping[str, str]


class PaymentError(Exception):
    """Whatever a caller did that cannot be done; a subclass is status, slug and title."""

    status: ClassVar[int]
    slug: ClassVar[str]
    title: ClassVar[str]
    headers: ClassVar[Mapping[str, str]] = {}

    def __init__(self, detail: str, **members: object) -> None:
        self.detail = detail
        self.members = members
        super().__init__(detail)


class SignatureRejected(PaymentError):
    """The webhook is not proven to come from a bank we know; nothing of it was read."""

    status = 401
    slug = "signature-rejected"
    title = "The signature does not hold"
    headers: ClassVar[Mapping[str, str]] = {"WWW-Authenticate": 'Signature headers="X-Signature"'}


class UnusableBody(PaymentError):
    """The body does not have the shape that is asked for; `errors` points at each field."""

    status = 400
    slug = "unusable-body"
    title = "The body cannot be used"

    def __init__(self, detail: str, errors: list[FieldProblem] | None = None) -> None:
        self.errors = errors or [{"pointer": "#", "detail": detail}]
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


class BankUnknown(PaymentError):
    """The path names a bank that is not in the registry."""

    status = 404
    slug = "bank-unknown"
    title = "No such bank"


class OrganizationUnknown(PaymentError):
    """No organisation has this INN."""

    status = 404
    slug = "organization-unknown"
    title = "No such organisation"


class OrganizationExists(PaymentError):
    """An organisation with this INN is registered already."""

    status = 409
    slug = "organization-exists"
    title = "The organisation is registered already"


class IncidentUnknown(PaymentError):
    """No incident has this number."""

    status = 404
    slug = "incident-unknown"
    title = "No such incident"


class IncidentNotOpen(PaymentError):
    """Somebody resolved the incident before."""

    status = 409
    slug = "incident-not-open"
    title = "The incident is resolved already"


class IncidentNotAssignable(PaymentError):
    """The incident does not hold money that could be credited, or not to this organisation."""

    status = 409
    slug = "incident-not-assignable"
    title = "The incident cannot be assigned"


class EndpointUnknown(PaymentError):
    """No endpoint has this number, or it was deleted."""

    status = 404
    slug = "endpoint-unknown"
    title = "No such endpoint"


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


class LimitReached(PaymentError):
    """There are as many as there may be; `detail` says of what."""

    status = 409
    slug = "limit-reached"
    title = "There are too many already"


class VaultClosed(PaymentError):
    """A stored secret cannot be decrypted; `detail` says which setting to look at."""

    status = 409
    slug = "vault-closed"
    title = "The secrets of this endpoint are locked"


class DeliveryUnknown(PaymentError):
    """No delivery has this number."""

    status = 404
    slug = "delivery-unknown"
    title = "No such delivery"


class DeliveryUnderWay(PaymentError):
    """A worker is trying this delivery at this moment."""

    status = 409
    slug = "delivery-under-way"
    title = "The delivery is being tried"


class ReplayUnknown(PaymentError):
    """The endpoint has no replay of this number."""

    status = 404
    slug = "replay-unknown"
    title = "No such replay"


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


class LoopbackOnly(PaymentError):
    """A development server was reached from another machine."""

    status = 403
    slug = "loopback-only"
    title = "This server is in development"


class DatabaseUnavailable(PaymentError):
    """The database did not answer or not in time; the same request may be sent again safely."""

    status = 503
    slug = "database-unavailable"
    title = "The database is not available"
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
    headers: ClassVar[Mapping[str, str]] = {"Retry-After": str(RETRY_AFTER_SECONDS)}


def is_unavailable(error: Exception) -> bool:
    """Tell whether a database error is one of its state, after which the same may be tried again safely.

    Deadlocks, time-outs, lost connections, a standby that only reads, a damaged file: the drivers agree on no one
    class for these, so all count but those that speak of our statement or our values. TimeoutError is a full pool.
    """
    if not isinstance(error, exc.DBAPIError):
        return isinstance(error, exc.TimeoutError)
    state = str(getattr(error.orig, "sqlstate", None) or "")
    if isinstance(error, exc.ProgrammingError):
        return state in NOT_READY_STATES
    # PyMySQL calls a broken CHECK and an unknown column "operational", too.
    ours = state.startswith(OUR_FAULT_CLASSES) or state == UNKNOWN_COLUMN_STATE
    return not ours and not isinstance(error, exc.IntegrityError | exc.DataError | exc.NotSupportedError)


def init_app(app: Flask) -> None:
    """Attach the renderer to the app."""
    app.register_error_handler(PaymentError, render)
    app.register_error_handler(HTTPException, _render_http)
    app.register_error_handler(Exception, _render_unexpected)


def render(error: PaymentError) -> Response:
    """Render one of our own errors."""
    members = {"detail": error.detail, **error.members}
    return _problem(error.status, f"urn:kopeck:problem:{error.slug}", error.title, members, error.headers)


def _render_http(error: HTTPException) -> Response | HTTPException:
    if error.code is None or error.code < 400:
        return error
    # get_headers() carries Allow and the like; the content type is ours.
    headers = {name: value for name, value in error.get_headers() if name.lower() != "content-type"}
    detail = WORDS_FOR_STATUS.get(error.code)
    return _problem(
        error.code, "about:blank", HTTPStatus(error.code).phrase, {"detail": detail} if detail else {}, headers
    )


def _render_unexpected(error: Exception) -> Response:
    return _render_unavailable(error) if is_unavailable(error) else _render_crash(error)


def _render_unavailable(error: Exception) -> Response:
    log_unavailable(f"request {g.get('request_id')}", error)
    return render(DatabaseUnavailable(f"Send the same again in {RETRY_AFTER_SECONDS} seconds; it is counted once."))


def _render_crash(error: Exception) -> Response:
    request_id = g.get("request_id")
    log_crash(f"request {request_id}", error)
    detail = "This is a fault of the server. Quote the request_id when you report it."
    return _problem(500, "about:blank", "Internal Server Error", {"detail": detail, "request_id": request_id}, {})


def log_crash(where: str, error: Exception) -> None:
    """Write what went wrong for a reason of ours, with its stack."""
    if isinstance(error, exc.DBAPIError):
        # Not its message: databases quote the values that they refuse, and with them what a bank sent.
        what = f"{type(error.orig).__name__} {getattr(error.orig, 'sqlstate', '')} in: {error.statement}"
        stack = "".join(traceback.format_tb(error.__traceback__))
        log.error("%s: unexpected database error, %s\n%s", where, what, stack)
    else:
        log.error("%s: unexpected error", where, exc_info=error)


def log_unavailable(where: str, error: Exception) -> None:
    """Write that the database is not available, in one line: it comes again and again for as long as it lasts."""
    reason = " ".join(str(getattr(error, "orig", None) or error).split())
    log.error("%s: database not available: %s", where, reason)


def _problem(status: int, kind: str, title: str, members: Mapping[str, object], headers: Mapping[str, str]) -> Response:
    body = json.dumps({"type": kind, "title": title, "status": status, **members}, ensure_ascii=False)
    return Response(f"{body}\n", status, dict(headers), content_type=PROBLEM_TYPE)

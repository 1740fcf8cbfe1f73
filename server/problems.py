"""Every error as application/problem+json (RFC 9457), for the whole app: unknown paths and crashes too.

Never quotes a caller's input, a driver's message or a provider's text.
"""

import json
from collections.abc import Mapping
from http import HTTPStatus

from flask import Flask, Response
from werkzeug.exceptions import HTTPException

from database.failures import is_unavailable, log_crash, log_unavailable
from errors import DatabaseUnavailable, PaymentError
from limits import BODY_BYTES_MAX, BODY_SECONDS, RETRY_AFTER_SECONDS
from server.hooks import request_id

PROBLEM_TYPE = "application/problem+json"


WORDS_FOR_STATUS = {
    400: "The request cannot be understood.",
    404: "There is nothing at this address. Those that exist are shown at /api/v1/swagger/.",
    405: "This address exists, but not for this method; the Allow header lists those that work.",
    408: f"The body did not arrive within {BODY_SECONDS} seconds. Nothing was changed.",
    413: f"The body is larger than this server accepts; send at most {BODY_BYTES_MAX} bytes.",
    414: "The address is longer than this server accepts.",
}


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
    log_unavailable(f"request {request_id()}", error)
    return render(DatabaseUnavailable(f"Send the same again in {RETRY_AFTER_SECONDS} seconds; it is counted once."))


def _render_crash(error: Exception) -> Response:
    log_crash(f"request {request_id()}", error)
    detail = "This is a fault of the server. Quote the request_id when you report it."
    return _problem(500, "about:blank", "Internal Server Error", {"detail": detail, "request_id": request_id()}, {})


def _problem(status: int, kind: str, title: str, members: Mapping[str, object], headers: Mapping[str, str]) -> Response:
    body = json.dumps({"type": kind, "title": title, "status": status, **members}, ensure_ascii=False)
    return Response(f"{body}\n", status, dict(headers), content_type=PROBLEM_TYPE)

"""How a door takes a request's body: whole and within bounds, or not at all.

Called by the doors before anything is verified or parsed.
"""

import re
from io import BytesIO

from flask import request
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge

from errors import BrokenBody
from limits import BODY_BYTES_MAX

LENGTH = re.compile(r"[0-9]{1,18}", re.ASCII)


def read_body() -> bytes:
    """Return the raw body; raise 413 when it is over BODY_BYTES_MAX, BrokenBody when it did not arrive whole.

    It may be read again: a call with an Idempotency-Key does.
    """
    environ = request.environ
    declared = environ.get("CONTENT_LENGTH") or ""
    try:
        if "HTTP_TRANSFER_ENCODING" in environ or not LENGTH.fullmatch(declared):
            return _read_by_flask()
        # By hand: Flask's way looks up its settings and wraps the stream, at half the cost of verifying a webhook.
        body: bytes = environ["wsgi.input"].read(_within_bounds(int(declared)))
    except (ClientDisconnected, OSError):
        raise BrokenBody("The body broke off, or its chunks cannot be read. Nothing was changed.") from None
    environ["wsgi.input"] = BytesIO(body)
    return _whole(body, int(declared))


def _read_by_flask() -> bytes:
    # Flask stops one byte above the limit, so that a chunked body that goes on is told from one that ends there.
    body = request.get_data()
    _within_bounds(len(body))
    return _whole(body, request.content_length)


def _whole(body: bytes, declared: int | None) -> bytes:
    if declared is not None and len(body) != declared:
        raise BrokenBody("The body is shorter than its Content-Length. Nothing was changed.")
    return body


def _within_bounds(length: int) -> int:
    if length > BODY_BYTES_MAX:
        raise RequestEntityTooLarge
    return length

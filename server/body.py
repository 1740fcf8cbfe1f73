"""How a door takes a request's body: whole and within bounds, or not at all.

Called by the doors before anything is verified or parsed.
"""

from flask import request
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge

from errors import BrokenBody
from limits import BODY_BYTES_MAX


def read_body() -> bytes:
    """Return the raw body; raise 413 when it is over BODY_BYTES_MAX, BrokenBody when it did not arrive whole."""
    declared = request.content_length
    if declared is not None and declared > BODY_BYTES_MAX:
        raise RequestEntityTooLarge
    try:
        # Flask stops one byte above the limit, so that a chunked body that goes on is told from one that ends there.
        # Kept, since a call with an Idempotency-Key reads it twice.
        body = request.get_data()
    except (ClientDisconnected, OSError):
        raise BrokenBody("The body broke off, or its chunks cannot be read. Nothing was changed.") from None
    if len(body) > BODY_BYTES_MAX:
        raise RequestEntityTooLarge
    if declared is not None and len(body) != declared:
        raise BrokenBody("The body is shorter than its Content-Length. Nothing was changed.")
    return body

"""What happens to every request before and after its door: a name, strangers refused, headers."""

import uuid

from flask import Flask, Response, g, request

from errors import LoopbackOnly
from http_client import this_machine

HEADERS = (
    ("X-Content-Type-Options", "nosniff"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
    ("X-Frame-Options", "DENY"),
    ("Cache-Control", "no-store"),
)


def init_app(app: Flask, *, this_machine_only: bool) -> None:
    """Attach the hooks to the app."""
    app.before_request(_name_request)
    if this_machine_only:
        app.before_request(_refuse_strangers)
    app.after_request(_add_headers)


def _name_request() -> None:
    g.request_id = str(uuid.uuid4())


def _refuse_strangers() -> None:
    """In development reads are open, so only this machine may read, and not by a name that a web page gave it."""
    reason = this_machine.stranger(request.environ)
    if reason:
        raise LoopbackOnly(f"{reason} {LoopbackOnly.words}")


def _add_headers(response: Response) -> Response:
    """Add the headers that the answer does not have yet."""
    present = {name.lower() for name, _ in response.headers}
    for name, value in (("X-Request-Id", g.get("request_id", "")), *HEADERS):
        if name.lower() not in present:
            response.headers.add(name, value)
    return response

"""What happens to every request before and after its door: a name, strangers refused, headers."""

import random
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from flask import Flask, request

from errors import LoopbackOnly
from http_client import this_machine
from server import REQUEST_ID

HEADERS = {
    "x-content-type-options": ("X-Content-Type-Options", "nosniff"),
    "content-security-policy": ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
    "x-frame-options": ("X-Frame-Options", "DENY"),
    "cache-control": ("Cache-Control", "no-store"),
}
"""What every answer says, unless its door says something else under that name."""


def init_app(app: Flask, *, this_machine_only: bool) -> None:
    """Attach the hooks to the app."""
    if this_machine_only:
        app.before_request(_refuse_strangers)
    app.wsgi_app = Envelope(app.wsgi_app)  # type: ignore[method-assign]


def request_id() -> str:
    """Return the id of the present request."""
    return str(request.environ.get(REQUEST_ID, "-"))


class Envelope:
    """Gives each request its id, and each answer its headers: below Flask, where that costs next to nothing."""

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Any:
        """Answer one request, as WSGI (PEP 3333) has it."""
        # A name and no secret: whoever has seen some of them can tell the next.
        environ[REQUEST_ID] = name = f"{random.getrandbits(128):032x}"

        def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            present = {header.lower() for header, _ in headers}
            missing = [pair for header, pair in HEADERS.items() if header not in present]
            return start_response(status, [*headers, ("X-Request-Id", name), *missing], *error)

        return self._app(environ, start)


def _refuse_strangers() -> None:
    """In development reads are open, so only this machine may read, and not by a name that a web page gave it."""
    reason = this_machine.stranger(request.environ)
    if reason:
        raise LoopbackOnly(f"{reason} {LoopbackOnly.words}")

"""Hooks for every request: access checks, response headers, and errors as a page or as JSON."""

from collections.abc import Iterable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from flask import Flask, Response, jsonify, request
from werkzeug.exceptions import HTTPException

from http_client import this_machine
from sandbox import context
from sandbox.errors import MESSAGES, GatewayError
from sandbox.pages import payer
from sandbox.validation import TooDeep

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

TOO_DEEP = "There was an error parsing the body"
"""The words of upstream's framework for a body that its parser gives up."""

HEADERS = {
    "X-XSS-Protection": "1; mode=block",
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}
"""Upstream sends the first three. Pages have their own policy and caching."""


def init_app(app: Flask) -> None:
    """Attach checks, headers and errors to the app."""
    app.wsgi_app = Prefixed(app.wsgi_app, context.settings_of(app).prefix)  # type: ignore[method-assign]
    app.before_request(refuse_strangers)
    app.before_request(refuse_other_sites)
    app.after_request(_add_headers)
    app.register_error_handler(GatewayError, render)
    app.register_error_handler(TooDeep, _render_too_deep)
    app.register_error_handler(HTTPException, _render_http)


class Prefixed:
    """A WSGI app whose links begin with a prefix, whether or not the proxy in front takes it off the path."""

    def __init__(self, app: "WSGIApplication", prefix: str) -> None:
        self._app = app
        self._prefix = prefix

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Answer a request."""
        path = environ.get("PATH_INFO", "")
        if self._prefix and f"{path}/".startswith(f"{self._prefix}/"):
            path = path.removeprefix(self._prefix)
        return self._app({**environ, "SCRIPT_NAME": self._prefix, "PATH_INFO": path}, start_response)


def wants_page() -> bool:
    """Return whether the client is a browser: only browsers accept text/html by name."""
    accepts = request.accept_mimetypes
    return "text/html" in request.headers.get("Accept", "") and accepts["text/html"] >= accepts["application/json"]


def refuse_strangers() -> None:
    """Answer this machine only, and only under its own names, because of DNS rebinding."""
    reason = None if context.settings().public else this_machine.stranger(request.environ)
    if reason:
        raise GatewayError("LOOPBACK_ONLY", 403, f"{reason} {MESSAGES['LOOPBACK_ONLY']}")


def refuse_other_sites() -> None:
    """Refuse requests that a page of another site has a browser send; programs send no Origin."""
    if request.method in ("GET", "HEAD", "OPTIONS"):
        return
    origin = request.headers.get("Origin")
    is_ours = origin is None or urlsplit(origin).netloc in (
        request.headers.get("Host"),
        urlsplit(context.settings().base_url).netloc,
    )
    if not is_ours or request.headers.get("Sec-Fetch-Site") == "cross-site":
        raise GatewayError("CROSS_SITE", 403)


def render(error: GatewayError) -> tuple[Response | str, int]:
    """Render a GatewayError: a page for a browser, JSON for a program."""
    return (payer.render_error(error) if wants_page() else jsonify(error.body())), error.status


def _render_too_deep(_error: TooDeep) -> tuple[Response | str, int]:
    return (payer.render_status(400) if wants_page() else jsonify({"detail": TOO_DEEP})), 400


def _render_http(error: HTTPException) -> HTTPException | tuple[Response | str, int, dict[str, str]]:
    status = error.code or 500
    if status < 400:
        return error
    headers = {name: value for name, value in error.get_headers() if name == "Allow"}
    # Upstream answers an unknown path with a page, also to programs.
    shown = payer.render_status(status) if wants_page() or status == 404 else jsonify({"detail": error.name})
    return shown, status, headers


def _add_headers(response: Response) -> Response:
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    return response

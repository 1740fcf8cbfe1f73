"""Hooks for every request: access checks, response headers, and errors as a page or as JSON."""

import re
from urllib.parse import urlsplit

from flask import Flask, Response, jsonify, request
from werkzeug.exceptions import HTTPException

from http_client import addresses
from sandbox import context
from sandbox.errors import GatewayError
from sandbox.pages import payer
from sandbox.validation import TooDeep

LOCAL_HOST = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:[0-9]+)?", re.ASCII)
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
    app.before_request(refuse_strangers)
    app.before_request(refuse_other_sites)
    app.after_request(_add_headers)
    app.register_error_handler(GatewayError, render)
    app.register_error_handler(TooDeep, _render_too_deep)
    app.register_error_handler(HTTPException, _render_http)


def wants_page() -> bool:
    """Return whether the client is a browser: only browsers accept text/html by name."""
    accepts = request.accept_mimetypes
    return "text/html" in request.headers.get("Accept", "") and accepts["text/html"] >= accepts["application/json"]


def refuse_strangers() -> None:
    """Answer this machine only, and only under its own names, because of DNS rebinding."""
    if context.settings().public:
        return
    host = request.headers.get("Host", "")
    by_own_name = LOCAL_HOST.fullmatch(host) or host == urlsplit(context.settings().base_url).netloc
    if not by_own_name or not addresses.is_loopback(request.remote_addr or ""):
        raise GatewayError("LOOPBACK_ONLY", 403)


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

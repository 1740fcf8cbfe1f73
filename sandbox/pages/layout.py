"""What all pages share: menu, language, static files, CSRF token, response headers."""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from flask import Blueprint, Response, after_this_request, current_app, g, request, url_for
from markupsafe import Markup, escape

from sandbox import context
from sandbox.errors import GatewayError
from sandbox.gateway.cards import TestCard
from sandbox.gateway.model import Invoice
from sandbox.pages import languages
from sandbox.pages.languages import Language

STATIC = Path(__file__).resolve().parents[1] / "static"
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "frame-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
LANGUAGE_SECONDS = 365 * 24 * 3600
TOKEN_COOKIE = "csrf_token"  # noqa: S105 - a name
TOKEN = re.compile(r"[A-Za-z0-9_-]{20,128}", re.ASCII)
PRINTABLE_ADDRESS = re.compile(r"[!-~]+", re.ASCII)
"""An address without spaces and control characters, which browsers would change."""

MENU = (
    ("pages.invoices", "nav.invoices"),
    ("pages.webhooks", "nav.webhooks"),
    ("pages.inbox", "nav.inbox"),
    ("pages.cards", "nav.cards"),
    ("pages.verify", "nav.verify"),
    ("bank.page", "nav.bank"),
    ("bank.storm", "nav.storm"),
)
"""Endpoints and their names; endpoints that this app does not have are left out."""

blueprint = Blueprint("pages", __name__, static_folder=STATIC, static_url_path="/sandbox/static")


@dataclass(frozen=True, kw_only=True)
class MenuItem:
    """One entry of the menu."""

    text: str
    url: str
    current: bool


@dataclass(frozen=True, kw_only=True)
class Shop:
    """The shop as the payer sees it; without `url` there is no safe link back to it."""

    name: str | None
    url: str | None


def current_language() -> Language:
    """Return the language of this request."""
    if "language" not in g:
        g.language = languages.requested_language(request)
    language: Language = g.language
    return language


def translate(key: str, **values: object) -> str:
    """Return a translation in the language of this request."""
    return current_language()(key, **values)


def translate_with_code(key: str, **values: str) -> Markup:
    """Return a translation as HTML, with its values marked as code."""
    template = Markup(escape(current_language().words[key]))  # noqa: S704 - escaped
    return template.format(**{name: Markup("<code>{}</code>").format(value) for name, value in values.items()})


def money(invoice: Invoice, minor: int | None = None) -> str:
    """Format an invoice's amount, or another amount in its currency."""
    return amount_text(invoice.amount if minor is None else minor, invoice.currency)


def amount_text(minor: int, currency: str) -> str:
    """Format minor units of a currency."""
    ours = context.settings().currency
    return current_language().money(minor, currency, ours.symbol if currency == ours.code else None)


def shop_of(invoice: Invoice) -> Shop:
    """Return the link back to a shop; only http and https addresses are used."""
    host = host_of(invoice.redirect_url)
    return Shop(name=host, url=invoice.redirect_url if host else None)


def form_token() -> str:
    """Return the CSRF token of this browser; a new one is also set as a cookie."""
    token = request.cookies.get(TOKEN_COOKIE, "")
    if TOKEN.fullmatch(token):
        return token
    if "form_token" not in g:
        g.form_token = secrets.token_urlsafe(32)
        after_this_request(_set_token)
    fresh: str = g.form_token
    return fresh


def check_token() -> None:
    """Raise CSRF_TOKEN_MISMATCH unless the form has the token of this browser's cookie."""
    cookie, given = request.cookies.get(TOKEN_COOKIE, ""), request.form.get("csrf_token", "")
    if not cookie or not hmac.compare_digest(cookie.encode(), given.encode()):
        raise GatewayError("CSRF_TOKEN_MISMATCH", 403)


def card_words(card: TestCard) -> dict[str, str]:
    """Return a test card for a template."""
    shape = (4, 6, 5) if len(card.number) == 15 else (4, 4, 4, 4, 4)
    parts, rest = [], card.number
    for length in shape:
        parts.append(rest[:length])
        rest = rest[length:]
    outcome_text = current_language().get(f"test.{card.title}", card.title)
    return {"number": " ".join(filter(None, parts)), "network": card.network, "outcome": outcome_text}


@blueprint.app_template_filter("translated")
def _translated(text: str) -> str:
    return current_language().text(text)


@blueprint.app_template_filter("clock_time")
def _clock_time(moment: datetime) -> str:
    return languages.clock_time(moment)


@blueprint.app_template_filter("full_time")
def _full_time(moment: datetime) -> str:
    return languages.full_time(moment)


@cache
def asset_version(name: str) -> str:
    """Return a short hash of a file, so that browsers may cache it forever."""
    return hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:10]


@blueprint.app_context_processor
def _template_values() -> dict[str, Any]:
    """Return what every template uses."""
    return {
        "t": current_language(),
        "with_code": translate_with_code,
        "money": money,
        "amount_text": amount_text,
        "asset": lambda name: url_for("pages.static", filename=name, v=asset_version(name)),
        "menu": _menu(),
        "languages": languages.NAMES,
        "in_language": _in_language,
        "here": "",
        "form_token": form_token,
    }


@blueprint.after_app_request
def _add_headers(response: Response) -> Response:
    if request.args.get(languages.PARAMETER) in languages.NAMES:
        _keep_language(response, request.args[languages.PARAMETER])
    if response.mimetype == "text/html":
        response.headers.setdefault("Content-Security-Policy", POLICY)
        response.headers.setdefault("Cache-Control", "no-store")
        response.headers.setdefault("Content-Language", current_language().code)
        response.vary.update(("Accept-Language", "Cookie"))
    elif request.endpoint == "pages.static" and "v" in request.args:
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
    return response


def _in_language(code: str, here: str) -> str:
    """Return the link to a page in another language; without `here` it is only a query, so it cannot leave the page."""
    kept = [(name, value) for name, value in request.args.items(multi=True) if name != languages.PARAMETER]
    return f"{here}?{urlencode([*kept, (languages.PARAMETER, code)])}"


def _menu() -> list[MenuItem]:
    own = request.endpoint or ""
    return [
        MenuItem(text=translate(key), url=url_for(endpoint), current=own == endpoint)
        for endpoint, key in MENU
        if endpoint in current_app.view_functions
    ]


def _keep_language(response: Response, code: str) -> None:
    _set_cookie(response, languages.COOKIE, code, max_age=LANGUAGE_SECONDS)


def _set_token(response: Response) -> Response:
    _set_cookie(response, TOKEN_COOKIE, g.form_token)
    return response


def _set_cookie(response: Response, name: str, value: str, max_age: int | None = None) -> None:
    # Lax, because a payer comes from the shop's site: with Strict each tab would get its own token.
    secure = context.settings().is_https
    response.set_cookie(name, value, max_age=max_age, httponly=True, samesite="Lax", secure=secure)


def host_of(address: str) -> str | None:
    """Return the host of an http or https address; None for any other address."""
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not host or not PRINTABLE_ADDRESS.fullmatch(address):
        return None
    return f"{host}:{port}" if port else host

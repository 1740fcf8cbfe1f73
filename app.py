"""create_app(): attach settings, database, errors, doors and commands; nothing else."""

import ipaddress
import re
import uuid
from pathlib import Path

from flask import Flask, Response, g, request
from flask_migrate import Migrate

import api
import banks
import cli
import config
import context
import errors
import limits
from context import Clock, wall_clock
from database import engine
from errors import LoopbackOnly

LOCAL_HOST = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:[0-9]+)?", re.ASCII)


def create_app(settings: config.Config | None = None, clock: Clock = wall_clock) -> Flask:
    """Build the app; without settings they are read from the environment and `.env`."""
    settings = settings or config.load()
    config.end_if(banks.problems(settings.bank_secrets))
    app = Flask(__name__, static_folder=None)
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.json.ensure_ascii = False  # type: ignore[attr-defined]
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    app.config["MAX_CONTENT_LENGTH"] = limits.BODY_BYTES_MAX + 1  # intake.py says why
    context.init_app(app, settings, clock)
    engine.init_app(app, settings.database_url)
    Migrate(app, engine.db, directory=str(Path(__file__).parent / "migrations"))
    errors.init_app(app)
    api.init_app(app)
    cli.init_app(app)
    app.before_request(_name_request)
    if not settings.production:
        app.before_request(_refuse_strangers)
    app.after_request(_add_headers)
    return app


def _name_request() -> None:
    g.request_id = str(uuid.uuid4())


def _refuse_strangers() -> None:
    """In development reads are open, so only this machine may read, and not by a name that a web page gave it."""
    by_own_name = LOCAL_HOST.fullmatch(request.headers.get("Host", ""))
    if "X-Forwarded-For" in request.headers or not by_own_name or not _is_loopback(request.remote_addr):
        raise LoopbackOnly("In development only this machine is answered. Set KOPECK_ENV=production to serve others.")


def _is_loopback(address: str | None) -> bool:
    try:
        return ipaddress.ip_address(address or "").is_loopback
    except ValueError:
        return False


def _add_headers(response: Response) -> Response:
    response.headers["X-Request-Id"] = g.get("request_id", "")
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Content-Security-Policy"] = api.page_policy(request.endpoint)
    response.headers.setdefault("Cache-Control", "no-store")
    return response

"""create_app(): a mock payment gateway and a mock bank to try a shop against; knows any shop only over HTTP.

Called by `flask --app sandbox run` and by tests, which hand in settings and a clock of their own.
"""

import time
from dataclasses import replace

import click
from flask import Flask

from sandbox import cli, context, control_api, hooks, worker
from sandbox import settings as configuration
from sandbox.bank import views
from sandbox.context import Clock, Pause, Sandbox, wall_clock
from sandbox.dialects import acquiremock
from sandbox.pages import payer
from sandbox.settings import Settings
from sandbox.store import Store

BODY_BYTES_MAX = 256 * 1024


def create_app(
    settings: Settings | None = None, clock: Clock = wall_clock, pause: Pause = time.sleep, *, work: bool | None = None
) -> Flask:
    """Build the app; without settings they are read from the environment and `.env`.

    `work` says whether a worker runs inside of this process; unless told otherwise it does when `flask run` serves it.
    """
    served = _as_flask_serves_it()
    settings = _fitted(settings or configuration.load(), served)
    app = Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = BODY_BYTES_MAX
    app.json.sort_keys = False  # type: ignore[attr-defined]
    sandbox = Sandbox(settings=settings, store=Store(settings.database), clock=clock, pause=pause)
    sandbox.store.prepare()
    context.init_app(app, sandbox)
    hooks.init_app(app)
    for part in (acquiremock, control_api, payer, views):
        app.register_blueprint(part.blueprint)
    app.cli.add_command(cli.group)
    if bool(served) if work is None else work:
        worker.start(app)
    return app


def _as_flask_serves_it() -> dict[str, object]:
    """Return host and port of a `flask run` that is loading the app; nothing when something else does."""
    running = click.get_current_context(silent=True)
    if running is None or running.info_name != "run":
        return {}
    return {name: running.params[name] for name in ("host", "port")}


def _fitted(given: Settings, served: dict[str, object]) -> Settings:
    """Take over the address that is really listened on; end the process if others could reach it unasked."""
    if not served:
        return given
    host, port = str(served["host"] or given.host), int(str(served["port"] or given.port))
    if not given.public and not configuration.is_loopback(host):
        raise SystemExit("The sandbox listens on this machine only; set SANDBOX_PUBLIC=yes to be reached by others.")
    is_default = given.base_url == f"http://127.0.0.1:{given.port}"
    base_url = f"http://127.0.0.1:{port}" if is_default else given.base_url
    return replace(given, host=host, port=port, base_url=base_url)

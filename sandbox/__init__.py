"""create_app(): a mock payment gateway and a mock bank for testing a shop. It knows any shop only over HTTP.

Tests pass their own settings and clock.
"""

import time
from dataclasses import replace

import click
from flask import Flask

from http_client import addresses
from sandbox import cli, context, control_api, hooks, worker
from sandbox import settings as configuration
from sandbox.bank import views
from sandbox.context import Clock, Pause, Sandbox, wall_clock
from sandbox.dialects import acquiremock
from sandbox.pages import payer
from sandbox.settings import Settings
from sandbox.store import Store
from sandbox.storm.background import BackgroundStorm

BODY_BYTES_MAX = 256 * 1024


def create_app(
    settings: Settings | None = None,
    clock: Clock = wall_clock,
    pause: Pause = time.sleep,
    *,
    work: bool | None = None,
    storm: BackgroundStorm | None = None,
) -> Flask:
    """Build the app; without `settings` they are read from the environment and `.env`.

    `work` decides whether a worker runs in this process. The default is yes under `flask run`, and no otherwise.
    `storm` runs the storms of the bank's page.
    """
    flask_run = _flask_run_options()
    settings = _fitted(settings or configuration.load(), flask_run)
    app = Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = BODY_BYTES_MAX
    app.json.sort_keys = False  # type: ignore[attr-defined]
    # Upstream redirects to the address without a last slash, or with one. Here both are answered.
    app.url_map.strict_slashes = False
    sandbox = Sandbox(
        settings=settings, store=Store(settings.database), clock=clock, pause=pause, storm=storm or BackgroundStorm()
    )
    sandbox.store.prepare()
    context.init_app(app, sandbox)
    hooks.init_app(app)
    for module in (acquiremock, control_api, payer, views):
        app.register_blueprint(module.blueprint)
    app.cli.add_command(cli.group)
    if bool(flask_run) if work is None else work:
        worker.start(app)
    return app


def _flask_run_options() -> dict[str, object]:
    """Return host and port of the `flask run` that is loading the app; empty if it is another program."""
    command = click.get_current_context(silent=True)
    if command is None or command.info_name != "run":
        return {}
    return {name: command.params[name] for name in ("host", "port")}


def _fitted(given: Settings, flask_run: dict[str, object]) -> Settings:
    """Use the address that `flask run` really listens on; exit if other machines could reach it unexpectedly."""
    if not flask_run:
        return given
    host, port = str(flask_run["host"] or given.host), int(str(flask_run["port"] or given.port))
    if not given.public and not addresses.is_loopback(host):
        raise SystemExit("The sandbox listens on this machine only; set SANDBOX_PUBLIC=yes to be reached by others.")
    is_default = given.base_url == f"http://127.0.0.1:{given.port}"
    base_url = f"http://127.0.0.1:{port}" if is_default else given.base_url
    return replace(given, host=host, port=port, base_url=base_url)

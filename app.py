"""create_app(): attach settings, database, errors, doors and commands; nothing else."""

from flask import Flask
from flask_migrate import Migrate

import api
import banks
import cli
import config
import context
import limits
from context import Clock, wall_clock
from database import extension, revisions, session
from server import hooks, problems
from worker import broker


def create_app(settings: config.Config | None = None, clock: Clock = wall_clock) -> Flask:
    """Build the app; without settings they are read from the environment and `.env`."""
    settings = settings or config.load()
    config.end_if(banks.problems(settings.bank_secrets))
    app = Flask(__name__, static_folder=None)
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.json.ensure_ascii = False  # type: ignore[attr-defined]
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    app.config["MAX_CONTENT_LENGTH"] = limits.BODY_BYTES_MAX + 1  # server/body.py says why
    context.init_app(app, settings, clock)
    extension.init_app(app, settings.database_url)
    Migrate(app, extension.db, directory=str(revisions.MIGRATIONS))
    problems.init_app(app)
    api.init_app(app)
    cli.init_app(app)
    _wake_workers(app, settings.broker_url)
    hooks.init_app(app, this_machine_only=not settings.production)
    return app


def _wake_workers(app: Flask, broker_url: str | None) -> None:
    """Have Celery's workers told after each commit; without a broker, Celery is not even imported."""
    if broker_url is not None:
        with app.app_context():
            session.after_commit(extension.db.engine, broker.new_notifier(broker_url).notify)

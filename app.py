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
from database import extension, revisions, session, urls
from ledger import seals
from server import hooks
from server import problems as answers
from worker import broker


def create_app(settings: config.Config | None = None, clock: Clock = wall_clock) -> Flask:
    """Build the app; without settings they are read from the environment and `.env`."""
    settings = settings or load_settings()
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
    answers.init_app(app)
    api.init_app(app)
    cli.init_app(app)
    _wake_workers(app, settings)
    hooks.init_app(app, this_machine_only=not settings.production)
    return app


def load_settings() -> config.Config:
    """Read the settings of this process, or end it with the list of all that is wrong with them, form and use."""
    return config.load(check=problems)


def problems(settings: config.Config) -> list[str]:
    """Ask each part that uses a setting whether it can; nothing is connected to."""
    return [
        *banks.problems(settings.bank_secrets),
        *urls.problems(settings.database_url),
        *broker.problems(settings.broker_url),
        *seals.problems(settings.seal_key),
    ]


def _wake_workers(app: Flask, settings: config.Config) -> None:
    """Have Celery's workers told after each commit; without a broker, Celery is not even imported."""
    if settings.broker_url is not None:
        with app.app_context():
            session.after_commit(
                extension.db.engine, broker.new_notifier(settings.broker_url, settings.ca_bundle).notify
            )

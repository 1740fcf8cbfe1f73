"""What a door may ask of the running app: its settings, the time, and the vault of its secrets.

Filled by create_app(); tests hand in a clock of their own and move it.
"""

from collections.abc import Callable
from datetime import UTC, datetime

from flask import Flask, current_app

from config import Config
from encryption import Vault
from worker.broker import Bell

Clock = Callable[[], datetime]


def wall_clock() -> datetime:
    """Return the present moment, aware and in UTC."""
    return datetime.now(UTC)


def init_app(app: Flask, config: Config, clock: Clock) -> None:
    """Remember the settings and the clock of this app."""
    app.extensions["kopeck"] = (config, clock, Vault(config.secrets_keys), Bell(config.broker_url))


def settings() -> Config:
    """Return the settings of the running app."""
    config: Config = current_app.extensions["kopeck"][0]
    return config


def now() -> datetime:
    """Return the present moment by the app's clock, aware and in UTC."""
    return clock()()


def clock() -> Clock:
    """Return the app's clock, for threads that stand outside of the app."""
    of_app: Clock = current_app.extensions["kopeck"][1]
    return of_app


def vault() -> Vault:
    """Return what locks and unlocks the secrets of endpoints."""
    locked: Vault = current_app.extensions["kopeck"][2]
    return locked


def bell() -> Bell:
    """Return what wakes Celery's workers after a commit."""
    of_app: Bell = current_app.extensions["kopeck"][3]
    return of_app

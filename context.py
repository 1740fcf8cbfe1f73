"""What a door may ask of the running app: its settings and the time.

Filled by create_app(); tests hand in a clock of their own and move it.
"""

from collections.abc import Callable
from datetime import UTC, datetime

from flask import Flask, current_app

from config import Config

Clock = Callable[[], datetime]


def wall_clock() -> datetime:
    """Return the present moment, aware and in UTC."""
    return datetime.now(UTC)


def init_app(app: Flask, config: Config, clock: Clock) -> None:
    """Remember the settings and the clock of this app."""
    app.extensions["kopeck"] = (config, clock)


def settings() -> Config:
    """Return the settings of the running app."""
    config: Config = current_app.extensions["kopeck"][0]
    return config


def now() -> datetime:
    """Return the present moment by the app's clock, aware and in UTC."""
    moment: datetime = current_app.extensions["kopeck"][1]()
    return moment

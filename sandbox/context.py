"""What views may ask of the running sandbox: settings, time, database, secret.

create_app() fills it. Tests pass their own clock and move it.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from flask import Flask, current_app

from sandbox.settings import Settings
from sandbox.store import Store
from sandbox.storm.background import BackgroundStorm

Clock = Callable[[], datetime]
Pause = Callable[[float], None]


def wall_clock() -> datetime:
    """Return the present moment, aware and in UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True, kw_only=True)
class Sandbox:
    """The state of one app; `wake_event` wakes a worker in the same process, `storm` is that of the bank's page."""

    settings: Settings
    store: Store
    clock: Clock = wall_clock
    pause: Pause = time.sleep
    wake_event: threading.Event = field(default_factory=threading.Event)
    storm: BackgroundStorm = field(default_factory=BackgroundStorm)


def init_app(app: Flask, sandbox: Sandbox) -> None:
    """Attach the state to the app."""
    app.extensions["sandbox"] = sandbox


def sandbox() -> Sandbox:
    """Return the state of the running app."""
    of_app: Sandbox = current_app.extensions["sandbox"]
    return of_app


def settings_of(app: Flask) -> Settings:
    """Return the settings of an app, also where none is running."""
    of_app: Sandbox = app.extensions["sandbox"]
    return of_app.settings


def settings() -> Settings:
    """Return the settings of the running app."""
    return sandbox().settings


def store() -> Store:
    """Return the database of the running app."""
    return sandbox().store


def now() -> datetime:
    """Return the present moment by the app's clock, aware and in UTC."""
    return sandbox().clock()


def webhook_secret() -> str:
    """Return the secret that the gateway signs with: the setting, or the one stored in the database."""
    return settings().webhook_secret or store().secret()

"""What a door may ask of the running sandbox: its settings, the time, its database, its secret.

Filled by create_app(); tests hand in a clock of their own and move it.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from flask import Flask, current_app

from sandbox.settings import Settings
from sandbox.store import Store

Clock = Callable[[], datetime]
Pause = Callable[[float], None]


def wall_clock() -> datetime:
    """Return the present moment, aware and in UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True, kw_only=True)
class Sandbox:
    """What belongs to one app; `bell` wakes the worker that runs in the same process."""

    settings: Settings
    store: Store
    clock: Clock = wall_clock
    pause: Pause = time.sleep
    bell: threading.Event = field(default_factory=threading.Event)


def init_app(app: Flask, sandbox: Sandbox) -> None:
    """Remember what belongs to this app."""
    app.extensions["sandbox"] = sandbox


def sandbox() -> Sandbox:
    """Return what belongs to the running app."""
    of_app: Sandbox = current_app.extensions["sandbox"]
    return of_app


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
    """Return what the gateway signs with: the setting, or what the database has held since its first start."""
    return settings().webhook_secret or store().secret()

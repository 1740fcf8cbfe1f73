"""What a door may ask of the running app: its settings, the time, and the cipher of its secrets.

Filled by create_app(); tests hand in a clock of their own and move it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from flask import Flask, current_app

from config import Config
from encryption import SecretCipher

Clock = Callable[[], datetime]
EXTENSION = "kopeck"


@dataclass(frozen=True, kw_only=True)
class Context:
    """What an app is run with."""

    settings: Config
    clock: Clock
    cipher: SecretCipher


def wall_clock() -> datetime:
    """Return the present moment, aware and in UTC."""
    return datetime.now(UTC)


def init_app(app: Flask, config: Config, clock: Clock) -> None:
    """Remember the settings and the clock of this app."""
    app.extensions[EXTENSION] = Context(settings=config, clock=clock, cipher=SecretCipher(config.secrets_keys))


def current() -> Context:
    """Return all of it at once, for whoever needs several parts."""
    context: Context = current_app.extensions[EXTENSION]
    return context


def settings() -> Config:
    """Return the settings of the running app."""
    return current().settings


def now() -> datetime:
    """Return the present moment by the app's clock, aware and in UTC."""
    return current().clock()


def clock() -> Clock:
    """Return the app's clock, for threads that stand outside of the app."""
    return current().clock


def cipher() -> SecretCipher:
    """Return what encrypts and decrypts the secrets of endpoints."""
    return current().cipher

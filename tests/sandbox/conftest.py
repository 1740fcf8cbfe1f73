"""A sandbox with a database and a clock of its own for each test, a payer, and a shop that hears its webhooks."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from sandbox import create_app
from sandbox.storm.background import BackgroundStorm
from tests.receivers import Receiver
from tests.sandbox.factories import Clock, make_settings
from tests.sandbox.payer import Payer
from tests.sandbox.scenes import make_scene


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make_app(tmp_path: Path, clock: Clock) -> Callable[..., Flask]:
    """Make apps on one database, with the settings that a test wants."""

    def make(*, storm: BackgroundStorm | None = None, **overrides: str) -> Flask:
        return create_app(make_settings(tmp_path, **overrides), clock, clock.pause, work=False, storm=storm)

    return make


@pytest.fixture
def app(make_app: Callable[..., Flask]) -> Flask:
    return make_app()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def payer(app: Flask, client: FlaskClient) -> Payer:
    return Payer(app, client)


@pytest.fixture
def shop() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def scene(payer, clock) -> dict[str, str]:
    return make_scene(payer, clock)

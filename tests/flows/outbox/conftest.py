"""An app whose endpoints may stand on this machine, and one that listens to everything."""

import pytest
from flask import Flask

from tests.listeners import subscribe


@pytest.fixture
def app(loopback_app) -> Flask:
    return loopback_app


@pytest.fixture
def endpoint_id(operator, receiver) -> int:
    return subscribe(operator, receiver.url)["id"]

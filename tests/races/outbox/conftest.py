"""The app of these tests, whose receivers stand on this machine."""

import pytest
from flask import Flask


@pytest.fixture
def app(make_app) -> Flask:
    return make_app(ENDPOINTS_ON_LOOPBACK="allow")

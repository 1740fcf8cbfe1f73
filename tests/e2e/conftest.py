"""The server of one module of tests."""

from collections.abc import Iterator

import pytest

from tests.e2e.server import served


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with served() as number:
        yield number

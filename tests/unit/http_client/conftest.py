"""receive, make_client, client; connects and listeners; authority and ca_bundle."""

import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from http_client.client import Client
from tests.unit.http_client.authority import Authority
from tests.unit.http_client.servers import OK, WITNESS, Receiver, Script, always


@pytest.fixture
def receive() -> Iterator[Callable[..., Receiver]]:
    receivers = []

    def start(script: Script | None = None, **how: object) -> Receiver:
        receivers.append(Receiver(script or always(OK), **how))
        return receivers[-1]

    yield start
    for receiver in receivers:
        receiver.close()


@pytest.fixture
def make_client() -> Iterator[Callable[..., Client]]:
    clients = []

    def make(**how: object) -> Client:
        clients.append(Client(**{"loopback_allowed": True, **how}))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def client(make_client) -> Client:
    return make_client()


@pytest.fixture
def connects() -> Iterator[list[object]]:
    WITNESS.connects = []
    yield WITNESS.connects
    WITNESS.connects = None


@pytest.fixture
def listeners() -> Iterator[list[socket.socket]]:
    """Listen on both loopback addresses, at the same port."""
    with socket.create_server(("127.0.0.1", 0)) as v4:
        listeners = [v4]
        with suppress(OSError):
            listeners.append(socket.create_server(("::1", v4.getsockname()[1]), family=socket.AF_INET6))
        yield listeners
        for listener in listeners:
            listener.close()


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def ca_bundle(authority, tmp_path) -> Path:
    """Return a PEM file with the tests' authority alone."""
    file = tmp_path / "authorities.pem"
    file.write_bytes(authority.pem())
    return file

"""Names that do not resolve and addresses that do not answer."""

import socket
import threading

import pytest

from http_client.connection import Unreachable
from limits import ADDRESS_ATTEMPTS_MAX
from tests.unit.http_client.servers import (
    PATIENCE_SECONDS,
    PUBLIC,
    answering,
    deaf,
)


@pytest.mark.parametrize("host", ["127.0.0.1", "customer.ru"])
def test_nobody_listening_is_said(host, make_client):
    client = make_client(resolve=answering("127.0.0.1"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(Unreachable, match="Nothing answers"):
            client.post(f"http://{host}:{free.getsockname()[1]}/", b"", {})


def test_next_address_is_tried_when_one_does_not_answer(receive, connects, make_client):
    receiver = receive()
    client = make_client(resolve=answering("127.0.0.2", "127.0.0.1"))

    assert client.post(f"http://customer.ru:{receiver.port}/", b"", {}).status == 200
    assert connects == [("127.0.0.2", receiver.port), ("127.0.0.1", receiver.port)]


def test_only_so_many_addresses_are_tried(connects, make_client):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        client = make_client(resolve=answering(*(f"127.0.0.{number}" for number in range(1, 100))))
        with pytest.raises(Unreachable):
            client.post(f"http://customer.ru:{free.getsockname()[1]}/", b"", {})

    assert len(connects) == ADDRESS_ATTEMPTS_MAX


def test_name_that_does_not_exist_is_said(connects, make_client):
    def unknown(host: str, port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with pytest.raises(Unreachable, match="cannot be resolved"):
        make_client(resolve=unknown).post("http://customer.ru/", b"", {})
    assert connects == []


def test_dns_that_does_not_answer_is_waited_for_no_longer_than_anything_else(connects, make_client):
    released = threading.Event()

    def silent(host: str, port: int) -> list[str]:
        released.wait(PATIENCE_SECONDS)
        return [PUBLIC]

    with pytest.raises(Unreachable, match=r"not resolved within 0\.2 seconds"):
        make_client(resolve=silent, seconds=0.2).post("http://customer.ru/", b"", {})
    released.set()
    assert connects == []


def test_host_that_accepts_no_connection_is_given_up(make_client):
    with deaf("127.0.0.1") as port, pytest.raises(Unreachable, match=r"No connection came about within 0\.2 seconds"):
        make_client(connect_seconds=0.2).post(f"http://127.0.0.1:{port}/", b"", {})


def test_address_that_accepts_no_connection_leaves_time_for_the_next(receive, make_client):
    receiver = receive()
    client = make_client(resolve=answering("127.0.0.2", "127.0.0.1"), connect_seconds=0.5)

    with deaf("127.0.0.2", receiver.port):
        assert client.post(f"http://customer.ru:{receiver.port}/", b"", {}).status == 200

"""Connections that are kept: used again while that is safe, and never for an answer that nobody asked for."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from http_client.connection import Unreachable
from limits import EXCERPT_BYTES_MAX
from tests.unit.http_client.servers import OK, PATIENCE_SECONDS, Connection, always, once


def test_connection_is_used_again(receive, client):
    receiver = receive()

    for _ in range(5):
        assert client.post(receiver.url, b"{}", {}).body == b"ok"
    assert receiver.accepted == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK,
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
    ],
)
def test_answer_of_any_shape_that_has_an_end_leaves_the_connection_open(answer, receive, client):
    receiver = receive(always(answer))

    assert {client.post(receiver.url, b"", {}).status for _ in range(2)} <= {200, 204}
    assert receiver.accepted == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\n\r\nok",
        OK + b"HTTP/1.1 500 Meant for the next\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_connection_that_has_no_future_is_not_used_again(answer, receive, client):
    receiver = receive(once(answer))

    assert [client.post(receiver.url, b"", {}).body for _ in range(2)] == [b"ok", b"ok"]
    assert receiver.accepted == 2


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\nConnection: close\r\n", b"HTTP/1.0 200 OK\r\n"])
def test_receiver_that_says_it_will_close_is_believed(head, receive, client):
    receiver = receive(always(head + b"Content-Length: 2\r\n\r\nok"))

    for _ in range(2):
        client.post(receiver.url, b"", {})
        receiver.wait_until_over()
    assert receiver.accepted == 2


def test_answer_that_comes_unasked_is_not_taken_for_that_of_the_next(receive, client):
    first_is_read, more_is_sent = threading.Event(), threading.Event()

    def script(connection: Connection) -> None:
        connection.take()
        connection.give(OK)
        first_is_read.wait(PATIENCE_SECONDS)
        connection.give(b"HTTP/1.1 500 Meant for the next\r\nContent-Length: 0\r\n\r\n")
        more_is_sent.set()

    receiver = receive(script)
    client.post(receiver.url, b"", {})
    first_is_read.set()
    assert more_is_sent.wait(PATIENCE_SECONDS)

    assert client.post(receiver.url, b"", {}).status == 200
    assert receiver.accepted == 2


def test_connection_that_was_closed_meanwhile_is_replaced_before_anything_is_sent(receive, client):
    receiver = receive(once(OK))

    for number in range(3):
        assert client.post(receiver.url, b"%d" % number, {}).body == b"ok"
        receiver.wait_until_over()

    assert [request[-1:] for request in receiver.requests] == [b"0", b"1", b"2"]
    assert receiver.accepted == 3


def test_request_that_may_have_arrived_is_never_sent_again(receive, client):
    def script(connection: Connection) -> None:
        connection.take()
        connection.give(OK)
        connection.take()

    receiver = receive(script)
    client.post(receiver.url, b"1", {})

    with pytest.raises(Unreachable, match="broke off"):
        client.post(receiver.url, b"2", {})
    receiver.wait_until_over()
    assert [request[-1:] for request in receiver.requests] == [b"1", b"2"]


def test_connection_that_has_served_long_enough_is_replaced(receive, make_client):
    receiver = receive()
    client = make_client(reuse_seconds=0)

    for _ in range(2):
        client.post(receiver.url, b"", {})
    assert receiver.accepted == 2


def test_only_so_many_connections_are_kept(receive, make_client):
    client = make_client(idle_connections_max=2)
    receivers = [receive() for _ in range(3)]
    for receiver in receivers:
        client.post(receiver.url, b"", {})

    receivers[0].wait_until_over()
    for receiver in reversed(receivers):
        client.post(receiver.url, b"", {})

    assert [receiver.accepted for receiver in receivers] == [2, 1, 1]


def test_closed_client_keeps_nothing(receive, make_client):
    receiver = receive()
    client = make_client()

    for _ in range(2):
        client.post(receiver.url, b"", {})
        client.close()
        receiver.wait_until_over()
    assert receiver.accepted == 2


def test_several_threads_get_each_its_own_answer(receive, client):
    def echo(connection: Connection) -> None:
        while True:
            body = connection.take()
            connection.give(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

    receiver = receive(echo)
    bodies = [b"%d" % number * (number % 50 + 1) for number in range(400)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda body: client.post(receiver.url, body, {}).body, bodies))

    assert answers == [body[:EXCERPT_BYTES_MAX] for body in bodies]
    assert receiver.accepted <= 8
    assert len(receiver.requests) == 400

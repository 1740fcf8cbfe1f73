"""What goes out and what comes back, over real sockets."""

import socket

import pytest

from http_client import client as http
from http_client.connection import Unreachable
from tests.unit.http_client.servers import (
    always,
)


def test_request_goes_out_whole_and_once(receive, client):
    receiver = receive()

    client.post(f"{receiver.url}?a=b", b'{"type":"payment.credited"}', {"Content-Type": "application/json"})

    assert receiver.requests == [
        b"POST /hook?a=b HTTP/1.1\r\n" + f"Host: 127.0.0.1:{receiver.port}\r\n".encode() + b"User-Agent: Kopeck\r\n"
        b"Accept-Encoding: identity\r\n"
        b"Content-Length: 27\r\n"
        b"Content-Type: application/json\r\n"
        b"\r\n"
        b'{"type":"payment.credited"}'
    ]


def test_large_body_goes_out_whole(receive, client):
    receiver = receive()
    body = bytes(range(256)) * 40_000

    client.post(receiver.url, body, {})

    assert receiver.requests[0].endswith(b"\r\n\r\n" + body)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-A", "a\r\nX-B: b"),
        ("X-A", "a\nb"),
        ("X-A\r\nX-B", "b"),
        ("X A", "b"),
        ("", "b"),
        ("X-A", "\x00"),
        ("X-A", "ю"),
    ],
)
def test_header_that_would_be_more_than_one_is_not_sent(name, value, receive, client):
    receiver = receive()

    with pytest.raises(ValueError, match="header"):
        client.post(receiver.url, b"", {name: value})
    assert receiver.accepted == 0


def test_answer_is_told_as_it_is(receive, client):
    receiver = receive(
        always(
            b"HTTP/1.1 429 Too Many\x1b[2J\x00\r\nRETRY-AFTER:  120 \r\nSet-Cookie: a=b\r\n"
            b"Content-Length: 4\r\n\r\nslow"
        )
    )

    answer = client.post(receiver.url, b"", {})

    assert (answer.status, answer.reason, answer.body) == (429, "Too Many[2J", b"slow")
    assert {answer.headers[name] for name in ("Retry-After", "retry-after", "RETRY-AFTER")} == {"120"}
    assert answer.headers.get("X-Absent") is None
    assert sorted(answer.headers) == ["content-length", "retry-after", "set-cookie"]
    assert len(answer.headers) == 3


def test_cookies_are_not_kept(receive, client):
    receiver = receive(always(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n"))

    for _ in range(2):
        client.post(receiver.url, b"", {})

    assert b"cookie" not in receiver.requests[1].lower()


def test_compressed_body_is_not_unpacked(receive, client):
    receiver = receive(
        always(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b\x08\x00")
    )

    assert client.post(receiver.url, b"", {}).body == b"\x1f\x8b\x08\x00"


def test_shell_may_post_to_any_address(receive):
    receiver = receive(always(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + b"a" * 5000))

    assert len(http.post(receiver.url, b"{}", {}).body) == 5000
    receiver.wait_until_over()


def test_shell_is_told_what_to_do_when_nobody_listens():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(Unreachable, match="make run"):
            http.post(f"http://127.0.0.1:{free.getsockname()[1]}/", b"", {})

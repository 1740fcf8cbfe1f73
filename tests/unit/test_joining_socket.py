"""An answer goes out in one packet: what is held back, what is not, and that nothing stays behind."""

import socket

import pytest
from gevent import socket as gevent_socket

from server.gunicorn_worker import MORE_FOLLOWS, JoiningSocket


class Recorder:
    """A socket that notes what it is asked."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []

    def sendall(self, piece: bytes, flags: int) -> None:
        self.calls.append((piece, flags))

    def setsockopt(self, *option: int) -> None:
        self.calls.append(("setsockopt", *option))


PUSH = ("setsockopt", socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def test_headers_wait_in_the_kernel_for_the_first_of_the_body_and_for_nothing_else():
    recorder = Recorder()
    client = JoiningSocket(recorder)

    for piece in (b"", b"headers", b"", b"body", b"more"):
        client.sendall(piece)
    client.end_answer()

    assert recorder.calls == [(b"headers", MORE_FOLLOWS), (b"body", 0), (b"more", 0)]
    assert MORE_FOLLOWS == socket.MSG_MORE


def test_headers_that_no_body_follows_are_pushed():
    recorder = Recorder()
    client = JoiningSocket(recorder)

    for piece in (b"headers", b""):
        client.sendall(piece)
    client.end_answer()

    assert recorder.calls == [(b"headers", MORE_FOLLOWS), PUSH]


def test_a_request_without_an_answer_pushes_nothing():
    recorder = Recorder()

    JoiningSocket(recorder).end_answer()

    assert recorder.calls == []


def test_nothing_waits_where_the_socket_has_no_such_flag():
    recorder = Recorder()

    JoiningSocket(recorder, first=0).sendall(b"headers")

    assert recorder.calls == [(b"headers", 0)]


@pytest.mark.parametrize("pieces", [[b"headers", b"body"], [b"headers"]])
def test_a_real_client_gets_everything(pieces):
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as reader:
        sender, _ = server.accept()
        with gevent_socket.socket(fileno=sender.detach()) as sender:
            client = JoiningSocket(sender)
            for piece in pieces:
                client.sendall(piece)
            client.end_answer()
        assert b"".join(iter(lambda: reader.recv(100), b"")) == b"".join(pieces)


def test_everything_else_is_the_socket_s_own():
    with socket.socket() as sock:
        assert JoiningSocket(sock).fileno() == sock.fileno()

"""Connections that die: what is sent once more, what never is, and whether a caller can know that nothing was read."""

import socket
import struct
import threading
from collections.abc import Callable

import pytest

from http_client import addresses
from http_client.connection import AddressRefused, Connection, ConnectionLost, Deadline, Unreachable
from http_client.request import build_request
from tests.unit.http_client import servers
from tests.unit.http_client.authority import secure_url
from tests.unit.http_client.servers import OK, PATIENCE_SECONDS, answering, once

IDEMPOTENT = ["GET", "HEAD", "PUT", "DELETE"]
OTHERS = ["POST", "PATCH"]

End = Callable[[servers.Connection], None]


def close(connection: servers.Connection) -> None:
    """Let the server close: what ends is the script."""


def reset(connection: servers.Connection) -> None:
    """Let the kernel send RST instead of FIN."""
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def half_close(connection: servers.Connection) -> None:
    """Say that nothing more will come, and go on reading until the client has had enough."""
    socket.socket.shutdown(connection.sock, socket.SHUT_WR)
    connection.receiver.half_closed.set()
    while True:
        connection.take()


ENDS = [close, reset, half_close]


def answer_to(request: bytes) -> bytes:
    return OK[:-2] if request.startswith(b"HEAD") else OK


def serve(connection: servers.Connection) -> None:
    while True:
        connection.take()
        connection.give(answer_to(connection.receiver.requests[-1]))


def dying(end: End, *, idle: bool) -> servers.Script:
    """Answer once on the first connection and end it, at once or at its second request; serve well on the others."""

    def script(connection: servers.Connection) -> None:
        if connection.receiver.accepted > 1:
            serve(connection)
        connection.take()
        connection.give(OK)
        if idle:
            # A reset would take away an answer that is still on its way.
            connection.receiver.first_is_read.wait(PATIENCE_SECONDS)
        else:
            connection.take()
        end(connection)

    return script


@pytest.fixture(params=["http", "https"])
def open_to(request, receive, make_client, authority, ca_bundle, tmp_path):
    """Return a server that plays a script, its URL, and a client that holds a connection to it."""

    def start(script: servers.Script):
        tls = authority.context_for("bank.ru", tmp_path) if request.param == "https" else None
        receiver = receive(script, tls=tls)
        receiver.half_closed, receiver.first_is_read = threading.Event(), threading.Event()
        client = make_client(resolve=answering("127.0.0.1"), ca_bundle=ca_bundle)
        url = secure_url(receiver, "bank.ru") if tls else receiver.url
        assert client.request("GET", url).body == b"ok"
        receiver.first_is_read.set()
        return receiver, url, client

    return start


@pytest.mark.parametrize("method", [*IDEMPOTENT, *OTHERS])
@pytest.mark.parametrize("end", ENDS)
def test_connection_that_ended_while_idle_is_replaced_before_anything_is_sent(end, method, open_to):
    receiver, url, client = open_to(dying(end, idle=True))
    if end is half_close:
        assert receiver.half_closed.wait(PATIENCE_SECONDS)
    else:
        receiver.wait_until_over()

    assert client.request(method, url).status == 200
    assert (receiver.accepted, len(receiver.requests)) == (2, 2)


@pytest.mark.parametrize("method", OTHERS)
@pytest.mark.parametrize("end", ENDS)
def test_payment_that_may_have_been_read_arrives_once(end, method, open_to):
    receiver, url, client = open_to(dying(end, idle=False))

    with pytest.raises(ConnectionLost, match="broke off") as caught:
        client.request(method, url, form={"amount": 145000})
    receiver.wait_until_over()

    assert caught.value.maybe_sent
    assert receiver.accepted == 1
    assert sum(b"amount=145000" in request for request in receiver.requests) == 1


@pytest.mark.parametrize("method", IDEMPOTENT)
@pytest.mark.parametrize("end", ENDS)
def test_what_may_arrive_twice_is_tried_once_more_on_a_new_connection(end, method, open_to):
    receiver, url, client = open_to(dying(end, idle=False))

    assert client.request(method, url).status == 200
    assert receiver.accepted == 2
    assert [request.split(b" ")[0].decode() for request in receiver.requests] == ["GET", method, method]


@pytest.mark.parametrize("end", [close, reset])
def test_new_connection_is_not_tried_twice(end, receive, client):
    def script(connection: servers.Connection) -> None:
        connection.take()
        end(connection)

    receiver = receive(script)

    with pytest.raises(ConnectionLost):
        client.request("GET", receiver.url)
    assert (receiver.accepted, len(receiver.requests)) == (1, 1)


def test_second_try_is_the_last(receive, client):
    def script(connection: servers.Connection) -> None:
        connection.take()
        if connection.receiver.accepted == 1:
            connection.give(OK)
            connection.take()

    receiver = receive(script)
    client.request("GET", receiver.url)

    with pytest.raises(ConnectionLost):
        client.request("GET", receiver.url)
    assert (receiver.accepted, len(receiver.requests)) == (2, 3)


def test_answer_that_has_begun_is_not_asked_for_again(receive, client):
    def script(connection: servers.Connection) -> None:
        connection.take()
        connection.give(OK)
        connection.take()
        connection.give(b"H")

    receiver = receive(script)
    client.request("GET", receiver.url)

    with pytest.raises(Unreachable, match="broke off"):
        client.request("GET", receiver.url)
    assert (receiver.accepted, len(receiver.requests)) == (1, 2)


def test_both_attempts_share_one_limit_of_time(receive, make_client):
    def script(connection: servers.Connection) -> None:
        connection.take()
        if connection.receiver.accepted == 1:
            connection.give(OK)
            connection.take()
        connection.receiver.ended.wait(0.6)
        if connection.receiver.accepted > 1:
            connection.give(OK)

    receiver = receive(script)
    client = make_client(seconds=1)
    client.request("GET", receiver.url)

    with pytest.raises(Unreachable, match="within 1 seconds"):
        client.request("GET", receiver.url)
    assert receiver.accepted == 2


def test_second_try_that_sends_nothing_does_not_hide_the_first(receive, make_client):
    found = [["127.0.0.1"], ["10.0.0.1"]]
    receiver = receive(dying(close, idle=False))
    client = make_client(resolve=lambda host, port: found.pop(0))
    url = f"http://bank.ru:{receiver.port}/"
    client.request("GET", url)

    with pytest.raises(AddressRefused) as caught:
        client.request("PUT", url)
    assert caught.value.maybe_sent


# ---- Whether anything can have been read


def test_refused_address_was_sent_nothing(make_client):
    for url in ("http://10.0.0.1/", "http://a b/"):
        with pytest.raises(AddressRefused) as caught:
            make_client().request("POST", url)
        assert not caught.value.maybe_sent


def test_name_that_is_not_resolved_was_sent_nothing(make_client):
    def unknown(host: str, port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    released = threading.Event()
    for resolve in (unknown, lambda host, port: [str(released.wait(PATIENCE_SECONDS))]):
        with pytest.raises(Unreachable, match="resolved") as caught:
            make_client(resolve=resolve, seconds=0.2).request("POST", "http://bank.ru/")
        assert not caught.value.maybe_sent
    released.set()


def test_address_where_nobody_listens_was_sent_nothing(client):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(Unreachable, match="Nothing answers") as caught:
            client.request("POST", f"http://127.0.0.1:{free.getsockname()[1]}/")
    assert not caught.value.maybe_sent


def test_server_with_a_bad_certificate_was_sent_nothing(receive, make_client, authority, tmp_path):
    receiver = receive(tls=authority.context_for("bank.ru", tmp_path))

    with pytest.raises(Unreachable, match="certificate") as caught:
        make_client(resolve=answering("127.0.0.1")).request("POST", secure_url(receiver, "bank.ru"))
    assert not caught.value.maybe_sent
    assert receiver.requests == []


@pytest.mark.parametrize(
    "answer", [b"", b"H", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", b"nonsense\r\n\r\n", OK * 9]
)
def test_server_that_answered_badly_may_have_read(answer, receive, make_client):
    receiver = receive(once(answer.replace(b": 2", b": 200")))

    with pytest.raises(Unreachable) as caught:
        make_client(answer_bytes_max=10, truncate=False).request("POST", receiver.url)
    assert caught.value.maybe_sent


def test_server_that_does_not_answer_in_time_may_have_read(receive, make_client):
    receiver = receive(lambda connection: connection.receiver.ended.wait(PATIENCE_SECONDS))

    with pytest.raises(Unreachable, match="within") as caught:
        make_client(seconds=0.2).request("POST", receiver.url)
    assert caught.value.maybe_sent


@pytest.mark.parametrize(("seconds", "kind"), [(PATIENCE_SECONDS, ConnectionLost), (-1, Unreachable)])
def test_connection_that_took_no_byte_was_sent_nothing(seconds, kind):
    request = build_request("POST", addresses.split("http://bank.ru/"), body=b"{}")
    ours, theirs = socket.socketpair()
    theirs.close()
    connection = Connection(ours)

    with pytest.raises(kind) as caught:
        connection.exchange(request, Deadline(seconds), bytes_max=10, truncate=True)
    assert not caught.value.maybe_sent
    connection.close()


def test_connection_that_took_half_may_have_been_read():
    request = build_request("POST", addresses.split("http://bank.ru/"), body=b"a" * 50_000_000)
    ours, theirs = socket.socketpair()
    connection = Connection(ours)
    reader = threading.Thread(target=lambda: (theirs.recv(1000), theirs.close()))
    reader.start()

    with pytest.raises(ConnectionLost) as caught:
        connection.exchange(request, Deadline(PATIENCE_SECONDS), bytes_max=10, truncate=True)
    assert caught.value.maybe_sent
    reader.join()
    connection.close()


def test_long_request_that_tls_could_not_send_whole_may_have_been_read(
    receive, make_client, authority, ca_bundle, tmp_path
):
    def read_a_little(connection):
        connection.sock.recv(200)
        connection.receiver.ended.wait(PATIENCE_SECONDS)

    receiver = receive(read_a_little, tls=authority.context_for("bank.ru", tmp_path))
    client = make_client(resolve=lambda *_: ["127.0.0.1"], ca_bundle=ca_bundle, seconds=1)

    with pytest.raises(Unreachable) as caught:
        client.request("POST", f"https://bank.ru:{receiver.port}/pay", body=b"a" * 8_000_000)
    assert caught.value.maybe_sent

"""Certificates and handshakes, with an authority of the tests' own."""

from contextlib import nullcontext

import pytest

from http_client.client import Client
from http_client.connection import Unreachable
from http_client.dialer import trust
from tests.unit.http_client.authority import secure_url
from tests.unit.http_client.servers import OK, PATIENCE_SECONDS, Connection, answering, once


def test_good_certificate_is_accepted_and_the_connection_kept(authority, receive, make_client, ca_bundle, tmp_path):
    tls = authority.context_for("customer.ru", tmp_path)
    asked_for = []
    tls.sni_callback = lambda sock, name, context: asked_for.append(name)
    receiver = receive(tls=tls)
    client = make_client(ca_bundle=ca_bundle, resolve=answering("127.0.0.1"))

    for host in ("customer.ru", "CUSTOMER.ru."):
        assert client.post(secure_url(receiver, host), b"{}", {}).body == b"ok"
    assert receiver.accepted == 1
    assert asked_for == ["customer.ru"]
    assert f"Host: customer.ru:{receiver.port}\r\n".encode() in receiver.requests[0]


def test_certificate_may_be_for_an_address(authority, receive, make_client, ca_bundle, tmp_path):
    receiver = receive(tls=authority.context_for("127.0.0.1", tmp_path))

    assert make_client(ca_bundle=ca_bundle).post(receiver.url, b"", {}).status == 200


def test_certificate_for_another_host_is_refused(authority, receive, make_client, ca_bundle, tmp_path):
    receiver = receive(tls=authority.context_for("other.ru", tmp_path))

    with pytest.raises(Unreachable, match="certificate"):
        make_client(ca_bundle=ca_bundle, resolve=answering("127.0.0.1")).post(
            secure_url(receiver, "customer.ru"), b"", {}
        )
    assert receiver.requests == []


def test_certificate_from_nobody_known_is_refused(authority, receive, make_client, tmp_path):
    receiver = receive(tls=authority.context_for("customer.ru", tmp_path))

    with pytest.raises(Unreachable, match="certificate"):
        make_client(resolve=answering("127.0.0.1")).post(secure_url(receiver, "customer.ru"), b"", {})
    assert receiver.requests == []


def test_secure_connection_that_was_closed_meanwhile_is_replaced(authority, receive, make_client, ca_bundle, tmp_path):
    receiver = receive(once(OK), tls=authority.context_for("customer.ru", tmp_path))
    client = make_client(ca_bundle=ca_bundle, resolve=answering("127.0.0.1"))

    for _ in range(2):
        assert client.post(secure_url(receiver, "customer.ru"), b"{}", {}).status == 200
        receiver.wait_until_over()
    assert (receiver.accepted, len(receiver.requests)) == (2, 2)


def test_answer_that_trickles_through_tls_is_cut_off(authority, receive, make_client, ca_bundle, tmp_path):
    def script(connection: Connection) -> None:
        connection.take()
        connection.trickle(b"HTTP/1.1 200 OK\r\nX-A: ")

    receiver = receive(script, tls=authority.context_for("customer.ru", tmp_path))

    with pytest.raises(Unreachable, match=r"within 0\.5 seconds"):
        make_client(ca_bundle=ca_bundle, resolve=answering("127.0.0.1"), seconds=0.5).post(
            secure_url(receiver, "customer.ru"), b"", {}
        )
    receiver.wait_until_over()


@pytest.mark.parametrize(
    ("truncate", "is_ended", "is_believed"), [(True, False, True), (False, True, True), (False, False, False)]
)
def test_body_that_only_the_end_of_the_connection_ends_must_be_ended_by_tls_where_half_would_do_harm(
    truncate, is_ended, is_believed, authority, receive, make_client, ca_bundle, tmp_path
):
    def script(connection: Connection) -> None:
        connection.take()
        connection.give(b"HTTP/1.1 200 OK\r\n\r\nok")
        if is_ended:
            connection.sock.unwrap()

    receiver = receive(script, tls=authority.context_for("customer.ru", tmp_path))
    client = make_client(ca_bundle=ca_bundle, resolve=answering("127.0.0.1"), truncate=truncate)

    with nullcontext() if is_believed else pytest.raises(Unreachable, match="broke off"):
        assert client.request("GET", secure_url(receiver, "customer.ru")).body == b"ok"


def test_handshake_that_gets_no_answer_is_given_up(receive, make_client):
    receiver = receive(lambda connection: connection.receiver.ended.wait(PATIENCE_SECONDS))

    with pytest.raises(Unreachable, match=r"No connection came about within 0\.2 seconds"):
        make_client(connect_seconds=0.2).post(secure_url(receiver, "127.0.0.1"), b"", {})


def test_handshake_that_trickles_is_given_up(receive, make_client):
    def script(connection: Connection) -> None:
        # The head of a record as long as can be, and then no end to it.
        connection.trickle(b"\x16\x03\x03\x3f\xff")

    receiver = receive(script)

    with pytest.raises(Unreachable, match=r"No connection came about within 0\.2 seconds"):
        make_client(connect_seconds=0.2).post(secure_url(receiver, "127.0.0.1"), b"", {})
    receiver.wait_until_over()


@pytest.mark.parametrize("seconds", [0.2, PATIENCE_SECONDS])
def test_handshake_that_never_ends_is_given_up_however_fast_it_goes_on(seconds, receive, make_client):
    """OpenSSL passes over requests to begin anew, and asks for more for as long as more is there."""

    def script(connection: Connection) -> None:
        while not connection.receiver.ended.is_set():
            connection.give(b"\x16\x03\x03\x40\x00" + bytes(16384))

    receiver = receive(script)

    with pytest.raises(Unreachable, match="does not speak TLS") as refusal:
        make_client(connect_seconds=seconds, seconds=seconds).post(secure_url(receiver, "127.0.0.1"), b"", {})
    assert not refusal.value.maybe_sent
    receiver.wait_until_over()


def test_requests_to_begin_the_handshake_anew_do_not_move_the_deadline(receive, make_client):
    def script(connection: Connection) -> None:
        while not connection.receiver.ended.wait(0.02):
            connection.give(b"\x16\x03\x03\x00\x04" + bytes(4))

    receiver = receive(script)

    with pytest.raises(Unreachable, match=r"No connection came about within 0\.3 seconds"):
        make_client(connect_seconds=0.3).post(secure_url(receiver, "127.0.0.1"), b"", {})
    receiver.wait_until_over()


def test_tickets_that_come_after_the_handshake_do_not_end_a_connection(
    authority, receive, make_client, ca_bundle, tmp_path
):
    tls = authority.context_for("customer.ru", tmp_path)
    tls.num_tickets = 100
    receiver = receive(tls=tls)
    client = make_client(ca_bundle=ca_bundle, resolve=answering("127.0.0.1"))

    for _ in range(3):
        assert client.post(secure_url(receiver, "customer.ru"), b"{}", {}).body == b"ok"
    assert receiver.accepted == 1


@pytest.mark.parametrize("pause", [0, 0.1])
def test_answer_that_nobody_asked_for_ends_a_secure_connection(
    pause, authority, receive, make_client, ca_bundle, tmp_path
):
    def script(connection: Connection) -> None:
        while True:
            connection.take()
            connection.give(OK)
            connection.receiver.ended.wait(pause)
            connection.give(OK.replace(b"ok", b"no"))

    receiver = receive(script, tls=authority.context_for("customer.ru", tmp_path))
    client = make_client(ca_bundle=ca_bundle, resolve=answering("127.0.0.1"))

    for number in (1, 2, 3):
        assert client.post(secure_url(receiver, "customer.ru"), b"{}", {}).body == b"ok"
        receiver.ended.wait(2 * pause + 0.05)
        assert receiver.accepted == number


def test_megabytes_go_and_come_through_tls(authority, receive, make_client, ca_bundle, tmp_path):
    body = bytes(range(256)) * 8192

    def script(connection: Connection) -> None:
        assert connection.take() == body
        connection.give(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)

    receiver = receive(script, tls=authority.context_for("customer.ru", tmp_path))
    client = make_client(ca_bundle=ca_bundle, resolve=answering("127.0.0.1"), answer_bytes_max=len(body))

    assert client.request("PUT", secure_url(receiver, "customer.ru"), body=body).body == body


def test_what_does_not_speak_tls_is_said(receive, client):
    receiver = receive(lambda connection: connection.give(b"HTTP/1.1 400 Bad Request\r\n\r\n"))

    with pytest.raises(Unreachable, match="does not speak TLS"):
        client.post(secure_url(receiver, "127.0.0.1"), b"", {})


def test_authorities_of_a_file_are_trusted_beside_those_of_browsers(ca_bundle):
    assert trust(ca_bundle).cert_store_stats()["x509_ca"] == trust().cert_store_stats()["x509_ca"] + 1


@pytest.mark.parametrize("content", [None, b"", b"no certificate", b"-----BEGIN CERTIFICATE-----\nabc\n"])
def test_file_without_authorities_is_no_ca_bundle(content, tmp_path):
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_bytes(content)

    with pytest.raises(OSError):  # noqa: PT011 - of the file system or of TLS
        Client(loopback_allowed=True, ca_bundle=file)

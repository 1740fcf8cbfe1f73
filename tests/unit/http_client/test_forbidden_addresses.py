"""Nothing is sent to an address that is not public, whatever its notation and whatever DNS says."""

import socket

import pytest

from http_client.connection import AddressRefused, Unreachable
from tests.unit.http_client.servers import (
    PUBLIC,
    Rebinding,
    always,
    answering,
    never_asked,
    received,
)

FORBIDDEN_HOSTS = [
    # 127.0.0.1 and 0.0.0.0 as resolvers read them
    *("127.0.0.1", "127.0.0.1.", "127.1", "127.0.1", "127.255.255.254", "2130706433", "017700000001", "0x7f000001"),
    *("0x7f.0.0.1", "0X7F.1", "0177.0.0.1", "0177.0x0.0.1", "00000177.1", "0", "0x0", "0.0.0.0", "0.0"),
    # the same after Unicode has been made plain
    *("１２７.０.０.１", "①②⑦.⓪.⓪.①", "127。0。0。1", "１２７。１"),
    # percent-encoded
    *("%31%32%37.0.0.1", "127%2e0%2e0%2e1", "127.0.0.1%00.customer.ru", "%6c%6f%63%61%6c%68%6f%73%74"),
    # user and password in front
    *("customer.ru@127.0.0.1", "customer.ru:443@127.0.0.1", "customer.ru%40127.0.0.1", "127.0.0.1\\@customer.ru"),
    # IPv6 of this machine, and IPv4 within IPv6
    *("[::1]", "[0:0:0:0:0:0:0:1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::ffff:0:127.0.0.1]"),
    *("[::127.0.0.1]", "[64:ff9b::127.0.0.1]", "[64:ff9b:1::7f00:1]", "[2002:7f00:1::]", "[2001:0:7f00:1::]"),
    *("[::1%25lo]", "[fe80::1%25eth0]", "[::ffff:127.0.0.1%25lo]"),
    # the neighbours, the provider, everybody
    *("10.0.0.1", "172.16.0.1", "192.168.0.1", "169.254.169.254", "2852039166", "0xa9fea9fe", "100.64.0.1"),
    *("100.100.100.200", "168.63.129.16", "192.0.0.192", "198.18.0.1", "192.88.99.1", "255.255.255.255"),
    *("224.0.0.1", "240.0.0.1", "[fe80::1]", "[fc00::1]", "[fd00:ec2::254]", "[ff02::1]", "[fec0::1]", "[5f00::1]"),
    *("[::ffff:169.254.169.254]", "[64:ff9b::a9fe:a9fe]", "[2001:db8::1]", "[3fff::1]", "[2001:20::1]"),
]


@pytest.mark.parametrize("host", FORBIDDEN_HOSTS)
def test_forbidden_address_is_refused_before_a_byte_is_sent(host, listeners, connects, make_client):
    client = make_client(loopback_allowed=False, resolve=never_asked)

    with pytest.raises(AddressRefused):
        client.post(f"http://{host}:{listeners[0].getsockname()[1]}/hook", b"{}", {})

    assert connects == []
    assert received(listeners) == 0


@pytest.mark.parametrize("host", ["localhost", "localhost.", "LOCALHOST", "LocalHost.", "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ"])
def test_names_of_this_machine_are_refused_with_the_system_s_own_resolver(host, listeners, connects, make_client):
    client = make_client(loopback_allowed=False)

    with pytest.raises(AddressRefused):
        client.post(f"http://{host}:{listeners[0].getsockname()[1]}/hook", b"{}", {})

    assert connects == []
    assert received(listeners) == 0


@pytest.mark.parametrize(
    "found",
    [
        ["127.0.0.1"],
        ["::1"],
        ["10.0.0.1"],
        ["127.0.0.1", "::1", "10.0.0.1", "169.254.169.254"],
        ["::ffff:127.0.0.1"],
        ["fe80::1%lo"],
        ["0.0.0.0", "::"],
        [],
        ["localhost"],
        ["2130706433"],
    ],
)
def test_name_that_leads_nowhere_public_is_refused(found, listeners, connects, make_client):
    client = make_client(loopback_allowed=False, resolve=answering(*found))

    with pytest.raises(AddressRefused):
        client.post(f"http://customer.ru:{listeners[0].getsockname()[1]}/hook", b"{}", {})

    assert connects == []
    assert received(listeners) == 0


@pytest.mark.parametrize("host", ["10.0.0.1", "[::ffff:127.0.0.1]", "169.254.169.254", "0.0.0.0", "[::]"])
def test_loopback_lets_nothing_else_through(host, listeners, connects, client):
    with pytest.raises(AddressRefused):
        client.post(f"http://{host}:{listeners[0].getsockname()[1]}/hook", b"{}", {})

    assert connects == []
    assert received(listeners) == 0


def test_only_the_allowed_ones_of_several_addresses_are_tried(receive, connects, make_client):
    receiver = receive()
    client = make_client(resolve=answering("10.0.0.1", "::ffff:127.0.0.1", "127.0.0.1", "192.168.0.1"))

    assert client.post(f"http://customer.ru:{receiver.port}/", b"", {}).status == 200
    assert connects == [("127.0.0.1", receiver.port)]


def test_dns_cannot_change_its_mind_between_check_and_connect(listeners, make_client, monkeypatch):
    port = listeners[0].getsockname()[1]
    tried = []

    def refuse(sock: socket.socket, place: object) -> None:
        tried.append(place)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket.socket, "connect", refuse)
    rebinding = Rebinding(PUBLIC, "127.0.0.1")
    client = make_client(loopback_allowed=False, resolve=rebinding)

    with pytest.raises(Unreachable):
        client.post(f"http://customer.ru:{port}/", b"{}", {})
    assert (rebinding.asked, tried) == (1, [(PUBLIC, port)])

    with pytest.raises(AddressRefused):
        client.post(f"http://customer.ru:{port}/", b"{}", {})
    assert (rebinding.asked, tried) == (2, [(PUBLIC, port)])
    assert received(listeners) == 0


def test_connection_that_is_kept_is_not_led_elsewhere(receive, connects, make_client):
    receiver = receive()
    rebinding = Rebinding("127.0.0.1", "10.0.0.1")
    client = make_client(resolve=rebinding)

    for _ in range(3):
        assert client.post(f"http://customer.ru:{receiver.port}/", b"", {}).status == 200
    assert rebinding.asked == 1
    assert connects == [("127.0.0.1", receiver.port)]


def test_whoever_answers_from_another_address_than_was_called_is_refused(receive, make_client, monkeypatch):
    receiver = receive()
    monkeypatch.setattr(socket.socket, "getpeername", lambda sock: ("10.0.0.1", receiver.port))

    with pytest.raises(AddressRefused):
        make_client().post(receiver.url, b"", {})
    assert receiver.requests == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(status, receive, connects, client):
    inside = receive()
    receiver = receive(always(f"HTTP/1.1 {status} Go\r\nLocation: {inside.url}\r\nContent-Length: 0\r\n\r\n".encode()))

    answer = client.post(receiver.url, b"", {})

    assert (answer.status, answer.headers["location"]) == (status, inside.url)
    assert connects == [("127.0.0.1", receiver.port)]


def test_proxies_of_the_environment_are_not_used(receive, connects, client, monkeypatch):
    proxy, receiver = receive(), receive()
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy.url)

    assert client.post(receiver.url, b"", {}).status == 200
    assert connects == [("127.0.0.1", receiver.port)]


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_loopback_is_reached_where_it_is_allowed(family, receive, client):
    try:
        receiver = receive(family=family)
    except OSError:
        pytest.skip("this machine has no ::1")

    assert client.post(receiver.url, b"", {}).status == 200
    assert f"Host: {receiver.url.split('/')[2]}\r\n".encode() in receiver.requests[0]


def test_client_that_may_send_over_tls_only_sends_nothing_else(receive, make_client):
    receiver = receive()

    with pytest.raises(AddressRefused, match="https"):
        make_client(https_only=True).post(receiver.url, b"", {})
    assert receiver.accepted == 0

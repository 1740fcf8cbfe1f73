"""Requests by way of a proxy: a tunnel to the judged address, TLS from end to end, refusals in our own words."""

import base64
import socket

import pytest

from http_client.connection import AddressRefused, Unreachable
from http_client.connection import Connection as KeptConnection
from http_client.pool import ConnectionPool, Origin
from http_client.proxy import Proxy
from tests.unit.http_client.authority import secure_url
from tests.unit.http_client.servers import (
    OK,
    PATIENCE_SECONDS,
    PUBLIC,
    Connection,
    Receiver,
    Script,
    always,
    answering,
    never_asked,
    once,
    tunnel_to,
)

PUBLIC_V6 = "2a02:6b8::1"
ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


def proxy_url(proxy: Receiver, *, user: str = "", dns: str = "") -> str:
    return f"http://{user}127.0.0.1:{proxy.port}{dns}"


def asked_for(proxy: Receiver) -> list[str]:
    return [request.split(b"\r\n")[0].decode() for request in proxy.requests]


def each(*scripts: Script) -> Script:
    """Play one script after the other, a connection each."""

    def script(connection: Connection) -> None:
        scripts[connection.receiver.accepted - 1](connection)

    return script


# ---- How the tunnel is opened


@pytest.mark.parametrize(
    ("dns", "asked"), [("", f"CONNECT {PUBLIC}:443 HTTP/1.1"), ("/?dns=proxy", "CONNECT bank.ru:443 HTTP/1.1")]
)
def test_encrypted_request_goes_through_a_tunnel(dns, asked, authority, receive, make_client, ca_bundle, tmp_path):
    receiver = receive(tls=authority.context_for("bank.ru", tmp_path))
    proxy = receive(tunnel_to(receiver.port))
    client = make_client(resolve=answering(PUBLIC), proxy=proxy_url(proxy, dns=dns), ca_bundle=ca_bundle)

    assert [client.request("GET", "https://bank.ru/hook").body for _ in range(3)] == [b"ok"] * 3
    assert asked_for(proxy) == [asked]
    assert (proxy.accepted, receiver.accepted, len(receiver.requests)) == (1, 1, 3)
    assert b"Host: bank.ru\r\n" in receiver.requests[0]


def test_tunnel_is_asked_for_and_nothing_more(receive, make_client):
    receiver = receive()
    proxy = receive(tunnel_to(receiver.port))

    make_client(resolve=answering(PUBLIC), proxy=proxy_url(proxy)).post("http://bank.ru:8080/a", b"{}", {"X-A": "b"})

    assert proxy.requests == [
        f"CONNECT {PUBLIC}:8080 HTTP/1.1\r\nHost: {PUBLIC}:8080\r\nUser-Agent: Kopeck\r\n\r\n".encode()
    ]
    assert receiver.requests[0].startswith(b"POST /a HTTP/1.1\r\nHost: bank.ru:8080\r\n")


def test_address_of_ipv6_is_asked_for_in_brackets(receive, make_client):
    proxy = receive(tunnel_to(receive().port))

    make_client(resolve=answering(PUBLIC_V6), proxy=proxy_url(proxy)).request("GET", "http://bank.ru/")

    assert asked_for(proxy) == [f"CONNECT [{PUBLIC_V6}]:80 HTTP/1.1"]


def test_user_and_password_are_for_the_proxy_alone(receive, make_client):
    receiver = receive()
    proxy = receive(tunnel_to(receiver.port))
    client = make_client(
        resolve=answering(PUBLIC), proxy=proxy_url(proxy, user="%D1%88%D0%BB%D1%8E%D0%B7:pass%40word:%2F@")
    )

    client.request("GET", "http://bank.ru/", basic_auth=("shop", "b"))

    expected = base64.b64encode("шлюз:pass@word:/".encode())
    assert b"\r\nProxy-Authorization: Basic " + expected + b"\r\n" in proxy.requests[0]
    assert b"\r\nAuthorization" not in proxy.requests[0]
    assert b"Proxy" not in receiver.requests[0]
    assert expected not in receiver.requests[0]


def test_certificate_is_judged_by_the_target_s_name(authority, receive, make_client, ca_bundle, tmp_path):
    receiver = receive(tls=authority.context_for("other.ru", tmp_path))
    proxy = receive(tunnel_to(receiver.port))
    client = make_client(resolve=answering(PUBLIC), proxy=proxy_url(proxy), ca_bundle=ca_bundle)

    with pytest.raises(Unreachable, match="certificate") as caught:
        client.post("https://bank.ru/", b"{}", {})
    assert not caught.value.maybe_sent
    assert receiver.requests == []


def test_proxy_may_go_by_a_name_and_live_anywhere(receive, connects, make_client):
    proxy = receive(tunnel_to(receive().port))
    found = {"proxy.corp.local": ["127.0.0.2", "127.0.0.1"], "bank.ru": [PUBLIC]}
    client = make_client(
        loopback_allowed=False,
        resolve=lambda host, port: found[host],
        proxy=f"http://proxy.corp.local:{proxy.port}",
    )

    assert client.request("GET", "http://bank.ru/").status == 200
    assert connects[:2] == [("127.0.0.2", proxy.port), ("127.0.0.1", proxy.port)]
    assert PUBLIC not in {host for host, _ in connects}


# ---- What does not go through it


@pytest.mark.parametrize("dns", ["", "?dns=proxy"])
@pytest.mark.parametrize(
    "host",
    [
        *("10.0.0.1", "127.0.0.1", "2130706433", "169.254.169.254", "[::1]", "[::ffff:8.8.8.8]", "[fd00::1]"),
        *("intranet", "printer.local", "metadata.google.internal", "router.lan", "db.corp.intranet", "PRINTER.LOCAL."),
    ],
)
def test_address_that_is_not_public_is_refused_before_the_proxy_is_asked(host, dns, receive, connects, make_client):
    proxy = receive()
    client = make_client(loopback_allowed=False, resolve=never_asked, proxy=proxy_url(proxy, dns=dns))

    with pytest.raises(AddressRefused) as caught:
        client.request("GET", f"http://{host}/")
    assert not caught.value.maybe_sent
    assert connects == []
    assert proxy.accepted == 0


@pytest.mark.parametrize("dns", ["", "?dns=proxy"])
def test_names_of_this_machine_are_refused_where_loopback_is(dns, receive, connects, make_client):
    proxy = receive()
    client = make_client(loopback_allowed=False, resolve=answering("127.0.0.1"), proxy=proxy_url(proxy, dns=dns))

    for host in ("localhost", "a.localhost"):
        with pytest.raises(AddressRefused):
            client.request("GET", f"http://{host}/")
    assert connects == []


def test_name_that_leads_inside_is_refused_before_the_proxy_is_asked(receive, connects, make_client):
    proxy = receive()
    client = make_client(loopback_allowed=False, resolve=answering("10.0.0.1", "127.0.0.1"), proxy=proxy_url(proxy))

    with pytest.raises(AddressRefused):
        client.request("GET", "http://bank.ru/")
    assert connects == []


def test_name_that_is_not_known_here_is_not_left_to_the_proxy(receive, make_client):
    def unknown(host: str, port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    proxy = receive()

    with pytest.raises(Unreachable, match="cannot be resolved"):
        make_client(resolve=unknown, proxy=proxy_url(proxy)).request("GET", "http://bank.ru/")
    assert proxy.accepted == 0


def test_proxy_that_resolves_spares_our_own_dns(receive, make_client):
    proxy = receive(tunnel_to(receive().port))

    client = make_client(resolve=never_asked, proxy=proxy_url(proxy, dns="?dns=proxy"))

    assert client.request("GET", "http://bank.ru/").status == 200


@pytest.mark.parametrize("dns", ["", "?dns=proxy"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "shop.localhost"])
def test_this_machine_is_reached_without_the_proxy(host, dns, receive, connects, make_client):
    receiver, proxy = receive(), receive()
    client = make_client(resolve=answering("127.0.0.1"), proxy=proxy_url(proxy, dns=dns))

    assert [client.request("GET", f"http://{host}:{receiver.port}/").status for _ in range(2)] == [200, 200]
    assert (receiver.accepted, proxy.accepted) == (1, 0)
    assert connects == [("127.0.0.1", receiver.port)]


# ---- When no tunnel comes about


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 407 Secret\r\nProxy-Authenticate: Basic realm=secret\r\n\r\n", "user and password"),
        (b"HTTP/1.1 403 Secret\r\nX-A: secret\r\nContent-Length: 6\r\n\r\nsecret", "it answered 403"),
        (b"HTTP/1.1 502 Secret\r\n\r\n<html>secret", "it answered 502"),
        (b"HTTP/1.1 302 Secret\r\nLocation: http://secret/\r\n\r\n", "it answered 302"),
        (b"secret", "broke off or cannot be read"),
        (b"", "broke off or cannot be read"),
        (b"HTTP/1.1 200 OK\r\nX-A: ", "broke off or cannot be read"),
        (ESTABLISHED + OK, "broke off or cannot be read"),
        (ESTABLISHED[:-2] + b"Content-Length: 6\r\n\r\nsecret", "broke off or cannot be read"),
    ],
)
def test_refusal_of_the_proxy_is_said_in_our_words(answer, words, receive, make_client):
    proxy = receive(once(answer))
    client = make_client(resolve=answering(PUBLIC), proxy=proxy_url(proxy, user="user:pass-word@"))

    with pytest.raises(Unreachable, match=words) as caught:
        client.post("http://bank.ru/", b"{}", {})
    assert not caught.value.maybe_sent
    assert "ecret" not in str(caught.value)
    assert "pass-word" not in str(caught.value)
    assert len(proxy.requests) == 1


@pytest.mark.parametrize("refusal", [b"HTTP/1.1 503 No route\r\n\r\n", b""])
def test_next_address_is_tried_when_the_proxy_cannot_reach_one(refusal, receive, make_client):
    proxy = receive(each(once(refusal), tunnel_to(receive().port)))
    client = make_client(resolve=answering(PUBLIC_V6, PUBLIC), proxy=proxy_url(proxy))

    assert client.request("GET", "http://bank.ru/").status == 200
    assert asked_for(proxy) == [f"CONNECT [{PUBLIC_V6}]:80 HTTP/1.1", f"CONNECT {PUBLIC}:80 HTTP/1.1"]


def test_wrong_password_is_not_tried_again(receive, make_client):
    proxy = receive(once(b"HTTP/1.1 407 No\r\n\r\n"))
    client = make_client(resolve=answering(PUBLIC_V6, PUBLIC), proxy=proxy_url(proxy, user="user:pass@"))

    with pytest.raises(Unreachable, match="user and password"):
        client.request("GET", "http://bank.ru/")
    assert proxy.accepted == 1


def test_news_before_the_proxy_s_answer_are_passed_over(receive, make_client):
    def script(connection: Connection) -> None:
        connection.take()
        connection.give(b"HTTP/1.1 100 Continue\r\n\r\n" + ESTABLISHED)
        always(OK)(connection)

    client = make_client(resolve=answering(PUBLIC), proxy=proxy_url(receive(script)))

    assert client.request("GET", "http://bank.ru/").status == 200


def test_proxy_that_is_not_there_is_said(make_client):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        client = make_client(resolve=answering(PUBLIC), proxy=f"http://127.0.0.1:{free.getsockname()[1]}")
        with pytest.raises(Unreachable, match="The proxy does not answer") as caught:
            client.request("POST", "http://bank.ru/")
    assert not caught.value.maybe_sent


def test_proxy_whose_name_is_not_known_is_said(make_client):
    def resolve(host: str, port: int) -> list[str]:
        if host == "bank.ru":
            return [PUBLIC]
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with pytest.raises(Unreachable, match="The proxy's name cannot be resolved"):
        make_client(resolve=resolve, proxy="http://proxy.corp:3128").request("POST", "http://bank.ru/")


@pytest.mark.parametrize("begin", [None, b"", b"HTTP/1.1 200 OK\r\nX-A: "])
def test_proxy_that_keeps_us_waiting_is_given_up(begin, receive, make_client):
    def script(connection: Connection) -> None:
        connection.take()
        if begin is None:
            connection.receiver.ended.wait(PATIENCE_SECONDS)
        connection.trickle(begin)

    proxy = receive(script)
    client = make_client(resolve=answering(PUBLIC), proxy=proxy_url(proxy), connect_seconds=0.2)

    with pytest.raises(Unreachable, match=r"No connection came about within 0\.2 seconds") as caught:
        client.request("POST", "http://bank.ru/")
    assert not caught.value.maybe_sent


def test_head_without_end_from_the_proxy_is_cut_off(receive, make_client):
    def script(connection: Connection) -> None:
        connection.take()
        connection.give(b"HTTP/1.1 200 OK\r\n")
        while True:
            connection.give(b"X-A: " + b"a" * 1000 + b"\r\n")

    proxy = receive(script)

    with pytest.raises(Unreachable, match="broke off or cannot be read"):
        make_client(resolve=answering(PUBLIC), proxy=proxy_url(proxy)).request("GET", "http://bank.ru/")
    proxy.wait_until_over()


def test_one_limit_of_time_covers_the_proxy_too(authority, receive, make_client, ca_bundle, tmp_path):
    receiver = receive(
        lambda connection: connection.receiver.ended.wait(PATIENCE_SECONDS),
        tls=authority.context_for("bank.ru", tmp_path),
    )
    proxy = receive(tunnel_to(receiver.port))
    client = make_client(resolve=answering(PUBLIC), proxy=proxy_url(proxy), ca_bundle=ca_bundle, seconds=0.5)

    with pytest.raises(Unreachable, match=r"within 0\.5 seconds") as caught:
        client.request("POST", "https://bank.ru/")
    assert caught.value.maybe_sent


def test_payment_through_a_tunnel_that_dies_arrives_once(receive, make_client):
    def script(connection: Connection) -> None:
        connection.take()
        connection.give(OK)
        connection.take()

    receiver = receive(script)
    proxy = receive(tunnel_to(receiver.port))
    client = make_client(resolve=answering(PUBLIC), proxy=proxy_url(proxy))
    client.post("http://bank.ru/", b"1", {})

    with pytest.raises(Unreachable, match="broke off") as caught:
        client.post("http://bank.ru/", b"2", {})
    assert caught.value.maybe_sent
    assert [request[-1:] for request in receiver.requests] == [b"1", b"2"]


def test_tunnel_that_was_closed_meanwhile_is_replaced(authority, receive, make_client, ca_bundle, tmp_path):
    receiver = receive(once(OK), tls=authority.context_for("bank.ru", tmp_path))
    proxy = receive(tunnel_to(receiver.port))
    client = make_client(resolve=answering(PUBLIC), proxy=proxy_url(proxy), ca_bundle=ca_bundle)

    for _ in range(2):
        assert client.post(secure_url(receiver, "bank.ru"), b"{}", {}).status == 200
        receiver.wait_until_over()
        proxy.wait_until_over()
    assert (receiver.accepted, len(receiver.requests)) == (2, 2)


def test_connection_that_goes_another_way_is_not_taken():
    proxies = [Proxy.from_url("http://proxy.corp:3128"), Proxy.from_url("http://other.corp:3128"), None]
    direct, one, other = (Origin("https", "bank.ru", 443, proxy) for proxy in reversed(proxies))
    ours, theirs = socket.socketpair()
    connection = KeptConnection(ours)
    connection.is_reusable = True
    pool = ConnectionPool(connections_max=2, reuse_seconds=PATIENCE_SECONDS)
    pool.keep(one, connection)

    assert (pool.take(direct), pool.take(other), pool.take(one)) == (None, None, connection)
    connection.close()
    theirs.close()


# ---- How its address is written


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("http://proxy.corp:3128", ("proxy.corp", 3128)),
        ("HTTP://Proxy.Corp:3128/", ("proxy.corp", 3128)),
        ("http://10.0.0.1:8080", ("10.0.0.1", 8080)),
        ("http://[fd00::1]:8080/", ("fd00::1", 8080)),
        ("http://user@proxy:80", ("proxy", 80)),
        ("http://user:p%40ss@proxy:80", ("proxy", 80)),
    ],
)
def test_address_of_a_proxy_is_read(url, place):
    proxy = Proxy.from_url(url)

    assert (proxy.host, proxy.port, proxy.resolves_names) == (*place, False)
    assert Proxy.from_url(f"{url.removesuffix('/')}?dns=proxy").resolves_names


@pytest.mark.parametrize(
    "url",
    [
        *("", "proxy", "proxy:3128", "http://proxy", "http://proxy/", "http://:3128", "https://pass-word:a@proxy:3128"),
        *("socks5://proxy:1080", "http://a:pass-word@proxy:0", "http://a:pass-word@proxy:65536", "http://a:b@:3128"),
        *("http://a:pass-word@pr oxy:3128", "http://a:pass-word@proxy:3128/path", "http://a:pass-word@proxy:3128#a"),
        *("http://a:pass-word@b@proxy:3128", "http://a:pass-word/b@proxy:3128", "http://a:pass-word@proxy:3128?dns=us"),
        *("http://a%3Ab:pass-word@proxy:3128", "http://a:pass-word%0D%0A@proxy:3128", "http://a:pass-word%FF@proxy:1"),
        *("http://a:pass-word@[::1:3128", "http://a:pass-word@256.0.0.1:3128", "http://a:пароль@proxy:3128\n"),
    ],
)
def test_what_is_no_address_of_a_proxy_is_not_repeated(url):
    with pytest.raises(ValueError, match=r"^(must|names|has) ") as caught:
        Proxy.from_url(url)

    assert "pass-word" not in repr(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_proxy_does_not_show_its_password():
    proxy = Proxy.from_url("http://user:pass-word@proxy:3128")

    assert "pass-word" not in repr(proxy)
    assert base64.b64encode(b"user:pass-word").decode() not in repr(proxy)

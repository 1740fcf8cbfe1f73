"""What is sent to endpoints, over real sockets: never to a forbidden address, never twice, never without end."""

import re
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from http_client import client as http
from http_client.client import AddressRefused, Answer, Client, Unreachable
from limits import EXCERPT_BYTES_MAX

PATIENCE_SECONDS = 30
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
PUBLIC = "93.184.216.34"


class Connection:
    """One connection to a receiver, as its script sees it."""

    def __init__(self, receiver: "Receiver", sock: socket.socket) -> None:
        self.receiver = receiver
        self.sock = sock
        self.data = sock.makefile("rb")

    def take(self) -> bytes:
        """Read one request, remember it, and return its body; EOFError at the end of the connection."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = self.data.readline()
            if not line:
                raise EOFError
            head += line
        length = re.search(rb"(?i)content-length: (\d+)", head)
        body = self.data.read(int(length[1])) if length else b""
        self.receiver.requests.append(head + body)
        return body

    def give(self, data: bytes) -> None:
        self.sock.sendall(data)

    def trickle(self, data: bytes) -> None:
        """Send a byte now and then until the other side has had enough; then say so."""
        for number in range(10**6):
            if self.receiver.ended.wait(0.02):
                return
            self.give(data[number : number + 1] or b"a")


Script = Callable[[Connection], None]


class Receiver:
    """Somebody's endpoint on 127.0.0.1, or on ::1: plays its script on each connection, in a thread of its own."""

    def __init__(self, script: Script, *, family: int = socket.AF_INET, tls: ssl.SSLContext | None = None) -> None:
        self.script = script
        self.tls = tls
        host = "::1" if family == socket.AF_INET6 else "127.0.0.1"
        self.listener = socket.create_server((host, 0), family=family)
        self.port = self.listener.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{self.port}/hook"
        self.requests: list[bytes] = []
        self.accepted = 0
        self.over = threading.Semaphore(0)
        self.ended = threading.Event()
        self.threads = [threading.Thread(target=self._accept)]
        self.threads[0].start()

    def close(self) -> None:
        self.ended.set()
        self.listener.shutdown(socket.SHUT_RDWR)
        for thread in self.threads:
            thread.join(PATIENCE_SECONDS)
        self.listener.close()

    def wait_until_over(self) -> None:
        """Wait until one more connection has ended."""
        assert self.over.acquire(timeout=PATIENCE_SECONDS)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                sock, _ = self.listener.accept()
                self.accepted += 1
                self.threads.append(threading.Thread(target=self._play, args=(sock,)))
                self.threads[-1].start()

    def _play(self, sock: socket.socket) -> None:
        sock.settimeout(PATIENCE_SECONDS)
        with suppress(OSError, EOFError):
            if self.tls:
                sock = self.tls.wrap_socket(sock, server_side=True)
            connection = Connection(self, sock)
            with connection.data:
                self.script(connection)
        sock.close()
        self.over.release()


def always(answer: bytes) -> Script:
    """Give the same answer to every request, as long as the connection is open."""

    def script(connection: Connection) -> None:
        while True:
            connection.take()
            connection.give(answer)

    return script


def once(answer: bytes) -> Script:
    """Give one answer and hang up."""

    def script(connection: Connection) -> None:
        connection.take()
        connection.give(answer)

    return script


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


class Witness:
    """Sees every connection that this process tries to make: the interpreter tells, not the code under test."""

    def __init__(self) -> None:
        self.connects: list[object] | None = None
        sys.addaudithook(self)

    def __call__(self, event: str, args: tuple[object, ...]) -> None:
        if event == "socket.connect" and self.connects is not None:
            self.connects.append(args[1])


WITNESS = Witness()
"""Hooks cannot be taken away again, so there is one."""


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


def arrivals(listeners: list[socket.socket]) -> int:
    """Count connections; the kernel makes those to this machine at once, so that none is still on its way."""
    count = 0
    for listener in listeners:
        listener.setblocking(False)
        with suppress(BlockingIOError):
            listener.accept()[0].close()
            count += 1
    return count


def answering(*found: str) -> http.Resolver:
    return lambda host, port: list(found)


def never_asked(host: str, port: int) -> list[str]:
    raise AssertionError("DNS was asked")


# ---- Where nothing is sent to

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
    assert arrivals(listeners) == 0


@pytest.mark.parametrize("host", ["localhost", "localhost.", "LOCALHOST", "LocalHost.", "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ"])
def test_names_of_this_machine_are_refused_with_the_system_s_own_resolver(host, listeners, connects, make_client):
    client = make_client(loopback_allowed=False)

    with pytest.raises(AddressRefused):
        client.post(f"http://{host}:{listeners[0].getsockname()[1]}/hook", b"{}", {})

    assert connects == []
    assert arrivals(listeners) == 0


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
    assert arrivals(listeners) == 0


@pytest.mark.parametrize("host", ["10.0.0.1", "[::ffff:127.0.0.1]", "169.254.169.254", "0.0.0.0", "[::]"])
def test_loopback_lets_nothing_else_through(host, listeners, connects, client):
    with pytest.raises(AddressRefused):
        client.post(f"http://{host}:{listeners[0].getsockname()[1]}/hook", b"{}", {})

    assert connects == []
    assert arrivals(listeners) == 0


def test_only_the_allowed_ones_of_several_addresses_are_tried(receive, connects, make_client):
    receiver = receive()
    client = make_client(resolve=answering("10.0.0.1", "::ffff:127.0.0.1", "127.0.0.1", "192.168.0.1"))

    assert client.post(f"http://customer.ru:{receiver.port}/", b"", {}).status == 200
    assert connects == [("127.0.0.1", receiver.port)]


class Rebinding:
    """A name server that gives a public address to whoever checks, and loopback to whoever asks again."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.asked = 0

    def __call__(self, host: str, port: int) -> list[str]:
        self.asked += 1
        return [self.answers[min(self.asked, len(self.answers)) - 1]]


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
    assert arrivals(listeners) == 0


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


# ---- What is sent, and what comes back


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


def test_connection_that_has_served_long_enough_is_replaced(receive, make_client, monkeypatch):
    monkeypatch.setattr(http, "REUSE_SECONDS", 0)
    receiver = receive()
    client = make_client()

    for _ in range(2):
        client.post(receiver.url, b"", {})
    assert receiver.accepted == 2


def test_only_so_many_connections_are_kept(receive, make_client, monkeypatch):
    monkeypatch.setattr(http, "IDLE_CONNECTIONS_MAX", 2)
    client = make_client()
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


# ---- What has no end


def test_of_a_long_body_an_excerpt_is_read(receive, client):
    receiver = receive(always(b"HTTP/1.1 500 No\r\nContent-Length: 5000\r\n\r\n" + b"a" * 5000))

    assert client.post(receiver.url, b"", {}).body == b"a" * EXCERPT_BYTES_MAX
    receiver.wait_until_over()


def test_rest_of_a_long_body_is_not_waited_for(receive, client):
    def script(connection: Connection) -> None:
        connection.take()
        connection.give(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + b"a" * EXCERPT_BYTES_MAX)
        connection.take()

    receiver = receive(script)

    assert len(client.post(receiver.url, b"", {}).body) == EXCERPT_BYTES_MAX
    receiver.wait_until_over()


def test_body_as_long_as_the_excerpt_is_read_to_its_end(receive, client):
    receiver = receive(
        always(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % EXCERPT_BYTES_MAX + b"a" * EXCERPT_BYTES_MAX)
    )

    assert {len(client.post(receiver.url, b"", {}).body) for _ in range(2)} == {EXCERPT_BYTES_MAX}
    assert receiver.accepted == 1


@pytest.mark.parametrize(
    "head",
    [b"Content-Length: 1000000000000\r\n\r\n", b"\r\n", b"Transfer-Encoding: chunked\r\n\r\nffffffff\r\n"],
)
def test_body_without_end_is_cut_off_and_the_connection_closed(head, receive, client):
    def script(connection: Connection) -> None:
        connection.take()
        connection.give(b"HTTP/1.1 200 OK\r\n" + head)
        while True:
            connection.give(b"a" * 65536)

    receiver = receive(script)

    answer = client.post(receiver.url, b"", {})

    assert (answer.status, answer.body) == (200, b"a" * EXCERPT_BYTES_MAX)
    receiver.wait_until_over()


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (b"HTTP/1.1 200 OK\r\n", b"X-A: a\r\n"),
        (b"HTTP/1.1 200 OK\r\nX-A: ", b"a" * 1000),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
        (b"", b"a" * 1000),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1;" + b"e" * 1000 + b"\r\na\r\n"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"X-Trailer: a\r\n"),
    ],
)
def test_head_without_end_is_cut_off(head, piece, receive, client):
    def script(connection: Connection) -> None:
        connection.take()
        connection.give(head)
        while True:
            connection.give(piece)

    receiver = receive(script)

    with pytest.raises(Unreachable, match="broke off or cannot be read"):
        client.post(receiver.url, b"", {})
    receiver.wait_until_over()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nX-A: ",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\n",
    ],
)
def test_answer_that_trickles_is_cut_off(answer, receive, make_client):
    def script(connection: Connection) -> None:
        connection.take()
        connection.give(answer)
        connection.trickle(b"")

    receiver = receive(script)

    with pytest.raises(Unreachable, match=r"within 0\.3 seconds"):
        make_client(seconds=0.3).post(receiver.url, b"", {})
    receiver.wait_until_over()


def test_head_that_trickles_is_cut_off(receive, make_client):
    def script(connection: Connection) -> None:
        connection.take()
        connection.trickle(b"HTTP/1.1 200 OK\r\nX-A: " + b"a" * 1000)

    receiver = receive(script)

    with pytest.raises(Unreachable, match=r"within 0\.3 seconds"):
        make_client(seconds=0.3).post(receiver.url, b"", {})
    receiver.wait_until_over()


def test_receiver_that_does_not_read_is_cut_off(receive, make_client):
    receiver = receive(lambda connection: connection.receiver.ended.wait(PATIENCE_SECONDS))

    with pytest.raises(Unreachable, match=r"within 0\.3 seconds"):
        make_client(seconds=0.3).post(receiver.url, b"a" * 50_000_000, {})


def test_connection_that_was_cut_off_is_not_used_again(receive, make_client):
    def script(connection: Connection) -> None:
        while True:
            if connection.take() == b"slow":
                connection.receiver.ended.wait(PATIENCE_SECONDS)
            connection.give(OK)

    receiver = receive(script)
    client = make_client(seconds=0.3)
    client.post(receiver.url, b"", {})
    with pytest.raises(Unreachable):
        client.post(receiver.url, b"slow", {})

    assert client.post(receiver.url, b"", {}).status == 200
    assert receiver.accepted == 2


# ---- What is broken


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nok",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 99 OK\r\n\r\n",
        b"HTTP/3 200 OK\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x00" * 100,
    ],
)
def test_answer_that_breaks_off_or_is_no_http_is_said(answer, receive, client):
    receiver = receive(once(answer))

    with pytest.raises(Unreachable, match="broke off or cannot be read"):
        client.post(receiver.url, b"", {})


@pytest.fixture(scope="module")
def babbler() -> Iterator[tuple[Receiver, Client]]:
    def script(connection: Connection) -> None:
        connection.take()
        connection.give(receiver.words)

    receiver = Receiver(script)
    with closing(Client(loopback_allowed=True)) as client:
        yield receiver, client
    receiver.close()


@given(st.binary(max_size=200), st.sampled_from([b"", b"HTTP/1.1 ", b"HTTP/1.1 200 OK\r\n", OK[:-4]]))
def test_whatever_comes_is_an_answer_or_unreachable(babbler, words, begin):
    receiver, client = babbler
    receiver.words = begin + words

    with suppress(Unreachable):
        assert isinstance(client.post(receiver.url, b"", {}), Answer)


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

    assert len(connects) == http.ADDRESS_TRIES_MAX


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


@contextmanager
def deaf(host: str, port: int = 0) -> Iterator[int]:
    """Listen with a queue that is full, so that a further connection is neither accepted nor refused."""
    with socket.create_server((host, port), backlog=0) as full, socket.socket() as first, socket.socket() as second:
        for sock in (first, second):
            sock.setblocking(False)
            sock.connect_ex(full.getsockname())
        yield full.getsockname()[1]


def test_host_that_accepts_no_connection_is_given_up(make_client):
    with deaf("127.0.0.1") as port, pytest.raises(Unreachable, match=r"No connection came about within 0\.2 seconds"):
        make_client(connect_seconds=0.2).post(f"http://127.0.0.1:{port}/", b"", {})


def test_address_that_accepts_no_connection_leaves_time_for_the_next(receive, make_client):
    receiver = receive()
    client = make_client(resolve=answering("127.0.0.2", "127.0.0.1"), connect_seconds=0.5)

    with deaf("127.0.0.2", receiver.port):
        assert client.post(f"http://customer.ru:{receiver.port}/", b"", {}).status == 200


# ---- TLS


class Authority:
    """An authority of the test's own."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "An authority")])
        self.certificate = self._sign(self.name, self.key, [], is_authority=True)

    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def context_for(self, name: str, path) -> ssl.SSLContext:
        """Issue a certificate and return what a server needs to show it."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = [x509.DNSName(name) if name[0].isalpha() else x509.IPAddress(ip_address(name))]
        certificate = self._sign(x509.Name([]), key, [x509.SubjectAlternativeName(names)], is_authority=False)
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        file = path / "server.pem"
        file.write_bytes(key.private_bytes(*form) + certificate.public_bytes(serialization.Encoding.PEM))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context

    def _sign(self, subject, key, extensions, *, is_authority) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
            .add_extension(
                x509.KeyUsage(
                    digital_signature=True,
                    key_cert_sign=is_authority,
                    crl_sign=is_authority,
                    content_commitment=False,
                    key_encipherment=False,
                    data_encipherment=False,
                    key_agreement=False,
                    encipher_only=False,
                    decipher_only=False,
                ),
                critical=True,
            )
        )
        for extension in extensions:
            # RFC 5280: with an empty subject the names are critical.
            builder = builder.add_extension(extension, critical=True)
        return builder.sign(self.key, hashes.SHA256())


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def trusted(authority, tmp_path, monkeypatch) -> None:
    """Let the client trust the test's authority, by the place where it looks for those of the world."""
    file = tmp_path / "authorities.pem"
    file.write_bytes(authority.pem())
    monkeypatch.setattr(http.certifi, "where", lambda: str(file))


def secure_url(receiver: Receiver, host: str) -> str:
    return f"https://{host}:{receiver.port}/hook"


@pytest.mark.usefixtures("trusted")
def test_good_certificate_is_accepted_and_the_connection_kept(authority, receive, make_client, tmp_path):
    tls = authority.context_for("customer.ru", tmp_path)
    asked_for = []
    tls.sni_callback = lambda sock, name, context: asked_for.append(name)
    receiver = receive(tls=tls)
    client = make_client(resolve=answering("127.0.0.1"))

    for host in ("customer.ru", "CUSTOMER.ru."):
        assert client.post(secure_url(receiver, host), b"{}", {}).body == b"ok"
    assert receiver.accepted == 1
    assert asked_for == ["customer.ru"]
    assert f"Host: customer.ru:{receiver.port}\r\n".encode() in receiver.requests[0]


@pytest.mark.usefixtures("trusted")
def test_certificate_may_be_for_an_address(authority, receive, client, tmp_path):
    receiver = receive(tls=authority.context_for("127.0.0.1", tmp_path))

    assert client.post(receiver.url, b"", {}).status == 200


@pytest.mark.usefixtures("trusted")
def test_certificate_for_another_host_is_refused(authority, receive, make_client, tmp_path):
    receiver = receive(tls=authority.context_for("other.ru", tmp_path))

    with pytest.raises(Unreachable, match="certificate"):
        make_client(resolve=answering("127.0.0.1")).post(secure_url(receiver, "customer.ru"), b"", {})
    assert receiver.requests == []


def test_certificate_from_nobody_known_is_refused(authority, receive, make_client, tmp_path):
    receiver = receive(tls=authority.context_for("customer.ru", tmp_path))

    with pytest.raises(Unreachable, match="certificate"):
        make_client(resolve=answering("127.0.0.1")).post(secure_url(receiver, "customer.ru"), b"", {})
    assert receiver.requests == []


@pytest.mark.usefixtures("trusted")
def test_secure_connection_that_was_closed_meanwhile_is_replaced(authority, receive, make_client, tmp_path):
    receiver = receive(once(OK), tls=authority.context_for("customer.ru", tmp_path))
    client = make_client(resolve=answering("127.0.0.1"))

    for _ in range(2):
        assert client.post(secure_url(receiver, "customer.ru"), b"{}", {}).status == 200
        receiver.wait_until_over()
    assert (receiver.accepted, len(receiver.requests)) == (2, 2)


@pytest.mark.usefixtures("trusted")
def test_answer_that_trickles_through_tls_is_cut_off(authority, receive, make_client, tmp_path):
    def script(connection: Connection) -> None:
        connection.take()
        connection.trickle(b"HTTP/1.1 200 OK\r\nX-A: ")

    receiver = receive(script, tls=authority.context_for("customer.ru", tmp_path))

    with pytest.raises(Unreachable, match=r"within 0\.5 seconds"):
        make_client(resolve=answering("127.0.0.1"), seconds=0.5).post(secure_url(receiver, "customer.ru"), b"", {})
    receiver.wait_until_over()


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


def test_what_does_not_speak_tls_is_said(receive, client):
    receiver = receive(lambda connection: connection.give(b"HTTP/1.1 400 Bad Request\r\n\r\n"))

    with pytest.raises(Unreachable, match="does not speak TLS"):
        client.post(secure_url(receiver, "127.0.0.1"), b"", {})


# ---- Loopback, and the shell


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_loopback_is_reached_where_it_is_allowed(family, receive, client):
    try:
        receiver = receive(family=family)
    except OSError:
        pytest.skip("this machine has no ::1")

    assert client.post(receiver.url, b"", {}).status == 200
    assert f"Host: {receiver.url.split('/')[2]}\r\n".encode() in receiver.requests[0]


def test_shell_may_post_to_any_address(receive):
    receiver = receive(always(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + b"a" * 5000))

    assert len(http.post(receiver.url, b"{}", {}).body) == 5000
    receiver.wait_until_over()


def test_shell_is_told_what_to_do_when_nobody_listens():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(Unreachable, match="make run"):
            http.post(f"http://127.0.0.1:{free.getsockname()[1]}/", b"", {})


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200",
    ],
)
def test_answer_whose_head_breaks_off_is_no_answer(receive, make_client, head):
    with pytest.raises(Unreachable, match="broke off"):
        make_client().post(receive(once(head)).url, b"", {})


def test_chunk_of_an_absurd_size_is_no_answer(receive, make_client):
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-ffffffffffffffffffffffff\r\nx"

    with pytest.raises(Unreachable, match="broke off"):
        make_client().post(receive(once(answer)).url, b"", {})


def test_client_that_may_send_over_tls_only_sends_nothing_else(receive, make_client):
    receiver = receive()

    with pytest.raises(AddressRefused, match="https"):
        make_client(https_only=True).post(receiver.url, b"", {})
    assert receiver.accepted == 0

"""Answers that have no end, trickle, break off or are no HTTP."""

from collections.abc import Iterator
from contextlib import closing, suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from http_client.client import Client
from http_client.connection import Answer, Unreachable
from limits import EXCERPT_BYTES_MAX
from tests.unit.http_client.servers import OK, PATIENCE_SECONDS, Connection, Receiver, always, once


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


# ---- Bounds of a client of one's own


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n",
        b"HTTP/1.1 500 No\r\nContent-Length: 99999999999\r\n\r\n",
    ],
)
def test_body_that_is_longer_than_wanted_is_refused_where_half_would_do_harm(head, receive, make_client):
    receiver = receive(once(head + b"a" * 1001))

    with pytest.raises(Unreachable, match="longer than 1000 bytes"):
        make_client(answer_bytes_max=1000, truncate=False).request("GET", receiver.url)
    receiver.wait_until_over()


@pytest.mark.parametrize(
    ("head", "end"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b""),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\n", b"\r\n0\r\n\r\n"),
    ],
)
def test_body_that_just_fits_is_read_to_its_end(head, end, receive, make_client):
    receiver = receive(always(head + b"a" * 1000 + end))
    client = make_client(answer_bytes_max=1000, truncate=False)

    assert [client.request("GET", receiver.url).body for _ in range(2)] == [b"a" * 1000] * 2
    assert receiver.accepted == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 5\r\n\r\nabcde",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    ],
)
def test_body_whose_end_is_unclear_is_no_answer_where_half_would_do_harm(answer, receive, make_client):
    receiver = receive(once(answer))

    with pytest.raises(Unreachable, match="cannot be read"):
        make_client(truncate=False).request("GET", receiver.url)
    receiver.wait_until_over()


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("truncate", [True, False])
@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked \r\n\r\n3\r\nab",
        CHUNKED,
        *(
            CHUNKED + b"3\r\nabc" + end
            for end in (b"", b"\r\n", b"\r\n0", b"\r\n0\r\n", b"\r\n0\r\nX: y\r\n", b"\r\n00")
        ),
        *(CHUNKED + b"3\r\nabc\r\n" + size + b"\r\n\r\n" for size in (b"", b"-0", b"+0", b"0x0", b"0_0", b"x", b" 0")),
        *(CHUNKED + size + b"\r\nabc\r\n0\r\n\r\n" for size in (b"4", b"2", b"3" * 5000, b"f" * 16)),
        b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\nabc",
        *(
            b"HTTP/1.1 200 OK\r\nContent-Length: " + length + b"\r\n\r\nabc"
            for length in (b"10, 10", b"3, 4", b"3,", b"", b"0x3", b"3_0", b"+3", "\u0663".encode(), b"5")
        ),
    ],
)
def test_body_that_breaks_off_is_no_answer(answer, truncate, receive, make_client):
    receiver = receive(once(answer))

    with pytest.raises(Unreachable, match="broke off or cannot be read") as refusal:
        make_client(truncate=truncate).request("GET", receiver.url)
    assert refusal.value.maybe_sent
    receiver.wait_until_over()


@pytest.mark.parametrize("truncate", [True, False])
@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length:\t3 \r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3, 3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: 003\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\t\r\n\r\n3 ; a=b\r\nabc\r\n000\r\nX: y\r\n\r\n",
        CHUNKED + b"1\r\na\r\n02;x\r\nbc\r\n0;y\r\n\r\n",
        CHUNKED + b"3\nabc\r\n0\n\n",
    ],
)
def test_body_that_is_whole_is_read_however_it_is_written(answer, truncate, receive, make_client):
    receiver = receive(always(answer))

    assert make_client(truncate=truncate, seconds=PATIENCE_SECONDS).request("GET", receiver.url).body == b"abc"


def test_no_more_of_a_body_is_waited_for_than_is_wanted(receive, make_client):
    def script(connection: Connection) -> None:
        connection.take()
        connection.give(CHUNKED + b"5\r\nabcde\r\n")
        connection.receiver.ended.wait(PATIENCE_SECONDS)

    receiver = receive(script)

    assert make_client(answer_bytes_max=5).request("GET", receiver.url).body == b"abcde"


def test_connection_whose_answer_had_two_ends_is_not_used_again(receive, make_client):
    both = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    receiver, client = receive(always(both)), make_client()

    assert [client.post(receiver.url, b"", {}).body for _ in range(2)] == [b"abc", b"abc"]
    assert receiver.accepted == 2


def test_megabyte_comes_whole(receive, make_client):
    body = bytes(range(256)) * 4096
    chunks = b"".join(b"1000\r\n" + body[at : at + 4096] + b"\r\n" for at in range(0, len(body), 4096))
    receiver = receive(always(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"))

    assert make_client(answer_bytes_max=2**20, truncate=False).request("GET", receiver.url).body == body


@pytest.mark.parametrize("truncate", [True, False])
@pytest.mark.parametrize(
    ("method", "head"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n"),
        ("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("DELETE", b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("POST", b"HTTP/1.1 204 No Content\r\nContent-Length: 10\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5000\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ],
)
def test_answer_that_cannot_have_a_body_is_not_waited_for(method, head, truncate, receive, make_client):
    receiver = receive(always(head))
    client = make_client(answer_bytes_max=1000, truncate=truncate)

    assert [client.request(method, receiver.url).body for _ in range(2)] == [b"", b""]
    assert receiver.accepted == 1


def test_one_request_may_have_less_time_than_others(receive, make_client):
    receiver = receive(lambda connection: connection.receiver.ended.wait(PATIENCE_SECONDS))

    with pytest.raises(Unreachable, match=r"within 0\.2 seconds"):
        make_client(seconds=PATIENCE_SECONDS).request("GET", receiver.url, seconds=0.2)

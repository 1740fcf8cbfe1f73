"""The real server process, spoken to in raw HTTP: what a test client would be too polite to send."""

import json
import re
import signal
import socket
from contextlib import suppress

import pytest

import signing
from limits import BODY_BYTES_MAX, BODY_SECONDS
from tests.e2e.server import PATIENCE_SECONDS, served, talk
from tests.factories import SECRET, make_body


def webhook(body: bytes, *headers: str, signed: bytes | None = None) -> bytes:
    """Write a request head for the webhook and put the given bytes behind it, whatever they are."""
    signature = signing.sign(body if signed is None else signed, SECRET)
    lines = [
        "POST /api/v1/webhook/bank/ HTTP/1.1",
        "Host: localhost",
        "Connection: close",
        "Content-Type: application/json",
        f"X-Signature: {signature}",
        *headers,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def chunked(*chunks: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in (*chunks, b""))


def send_chunked(port: int, framed: bytes, *, signed: bytes = b"") -> tuple[int, dict[str, str], bytes]:
    head = webhook(b"", "Transfer-Encoding: chunked", signed=signed)
    return talk(port, head + framed, half_close=True)


def test_chunked_body_is_verified_as_a_whole(port):
    body = make_body()

    assert send_chunked(port, chunked(body[:10], body[10:]), signed=body)[0] == 200


@pytest.mark.parametrize(
    "framed", [b"zz\r\n\r\n", b"-5\r\nabc\r\n", b"5\r\nab", b"\r\n\r\n", b"5;\x00\r\nabcde\r\n0\r\n\r\n"]
)
def test_chunks_that_cannot_be_read_are_a_problem_and_no_crash(port, framed):
    status, headers, _ = send_chunked(port, framed)

    assert (status, headers["content-type"]) == (400, "application/problem+json")


def test_chunked_body_over_the_limit_is_413_even_when_its_beginning_is_signed(port):
    signed = make_body().ljust(BODY_BYTES_MAX)

    assert send_chunked(port, chunked(signed), signed=signed)[0] == 200
    assert send_chunked(port, chunked(signed, b"EVIL" * 1000), signed=signed)[0] == 413
    assert send_chunked(port, chunked(signed, b"E"), signed=signed)[0] == 413


def test_declared_length_over_the_limit_is_413_before_anything_is_read(port):
    assert talk(port, webhook(b"", f"Content-Length: {BODY_BYTES_MAX + 1}"), half_close=True)[0] == 413
    assert talk(port, webhook(b"", "Content-Length: 99999999999999999999"), half_close=True)[0] == 413


def test_body_that_breaks_off_is_refused_though_its_beginning_is_signed(port):
    body = make_body()

    status, headers, _ = talk(port, webhook(body, f"Content-Length: {len(body) + 10}"), half_close=True)

    assert (status, headers["content-type"]) == (400, "application/problem+json")


def test_body_that_does_not_arrive_in_time_is_408(port):
    status, headers, answer = talk(port, webhook(b'{"operation_id": ', "Content-Length: 200"))

    assert (status, headers["content-type"]) == (408, "application/problem+json")
    assert f"within {BODY_SECONDS} seconds" in json.loads(answer)["detail"]


def test_headers_that_do_not_arrive_in_time_end_the_connection(port):
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS) as connection:
        connection.sendall(b"POST /api/v1/webhook/bank/ HTTP/1.1\r\nHost: loc")

        assert connection.recv(1) == b""


SECOND = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.parametrize(
    "beginning",
    [
        pytest.param(b"Content-Length: 400\r\n\r\nhello", id="late"),
        pytest.param(b"Transfer-Encoding: chunked\r\n\r\n400\r\nhello", id="late chunk"),
        pytest.param(b"Transfer-Encoding: chunked\r\n\r\n5\r\nhelloXX", id="broken chunk"),
    ],
)
def test_what_follows_a_body_that_failed_is_no_request(port, beginning):
    """On a connection that stays open it would be one that the sender of the body made up."""
    head = b"POST /api/v1/webhook/bank/ HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS) as connection:
        connection.sendall(head + beginning)
        answers = connection.recv(65536)
        with suppress(OSError):
            connection.sendall(SECOND)
            answers += b"".join(iter(lambda: connection.recv(65536), b""))

    assert answers.count(b"HTTP/1.1 ") == 1


def test_endless_body_that_nobody_reads_ends_with_its_connection(port):
    head = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS) as connection:
        connection.sendall(head)
        with pytest.raises(ConnectionError):  # noqa: PT012 - at which of them is open
            for _ in range(1000):
                connection.sendall(b"x" * 1_000_000)


def test_client_that_takes_no_answer_does_not_keep_the_server_from_ending():
    with served() as port, socket.create_connection(("127.0.0.1", port)) as connection:
        connection.settimeout(1)
        request = b"GET /api/v1/openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
        with pytest.raises(TimeoutError):  # noqa: PT012 - at which of them is open
            while True:
                connection.sendall(request * 50)


def test_body_without_a_length_is_an_empty_one(port):
    assert talk(port, webhook(make_body(), signed=b""), half_close=True)[0] == 400


@pytest.mark.parametrize("header", ["Authorization: Basic \xff", "Authorization: Digest x", "Authorization: \xff"])
def test_odd_authorization_is_refused(port, header):
    head = f"POST /api/v1/organizations/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{header}\r\n"

    assert talk(port, head.encode("latin-1") + b"Content-Length: 0\r\n\r\n")[0] == 401


def test_no_header_moves_the_application(port):
    request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nSCRIPT_NAME: /x\r\n\r\n"

    assert talk(port, request)[0] in (200, 400)
    assert talk(port, request.replace(b"/healthz", b"/x/healthz"))[0] in (400, 404)


@pytest.mark.parametrize(
    "header", ["If-Modified-Since: Mon, 01 Jan 99999999999999999999 00:00:00 GMT", "If-Match: x", "Range: bytes=5-"]
)
def test_swagger_files_take_no_conditions(port, header):
    path = "/api/v1/swagger/files/swagger-ui.css"
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{header}\r\n\r\n"

    assert talk(port, request.encode())[0] == 200


def test_doubled_slashes_are_another_address(port):
    request = (
        b"POST //api//v1/webhook/bank/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    )
    status, headers, _ = talk(port, request)

    assert (status, headers["content-type"]) == (404, "application/problem+json")


def test_development_does_not_answer_through_a_proxy(port):
    request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n"

    assert talk(port, request)[0] == 403


def test_answer_names_its_request(port):
    _, headers, body = talk(port, b"GET /nothing HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")

    assert json.loads(body)["status"] == 404
    assert re.fullmatch(r"[0-9a-f]{32}", headers["x-request-id"])


def test_ctrl_c_ends_the_server_and_nobody_is_killed():
    for _ in range(3):
        with served(end_with=signal.SIGINT, to_group=True) as port:
            assert talk(port, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")[0] == 200


@pytest.mark.parametrize("end_with", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_every_request_has_its_line_in_the_access_log_however_the_server_ends(tmp_path, end_with):
    log = tmp_path / "access.log"
    with served(end_with, access_log=log) as port:
        names = [
            talk(port, f"GET /line-{number} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())[1]
            for number in range(200)
        ]
    lines = log.read_text().splitlines()

    for number, headers in enumerate(names):
        (line,) = [line for line in lines if f" /line-{number} " in line]
        assert re.fullmatch(rf"\[[^]]+\] GET /line-{number} 404 [0-9]+us {headers['x-request-id']}", line)


def test_no_path_can_forge_a_line_of_the_access_log(tmp_path):
    log = tmp_path / "access.log"
    with served(access_log=log) as port:
        path = b"/x%0aFORGED%1b[31m%c2%9b%e2%80%ae?secret=1"
        talk(port, b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    lines = log.read_bytes().splitlines()

    (line,) = [line for line in lines if b"FORGED" in line]
    assert b"GET /x%0AFORGED%1B%5B31m%C2%9B%E2%80%AE 404 " in line
    assert line.isascii()
    assert b"secret" not in line
    assert all(line.startswith(b"[") for line in lines)

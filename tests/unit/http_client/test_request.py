"""Requests of every method and with every kind of body, as they arrive at a real server."""

import base64
import json
import re
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from http_client import addresses
from http_client.connection import Unreachable
from http_client.request import METHODS, Request, build_request
from tests.unit.http_client.servers import OK, always

TARGET = addresses.split("https://bank.ru/pay")
PASSWORD = "пароль:with colon"


def line_of(request: bytes) -> str:
    return request.partition(b"\r\n")[0].decode()


def headers_of(request: bytes) -> dict[str, str]:
    lines = request.partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
    return {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}


def body_of(request: bytes) -> bytes:
    return request.partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize("method", METHODS)
def test_each_method_arrives_under_its_name(method, receive, client):
    receiver = receive(always(OK[:-2]) if method == "HEAD" else None)

    assert client.request(method, receiver.url).status == 200
    assert [line_of(request) for request in receiver.requests] == [f"{method} /hook HTTP/1.1"]


@pytest.mark.parametrize(
    "method", ["get", "Get", "TRACE", "CONNECT", "OPTIONS", "", "GET / HTTP/1.1\r\nA: b\r\n\r\nGET"]
)
def test_other_methods_are_not_sent(method, receive, client):
    receiver = receive()

    with pytest.raises(ValueError, match="method"):
        client.request(method, receiver.url)
    assert receiver.accepted == 0


def test_form_arrives_as_form_in_utf8(receive, client):
    receiver = receive()
    form = {"userName": "shop-api", "amount": 145000, "description": "Счёт № 1 & 2=3; 100%+\r\n"}

    client.request("POST", receiver.url, form=form)

    (request,) = receiver.requests
    assert headers_of(request)["content-type"] == "application/x-www-form-urlencoded"
    assert dict(parse_qsl(body_of(request).decode("ascii"), strict_parsing=True)) == form | {"amount": "145000"}


def test_json_arrives_compact_and_in_utf8(receive, client):
    receiver = receive()

    client.request("PUT", receiver.url, json={"amount": {"value": "10.00"}, "who": ["Ёж", None, True]})

    (request,) = receiver.requests
    assert headers_of(request)["content-type"] == "application/json"
    assert body_of(request) == '{"amount":{"value":"10.00"},"who":["Ёж",null,true]}'.encode()


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=5))
def test_any_json_is_read_as_it_was_given(value):
    if value is not None:
        assert json.loads(body_of(build_request("POST", TARGET, json=value).data)) == value


@given(st.dictionaries(st.text(), st.text(), max_size=5), st.sampled_from(["", "?a=b"]))
def test_any_query_is_read_as_it_was_given(query, before):
    target = addresses.split(f"https://bank.ru/pay{before}")
    path = line_of(build_request("GET", target, query=query).data).split(" ")[1]

    assert dict(parse_qsl(urlsplit(path).query, keep_blank_values=True)) == dict(parse_qsl(before[1:])) | query


def test_content_type_of_the_caller_goes_before_that_of_the_body(receive, client):
    receiver = receive()

    client.request("POST", receiver.url, json={}, headers={"content-type": "application/vnd.bank+json"})

    assert re.findall(rb"(?i)content-type: (.*)\r", receiver.requests[0]) == [b"application/vnd.bank+json"]


@pytest.mark.parametrize(
    "bodies",
    [
        {"body": b"", "form": {}},
        {"form": {}, "json": 1},
        {"body": b"", "json": False},
        {"body": b"", "form": {}, "json": 1},
    ],
)
def test_two_bodies_are_not_sent(bodies, receive, client):
    receiver = receive()

    with pytest.raises(ValueError, match="one body"):
        client.request("POST", receiver.url, **bodies)
    assert receiver.accepted == 0


@pytest.mark.parametrize("bodies", [{"body": b""}, {"form": {"a": "b"}}, {"json": {}}])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_reading_methods_carry_no_body(method, bodies, client):
    with pytest.raises(ValueError, match="carries no body"):
        client.request(method, "http://127.0.0.1/", **bodies)


@pytest.mark.parametrize(
    ("method", "length"), [("GET", None), ("HEAD", None), ("DELETE", None), ("POST", "0"), ("PUT", "0"), ("PATCH", "0")]
)
def test_request_without_body_says_so_where_one_is_expected(method, length):
    assert headers_of(build_request(method, TARGET).data).get("content-length") == length


def test_delete_may_carry_a_body():
    assert body_of(build_request("DELETE", TARGET, json={"a": 1}).data) == b'{"a":1}'


def test_user_and_password_go_out_in_utf8(receive, client):
    receiver = receive()

    client.request("GET", receiver.url, basic_auth=("магазин", PASSWORD))

    scheme, _, credentials = headers_of(receiver.requests[0])["authorization"].partition(" ")
    assert (scheme, base64.b64decode(credentials).decode()) == ("Basic", f"магазин:{PASSWORD}")


@pytest.mark.parametrize(
    "pair", [("a:b", PASSWORD), ("a\r\n", PASSWORD), ("a", f"{PASSWORD}\n"), ("a", f"{PASSWORD}\ud800")]
)
def test_user_and_password_that_cannot_be_sent_are_not_repeated(pair):
    with pytest.raises(ValueError, match="User and password") as caught:
        build_request("GET", TARGET, basic_auth=pair)

    assert PASSWORD not in repr(caught.value)
    assert caught.value.__cause__ is None


def test_request_does_not_show_what_it_holds():
    request = build_request("POST", TARGET, basic_auth=("shop", "pass-word"), form={"password": "pass-word"})

    assert repr(request) == "Request(method='POST')"
    assert isinstance(request, Request)


def test_password_is_not_in_the_words_of_a_failure(receive, client):
    def script(connection):
        connection.take()
        connection.give(connection.receiver.requests[0])

    receiver = receive(script)

    with pytest.raises(Unreachable) as caught:
        client.request("POST", receiver.url, basic_auth=("shop", "pass-word"), form={"password": "pass-word"})
    assert "pass-word" not in str(caught.value)
    assert base64.b64encode(b"shop:pass-word").decode() not in str(caught.value)


@pytest.mark.parametrize("name", ["Host: evil.ru", "Transfer-Encoding: chunked; a", "X: y", "X ", "", "X\r\nHost"])
def test_name_of_a_header_that_holds_more_than_a_name_is_not_sent(name):
    with pytest.raises(ValueError, match="cannot be sent"):
        build_request("POST", TARGET, headers={name: "1"})


@pytest.mark.parametrize("name", ["Host", "content-length", "Transfer-Encoding"])
def test_headers_that_say_where_a_request_ends_are_not_for_the_caller(name):
    with pytest.raises(ValueError, match="not for the caller"):
        build_request("POST", TARGET, headers={name: "1"})


@pytest.mark.parametrize(
    "how",
    [
        {"headers": {"Authorization": "Bearer a"}, "basic_auth": ("a", "b")},
        {"headers": {"X-A": "a", "x-a": "b"}},
        {"headers": {"user-agent": "a"}},
    ],
)
def test_header_that_would_go_out_twice_is_not_sent(how):
    with pytest.raises(ValueError, match="twice"):
        build_request("POST", TARGET, **how)


@pytest.mark.parametrize("part", ["json", "form", "query"])
def test_what_cannot_be_written_is_refused_without_being_quoted(part):
    with pytest.raises(ValueError, match="cannot be sent") as caught:
        build_request("POST", addresses.split("https://bank.ru/"), **{part: {"card": "4444 \ud800"}})
    assert "4444" not in repr(caught.value)
    assert caught.value.__cause__ is None

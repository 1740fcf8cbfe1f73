"""The real server behind a real nginx: headers that do not decide, idle connections, prefixes, strangers."""

import json
import os
import re
import socket
import urllib.request
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urljoin

import pytest

import signing
from config import Config, ConfigError
from limits import HEADER_SECONDS, IDLE_SECONDS
from tests.e2e.server import PATIENCE_SECONDS, served, talk
from tests.factories import SECRET, make_body
from tests.nginx import in_front

PRODUCTION = {"KOPECK_ENV": "production"}
SCHEMES = {
    "X-Forwarded-Proto": ("https", "http", "https, http", "nonsense"),
    "X-Forwarded-Protocol": ("ssl", "https", "http"),
    "X-Forwarded-Ssl": ("on", "off"),
    "X-Forwarded-Scheme": ("http",),
    "X-Url-Scheme": ("http",),
    "Front-End-Https": ("on", "off"),
    "Forwarded": ("proto=http;host=evil.example", "for=[::1"),
    "X-Forwarded-Host": ("evil.example",),
    "X-Forwarded-Port": ("1",),
    "X-Forwarded-Prefix": ("/evil",),
    "X-Script-Name": ("/evil",),
    "X-Original-Url": ("/evil",),
    "Via": ("1.1 proxy",),
}
ONE_BY_ONE = [(name, value) for name, values in SCHEMES.items() for value in values]
PAIRS = list(combinations(ONE_BY_ONE, 2))


@pytest.fixture(scope="module")
def production() -> Iterator[int]:
    with served(environ=PRODUCTION) as port:
        yield port


@pytest.fixture(scope="module")
def front(production) -> Iterator[int]:
    with in_front(f"location / {{ proxy_pass http://127.0.0.1:{production}; }}") as port:
        yield port


def webhook(*headers: tuple[str, str], keep: bool = True) -> bytes:
    body = make_body()
    lines = [
        "POST /api/v1/webhook/bank/ HTTP/1.1",
        "Host: kopeck.example",
        f"Connection: {'keep-alive' if keep else 'close'}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        f"X-Signature: {signing.sign(body, SECRET)}",
        *(f"{name}: {value}" for name, value in headers),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def exchange(connection: socket.socket, request: bytes) -> tuple[int, bytes]:
    """Send a request and read its whole answer, on a connection that stays open."""
    connection.sendall(request)
    answer = b""
    while b"\r\n\r\n" not in answer:
        piece = connection.recv(65536)
        assert piece, answer
        answer += piece
    head, _, body = answer.partition(b"\r\n\r\n")
    length = int(re.search(rb"(?i)content-length: *(\d+)", head)[1])
    while len(body) < length:
        body += connection.recv(65536)
    return int(head.split()[1]), body


def get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=PATIENCE_SECONDS) as answer:
        return answer.read()


# ---- Headers


@pytest.mark.parametrize("way", ["nginx", "directly"])
def test_no_header_of_a_proxy_decides_alone_or_beside_another(way, front, production):
    with socket.create_connection(("127.0.0.1", front if way == "nginx" else production)) as connection:
        connection.settimeout(PATIENCE_SECONDS)
        answers = {}
        for headers in [*((one,) for one in ONE_BY_ONE), *PAIRS]:
            status, body = exchange(connection, webhook(*headers))
            answers[headers] = (status, json.loads(body)["status"])

    assert {headers: answer for headers, answer in answers.items() if answer != (200, "credited")} == {}


def test_headers_that_nginx_is_usually_told_to_add_do_not_decide(production):
    added = "".join(
        f"proxy_set_header {name} {value};"
        for name, value in {
            "Host": "$host",
            "X-Real-IP": "$remote_addr",
            "X-Forwarded-For": "$proxy_add_x_forwarded_for",
            "X-Forwarded-Proto": "https",
            "X-Forwarded-Host": "$host",
        }.items()
    )
    with in_front(f"location / {{ proxy_pass http://127.0.0.1:{production}; {added} }}") as port:
        for header in ONE_BY_ONE:
            assert talk(port, webhook(header, keep=False))[0] == 200


# ---- Idle connections


@pytest.mark.parametrize("beginning", [b"", b"\r\n", b"\r\n\r\n"], ids=["at once", "empty line", "empty lines"])
def test_idle_connection_outlasts_the_time_for_headers_and_slow_headers_do_not(production, beginning):
    """The limits are looked at in order: what ends after HEADER_SECONDS tells that so much time has gone."""
    assert HEADER_SECONDS < 60 < IDLE_SECONDS
    places = ("127.0.0.1", production)
    with (
        socket.create_connection(places, PATIENCE_SECONDS) as idle,
        socket.create_connection(places, PATIENCE_SECONDS) as slow,
    ):
        assert exchange(idle, webhook())[0] == 200
        assert exchange(slow, webhook())[0] == 200
        slow.sendall(beginning + b"GET /healthz HTTP/1.1\r\nHost: loc")
        # Python's parser takes no empty lines at all, and says so at once.
        assert b"".join(iter(lambda: slow.recv(65536), b""))[:12] in (b"", b"HTTP/1.1 400")

        assert exchange(idle, webhook())[0] == 200


def test_new_connection_that_says_nothing_ends_with_the_time_for_headers(production):
    with socket.create_connection(("127.0.0.1", production), PATIENCE_SECONDS) as silent:
        assert silent.recv(1) == b""


def test_idle_connections_make_room_the_oldest_first():
    few = {**PRODUCTION, "GUNICORN_CMD_ARGS": "--workers 1 --worker-connections 5"}
    with served(environ=few) as port:
        connections = []
        for _ in range(20):
            connections.append(socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS))
            assert exchange(connections[-1], webhook())[0] == 200

        assert connections[0].recv(1) == b""
        assert exchange(connections[-1], webhook())[0] == 200
        for connection in connections:
            connection.close()


def test_requests_that_are_sent_ahead_are_all_answered(production):
    with socket.create_connection(("127.0.0.1", production), PATIENCE_SECONDS) as connection:
        connection.sendall(webhook() * 2 + webhook() + webhook(keep=False))
        answers = b"".join(iter(lambda: connection.recv(65536), b""))

    assert answers.count(b"HTTP/1.1 200") == 4
    assert [answers.count(word) for word in (b'"credited"', b'"duplicate"')] == [3, 1]


def test_idle_connections_do_not_keep_the_server_from_ending():
    lines: list[str] = []
    with served(environ=PRODUCTION, log_lines=lines) as port:
        idle = socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS)
        assert exchange(idle, webhook())[0] == 200

    assert idle.recv(1) == b""
    idle.close()
    assert "graceful timeout" not in "".join(lines)


def test_nginx_may_keep_its_connections(production):
    upstream = f"upstream kopeck {{ server 127.0.0.1:{production}; keepalive 4; }}"
    kept = 'location / { proxy_pass http://kopeck; proxy_http_version 1.1; proxy_set_header Connection ""; }'
    with in_front(kept, http=upstream) as port:
        assert [talk(port, webhook(keep=False))[0] for _ in range(20)] == [200] * 20


# ---- Prefixes


@pytest.fixture(scope="module", params=["/", "/kopeck/", "/a/b/"])
def site(request, production) -> Iterator[str]:
    """Give the address under which nginx serves Kopeck, which it takes off the path."""
    location = f"location {request.param} {{ proxy_pass http://127.0.0.1:{production}/; }}"
    with in_front(location) as port:
        yield f"http://127.0.0.1:{port}{request.param}"


@pytest.mark.parametrize("last", ["swagger/", "swagger"])
def test_swagger_page_finds_its_files_and_its_document_under_any_prefix(site, last):
    address = urljoin(site, f"api/v1/{last}")
    page = get(address).decode()
    found = [urljoin(address, place) for place in re.findall(r'(?:href|src|url)[=:] ?"([^"]+)"', page)]

    assert len(found) == 4
    assert all(place.startswith(site) for place in found)
    assert all(get(place) for place in found)


def test_document_names_the_server_under_any_prefix(site):
    address = urljoin(site, "api/v1/openapi.json")
    document = json.loads(get(address))
    (server,) = document["servers"]
    base = urljoin(address, server["url"])

    assert base == site
    path = next(path for path in document["paths"] if path == "/healthz")
    assert json.loads(get(base.rstrip("/") + path))


def test_prefix_that_gunicorn_would_expect_is_refused_at_start(tmp_path):
    settings = {"BANK_WEBHOOK_SECRETS": SECRET, "SECRETS_KEYS": SECRET, "SCRIPT_NAME": "/kopeck"}
    with pytest.raises(ConfigError, match="SCRIPT_NAME"):
        Config.from_env(settings)


# ---- Strangers in development

PLAIN = "proxy_pass http://127.0.0.1:{port};"
MODERN = 'proxy_pass http://127.0.0.1:{port}; proxy_http_version 1.1; proxy_set_header Connection "";'
NAMED = MODERN + " proxy_set_header Host 127.0.0.1:{port}; {header}"
ADDED = [
    *("X-Forwarded-For $remote_addr", "X-Real-IP $remote_addr", "X-Forwarded-Proto $scheme", "X-Forwarded-Host $host"),
    *(
        "Forwarded for=$remote_addr",
        "Via nginx",
        "X-Forwarded-Port 443",
        "X-Client-IP $remote_addr",
        "X-Original-Host $host",
    ),
    *("CF-Connecting-IP $remote_addr", "True-Client-IP $remote_addr", "X-NginX-Proxy true", "X-Forwarded-Server $host"),
]
READS = ("/api/v1/organizations/", "/api/v1/incidents/", "/api/v1/openapi.json", "/healthz")


@pytest.fixture(scope="module")
def development() -> Iterator[int]:
    with served() as port:
        yield port


def refusal(port: int, path: str) -> tuple[int, str]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"Host": "kopeck.example"})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:
            return answer.status, ""
    except HTTPError as error:
        return error.code, json.loads(error.read())["type"]


@pytest.mark.parametrize(
    "location", [PLAIN, *(NAMED.replace("{header}", f"proxy_set_header {name};") for name in ADDED)]
)
def test_development_does_not_answer_through_nginx(location, development):
    with in_front(
        f"location / {{ {location.format(port=development)} }}", user="user root;" if is_root() else ""
    ) as port:
        for path in READS:
            assert refusal(port, path) == (403, "urn:kopeck:problem:loopback-only")


def test_development_does_not_answer_programs_of_another_user(development):
    if not is_root() or not Path("/proc/net/tcp").exists():
        pytest.skip("only root can start nginx as another user: not tried")
    with in_front(f"location / {{ {MODERN.format(port=development)} }}", user="user www-data;") as port:
        assert refusal(port, "/api/v1/organizations/") == (403, "urn:kopeck:problem:loopback-only")


def test_development_answers_this_machine_itself(development):
    for path in READS:
        assert refusal_by_own_name(development, path) == 200


def refusal_by_own_name(port: int, path: str) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE_SECONDS) as answer:
        return answer.status


def is_root() -> bool:
    return os.geteuid() == 0

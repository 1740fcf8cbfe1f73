"""How a request is written: the line, the headers, and a body of bytes, of a form or of JSON.

Used by the client. Never repeats in an error what it was given, which may be secret.
"""

import base64
import json as codec
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from http_client import addresses
from http_client.addresses import Target

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE"})
"""What RFC 9110 lets a client send once more when it cannot know whether the first time arrived."""

BODILESS_METHODS = frozenset({"GET", "HEAD"})
EXPECTING_BODY = frozenset({"POST", "PUT", "PATCH"})
"""What says that its body is empty; of the others a server expects none."""

NAME_CHARACTERS = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
VALUE_CHARACTERS = re.compile(r"[\t\x20-\x7e]*")
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
OURS = frozenset({"host", "content-length", "transfer-encoding"})
"""Headers that say where a request goes and where it ends."""

Values = Mapping[str, str | int]
"""The fields of a form or of a query."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """A request as it goes out, and what its connection has to know of it."""

    method: str
    data: bytes = field(repr=False)

    @property
    def is_idempotent(self) -> bool:
        """Whether it does no more when it arrives twice than when it arrives once."""
        return self.method in IDEMPOTENT


def build_request(
    method: str,
    target: Target,
    *,
    query: Values | None = None,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    form: Values | None = None,
    json: Any = None,
    basic_auth: tuple[str, str] | None = None,
) -> Request:
    """Write a request; raise ValueError for one that cannot be sent, or that would be understood in two ways."""
    if method not in METHODS:
        raise ValueError(f"The method is none of {', '.join(METHODS)}.")
    content, content_type = _content(body, form, json)
    if method in BODILESS_METHODS and content is not None:
        raise ValueError(f"A {method} carries no body.")
    if content is None and method in EXPECTING_BODY:
        content = b""
    head = [
        ("Host", authority(target, default_port=addresses.USUAL_PORTS[target.scheme])),
        ("User-Agent", "Kopeck"),
        ("Accept-Encoding", "identity"),
        *([("Content-Length", str(len(content)))] if content is not None else []),
        *_given(headers or {}, content_type),
        *([("Authorization", basic_authorization(*basic_auth))] if basic_auth else []),
    ]
    line = f"{method} {_with_query(target.path, query)} HTTP/1.1"
    return Request(method=method, data=head_bytes(line, head) + (content or b""))


def authority(target: Target, *, default_port: int | None = None) -> str:
    """Return host and port as headers name them, without a port that goes without saying."""
    host = f"[{target.host}]" if ":" in target.host else target.host
    return host if target.port == default_port else f"{host}:{target.port}"


def basic_authorization(user: str, password: str) -> str:
    """Return the value of the header that shows user and password (RFC 7617, UTF-8); raise ValueError."""
    if ":" in user or CONTROL.search(user + password):
        raise ValueError("User and password hold no control characters, and the user no colon.")
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


def head_bytes(line: str, headers: list[tuple[str, str]]) -> bytes:
    """Write the head of a request; raise ValueError for a header that would be more than one, or is given twice."""
    names, values = [name for name, _ in headers], [value for _, value in headers]
    # Both are sets of characters: what holds for all of them together holds for each.
    if not (all(names) and NAME_CHARACTERS.fullmatch("".join(names)) and VALUE_CHARACTERS.fullmatch("".join(values))):
        raise ValueError("A header holds something that cannot be sent.")
    if len({name.lower() for name in names}) < len(names):
        raise ValueError("A header is given twice.")
    lines = (f"{name}: {value}" for name, value in headers)
    return "\r\n".join((line, *lines, "", "")).encode("ascii")


def _content(body: bytes | None, form: Values | None, json: Any) -> tuple[bytes | None, str | None]:
    """Return the bytes of the body and their type, which is None for bytes that the caller wrote himself."""
    if sum(given is not None for given in (body, form, json)) > 1:
        raise ValueError("A request has one body: give bytes, a form or JSON.")
    if form is not None:
        return _encoded(form), "application/x-www-form-urlencoded"
    if json is not None:
        return _encoded(
            codec.dumps(json, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        ), "application/json"
    return body, None


def _encoded(content: Values | str) -> bytes:
    try:
        return (content if isinstance(content, str) else urlencode(content)).encode()
    except UnicodeError:
        # Not the error itself: it holds everything that was to be sent.
        raise ValueError("The body or the query holds something that cannot be sent.") from None


def _given(headers: Mapping[str, str], content_type: str | None) -> list[tuple[str, str]]:
    """Return the headers of the caller, whose Content-Type goes before that of the body."""
    names = {name.lower() for name in headers}
    if names & OURS:
        raise ValueError("A header that says where a request goes or ends is not for the caller to give.")
    ours = [] if content_type is None or "content-type" in names else [("Content-Type", content_type)]
    return [*ours, *headers.items()]


def _with_query(path: str, query: Values | None) -> str:
    if not query:
        return path
    return f"{path}{'&' if '?' in path else '?'}{_encoded(query).decode()}"

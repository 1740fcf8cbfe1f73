"""Where the body of an answer ends (RFC 9112, 6 and 7), and its beginning, read up to a limit.

Used by the connection. http.client reads the head of an answer only: it takes much for the end of a body that is none.
"""

import re
from http.client import HTTPException, HTTPResponse
from io import BufferedReader
from typing import NamedTuple

from limits import ANSWER_HEAD_BYTES_MAX

BODILESS_STATUSES = frozenset({204, 304})
LENGTH = re.compile(r"[0-9]{1,18}")
CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(;.*)?")


class Body(NamedTuple):
    """What was read of a body, and whether its end was, so that another answer can follow it."""

    content: bytes
    has_ended: bool


def read_body(
    reader: BufferedReader, response: HTTPResponse, *, method: str, bytes_max: int, strict: bool, encrypted: bool
) -> Body:
    """Return the beginning of a body; raise HTTPException if it breaks off, or if its end cannot be told.

    `strict` refuses more: an answer that says two ways where it ends, and one that ends with the connection unless
    TLS says that nothing was cut off.
    """
    lengths, codings = _listed(response, "Content-Length"), _listed(response, "Transfer-Encoding")
    if method == "HEAD" or response.status in BODILESS_STATUSES:
        # Whatever its headers announce is not there.
        return Body(b"", has_ended=True)
    if strict and codings and (lengths or codings != ["chunked"]):
        raise HTTPException
    if codings == ["chunked"]:
        body = _read_chunks(reader, bytes_max)
        # Both headers may disagree about where the next answer begins (RFC 9112, 6.3).
        return body._replace(has_ended=body.has_ended and not lengths)
    if lengths and not codings:
        return _read_length(reader, _length(lengths), bytes_max)
    if strict and not encrypted:
        raise HTTPException
    return Body(reader.read(bytes_max), has_ended=False)


def _listed(response: HTTPResponse, name: str) -> list[str]:
    """Return the members of a header that is a list, from all of its lines."""
    lines = response.headers.get_all(name, [])
    return [member.strip(" \t").lower() for line in lines for member in line.split(",")]


def _length(lengths: list[str]) -> int:
    if len(set(lengths)) > 1 or not LENGTH.fullmatch(lengths[0]):
        raise HTTPException
    return int(lengths[0])


def _read_length(reader: BufferedReader, length: int, bytes_max: int) -> Body:
    return Body(_exactly(reader, min(length, bytes_max)), has_ended=length <= bytes_max)


def _read_chunks(reader: BufferedReader, bytes_max: int) -> Body:
    content = bytearray()
    while size := _chunk_size(_line(reader)):
        content += _exactly(reader, min(size, bytes_max - len(content)))
        if len(content) == bytes_max:
            # As much as is wanted; the rest may be long in coming.
            return Body(bytes(content), has_ended=False)
        if _exactly(reader, 2) != b"\r\n":
            raise HTTPException
    while _line(reader):  # trailers
        pass
    return Body(bytes(content), has_ended=True)


def _chunk_size(line: bytes) -> int:
    shape = CHUNK_SIZE.fullmatch(line)
    if shape is None:
        raise HTTPException
    return int(shape[1], 16)


def _line(reader: BufferedReader) -> bytes:
    line = reader.readline(ANSWER_HEAD_BYTES_MAX)
    if not line.endswith(b"\n"):
        raise HTTPException
    return line.removesuffix(b"\n").removesuffix(b"\r")


def _exactly(reader: BufferedReader, count: int) -> bytes:
    data = reader.read(count)
    if len(data) < count:
        raise HTTPException
    return data

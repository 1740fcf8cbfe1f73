"""The hostile bank's own sockets: requests sent in parts, answers not waited for, connections kept or torn down.

Called by play.py and shop.py. Unlike Kopeck's transport it may misbehave; it never judges an answer.
"""

import json
import socket
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any

from http_client import addresses

ANSWER_SECONDS = 30
ANSWER_BYTES_MAX = 16 * 1024 * 1024
IDLE_SECONDS = 2
"""A connection that was silent for longer may be closed by the shop at any moment, which would look like an outage."""

RESET = struct.pack("ii", 1, 0)


class ShopSilent(Exception):
    """Nothing that can be read came from an address; the message says why in our own words."""


@dataclass(frozen=True)
class Reply:
    """An answer: its status, and the JSON in it if it is JSON."""

    status: int
    content: Any = None

    @property
    def word(self) -> str | None:
        """Return what the shop says became of a webhook, if it says so."""
        word = self.content.get("status") if isinstance(self.content, dict) else None
        return word if isinstance(word, str) else None

    @property
    def is_ack(self) -> bool:
        """Tell whether the bank need not repeat."""
        return 200 <= self.status < 300


class Line:
    """One connection to one address: opened when needed, kept between requests."""

    def __init__(self, url: str, seconds: float = ANSWER_SECONDS) -> None:
        self._target = addresses.split(url)
        kind = HTTPSConnection if self._target.scheme == "https" else HTTPConnection
        self._connection = kind(self._target.host, self._target.port, timeout=seconds)
        self._used_at = 0.0

    def begin(self, body: bytes, headers: Mapping[str, str], *, held_back: int = 1) -> None:
        """Send a request but for the last bytes of its body; what goes wrong shows when the answer is read."""
        if time.monotonic() > self._used_at + IDLE_SECONDS:
            self.close()
        self._rest = body[max(len(body) - held_back, 0) :]
        try:
            self._connection.putrequest("POST", self._target.path, skip_accept_encoding=True)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self._connection.putheader(name, value)
            self._connection.endheaders(body[: len(body) - len(self._rest)])
        except (OSError, HTTPException):
            # A shop may answer a large body before it has read it all; that answer is still there to be read.
            self._rest = b""

    def finish(self) -> None:
        """Send the last bytes."""
        try:
            if self._rest:
                self._connection.send(self._rest)
        except OSError:
            self._rest = b""

    def answer(self) -> Reply | None:
        """Read the answer; None when there is none."""
        try:
            response = self._connection.getresponse()
            text = response.read(ANSWER_BYTES_MAX)
            if response.will_close or not response.isclosed():
                self._connection.close()
        except (OSError, HTTPException, ValueError):
            self.close()
            return None
        self._used_at = time.monotonic()
        return Reply(response.status, _json(text))

    def get(self, path: str, headers: Mapping[str, str]) -> Reply | None:
        """Send a GET to the same host and read its answer."""
        try:
            self._connection.request("GET", path, headers=dict(headers))
        except (OSError, HTTPException):
            self.close()
            return None
        return self.answer()

    def close(self, *, reset: bool = False) -> None:
        """Hang up: in good order, or so that the shop's next write fails."""
        if reset and self._connection.sock is not None:
            self._connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self._connection.close()
        self._used_at = 0.0


def _json(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None

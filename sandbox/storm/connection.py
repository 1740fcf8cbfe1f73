"""The HTTP connections of a storm, which can misbehave: partial requests, unread answers, resets."""

import json
import socket
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any

from http_client import addresses
from sandbox.message import Message

ANSWER_SECONDS = 30
ANSWER_BYTES_MAX = 16 * 1024 * 1024
IDLE_SECONDS = 2
"""A connection that was idle for longer is not reused: the shop may close it at any moment."""

RESET = struct.pack("ii", 1, 0)


class ShopSilent(Exception):
    """A shop gave no usable answer; `message` says why."""

    def __init__(self, message: Message) -> None:
        self.message = message
        super().__init__(message)


@dataclass(frozen=True)
class Reply:
    """An answer: its status, and its JSON if it has one."""

    status: int
    content: Any = None

    @property
    def outcome(self) -> str | None:
        """Return the status that the shop names in its answer, if any."""
        outcome = self.content.get("status") if isinstance(self.content, dict) else None
        return outcome if isinstance(outcome, str) else None

    @property
    def is_ack(self) -> bool:
        """Return whether the answer acknowledges the webhook."""
        return 200 <= self.status < 300


class BankConnection:
    """One connection to one address; opened on demand and reused."""

    def __init__(self, url: str, seconds: float = ANSWER_SECONDS) -> None:
        self._target = addresses.split(url)
        kind = HTTPSConnection if self._target.scheme == "https" else HTTPConnection
        self._connection = kind(self._target.host, self._target.port, timeout=seconds)
        self._used_at = 0.0

    def begin(self, body: bytes, headers: Mapping[str, str], *, held_back: int = 1) -> None:
        """Send a request without the last bytes of its body; errors show when the answer is read."""
        if time.monotonic() > self._used_at + IDLE_SECONDS:
            self.close()
        self._rest = body[max(len(body) - held_back, 0) :]
        try:
            self._connection.putrequest("POST", self._target.path, skip_accept_encoding=True)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self._connection.putheader(name, value)
            self._connection.endheaders(body[: len(body) - len(self._rest)])
        except (OSError, HTTPException):
            # A shop may answer a large body before it has read all of it. That answer can still be read.
            self._rest = b""

    def finish(self) -> None:
        """Send the last bytes."""
        try:
            if self._rest:
                self._connection.send(self._rest)
        except OSError:
            self._rest = b""

    def answer(self) -> Reply | None:
        """Read the answer; None if there is none."""
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
        """Close the connection, normally or with a reset."""
        if reset and self._connection.sock is not None:
            self._connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self._connection.close()
        self._used_at = 0.0


def _json(text: bytes) -> Any:
    try:
        # A balance with a fraction must be seen as the shop writes it.
        return json.loads(text, parse_float=Decimal)
    except (ValueError, RecursionError):
        return None

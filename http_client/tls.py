"""TLS apart from the socket: bytes go in and out one piece at a time.

Used by the connection, which waits between two pieces. OpenSSL on a socket of its own goes on for as long as there is
something to read, and looks at no deadline meanwhile: a peer could keep it in one handshake for ever.
"""

import ssl
from typing import Any


class Tls:
    """One side of an encrypted connection, which neither reads nor writes by itself."""

    def __init__(self, context: ssl.SSLContext, host: str) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)

    def shakes_hands(self) -> bool:
        """Return whether more is needed from the other side; raise ssl.SSLError, as for its certificate."""
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return True
        return False

    def feed(self, received: bytes) -> None:
        """Take what came over the connection; nothing means its end."""
        if received:
            self._incoming.write(received)
        else:
            self._incoming.write_eof()

    def to_send(self) -> bytes:
        """Return what must go over the connection now."""
        return self._outgoing.read()

    def encrypt(self, data: bytes) -> bytes:
        """Return what goes over the connection for some data, with whatever was still to be sent."""
        self._tls.write(data)
        return self.to_send()

    def decrypt_into(self, buffer: Any) -> int | None:
        """Write data into a buffer and return how much; None if more must come first, 0 at the end.

        Raises ssl.SSLEOFError for a connection that ended before TLS did.
        """
        try:
            return self._tls.read(len(buffer), buffer)  # type: ignore[return-value] # with a buffer it counts
        except ssl.SSLWantReadError:
            return None

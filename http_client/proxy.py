"""A proxy that lets requests out of a company's network: how its address is written, and how it is asked for a tunnel.

Used by the dialer, and by the settings to check what was given. Never repeats a password.
"""

import re
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import unquote

from http_client import addresses
from http_client.addresses import Target
from http_client.request import Request, authority, basic_authorization, head_bytes

SHAPE = re.compile(
    r"http://(?:(?P<user>[^/?#@:]*)(?::(?P<password>[^/?#@]*))?@)?(?P<place>[^/?#@]+:[0-9]{1,5})/?(?P<dns>\?dns=proxy)?",
    re.IGNORECASE | re.ASCII,
)
WRONG_PASSWORD = 407


@dataclass(frozen=True, kw_only=True)
class Proxy:
    """An HTTP proxy that opens tunnels (CONNECT), to http addresses too.

    It is asked for the address that was judged here, so that neither DNS nor the proxy can lead elsewhere. With
    `resolves_names` it is asked for the name, and where that leads is up to the proxy's own rules.
    """

    host: str
    port: int
    authorization: str | None = field(repr=False)
    resolves_names: bool

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Read `http://[user:password@]host:port[?dns=proxy]`; raise ValueError."""
        parts = SHAPE.fullmatch(url)
        if parts is None:
            raise ValueError(
                "must be a proxy's address, such as http://user:password@proxy.example:3128;"
                " within user and password write @ as %40, and other signs likewise"
            )
        try:
            place = addresses.split(f"http://{parts['place']}")
        except addresses.Unusable:
            raise ValueError("names a host or a port that cannot be: write it as http://proxy.example:3128") from None
        return cls(
            host=place.host,
            port=place.port,
            authorization=_authorization(parts["user"], parts["password"]),
            resolves_names=parts["dns"] is not None,
        )

    def tunnel_request(self, target: Target, host: str) -> Request:
        """Write the request for a tunnel to a target, under the address or the name that the proxy is to use."""
        place = authority(target._replace(host=host))
        headers = [("Host", place), ("User-Agent", "Kopeck")]
        if self.authorization:
            headers.append(("Proxy-Authorization", self.authorization))
        return Request(method="CONNECT", data=head_bytes(f"CONNECT {place} HTTP/1.1", headers))


class TunnelFailed(OSError):
    """The proxy opened no tunnel; the message says why in our own words."""


def _authorization(user: str | None, password: str | None) -> str | None:
    if user is None:
        return None
    try:
        return basic_authorization(unquote(user, errors="strict"), unquote(password or "", errors="strict"))
    except ValueError:
        raise ValueError("has a user or password with signs that cannot be sent") from None

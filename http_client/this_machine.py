"""Whether a request was sent by a program of this machine, and not by a proxy that passes on what strangers send.

Called by the servers that answer this machine only: Kopeck in development, and the sandbox. Reads a WSGI environment.
"""

import os
import re
import sys
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from http_client import addresses

OWN_NAME = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:[0-9]+)?", re.ASCII)

OF_PROXIES = re.compile(
    "HTTP_("
    "FORWARDED|VIA|CDN_LOOP|MAX_FORWARDS|PROXY_.*|FRONT_END_HTTPS|(TRUE_)?CLIENT_IP|X_REWRITE_URL|X_SCRIPT_NAME|"
    "X_(FORWARD|ORIGINAL|REAL|CLIENT|CLUSTER|PROXY|HOST|SCHEME|URL_SCHEME|SSL|NGINX|VARNISH|ENVOY|AMZN?|ARR|AZURE|"
    "GOOGLE|CLOUD_TRACE|VERCEL|NF|TRAEFIK|PREFIX)(_?.*)|"
    "(CF|FASTLY|FLY|NGROK|TAILSCALE|SSL)_.*"
    ")",
    re.ASCII,
)
"""Headers that proxies, balancers and tunnels add, in the form in which WSGI hands them on."""

SOCKETS = ("gunicorn.socket", "werkzeug.socket")
"""Where servers put the connection of a request."""

TCP_TABLES = {4: Path("/proc/net/tcp"), 6: Path("/proc/net/tcp6")}
"""Linux's lists of connections: the two ends in columns 1 and 2, the user of the first one in column 7."""

_verdicts: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()
"""Whether a connection comes from another user: asked once for each, however many requests it carries."""


def stranger(environ: Mapping[str, Any]) -> str | None:
    """Say in a sentence why a request does not come from this machine's user, or return None if it does.

    A proxy is known by its headers, by HTTP/1.0, which nginx speaks to servers by default, and on Linux by its user.
    """
    if not addresses.is_loopback(environ.get("REMOTE_ADDR", "")):
        return "The request comes from another machine."
    if not OWN_NAME.fullmatch(environ.get("HTTP_HOST", "")):
        return "The request asks for another host than this machine."
    if any(map(OF_PROXIES.fullmatch, environ)):
        return "The request came through a proxy: it has a header that proxies add."
    if environ.get("SERVER_PROTOCOL") != "HTTP/1.1":
        return "The request came through a proxy, or from a very old program: it is not HTTP/1.1."
    if _is_from_another_user(environ):
        return "The request comes from a program of another user of this machine, as proxies are."
    return None


def _is_from_another_user(environ: Mapping[str, Any]) -> bool:
    connection = next((environ[name] for name in SOCKETS if environ.get(name) is not None), None)
    if connection is None:
        return False
    if connection not in _verdicts:
        user = peer_user(connection)
        # Root may read everything here anyway.
        _verdicts[connection] = user is not None and user not in (0, os.geteuid())
    return _verdicts[connection]


def peer_user(connection: Any) -> int | None:
    """Return the id of the user whose program is at the other end of a connection; None where nothing says so."""
    try:
        ours, theirs = connection.getsockname(), connection.getpeername()
        table = TCP_TABLES[ip_address(theirs[0]).version].read_text(encoding="ascii")
    except (OSError, ValueError):
        return None
    ends = [_as_in_table(theirs), _as_in_table(ours)]
    return next((int(row[7]) for line in table.splitlines() if (row := line.split())[1:3] == ends), None)


def _as_in_table(end: tuple[Any, ...]) -> str:
    """Write an address as Linux does there: each four bytes as one number of the processor's."""
    packed = ip_address(end[0]).packed
    words = [int.from_bytes(packed[at : at + 4], sys.byteorder) for at in range(0, len(packed), 4)]
    return f"{''.join(f'{word:08X}' for word in words)}:{end[1]:04X}"

"""Where an event may be delivered to: the public internet, and of other addresses only those that the settings allow.

Called by whoever registers an endpoint, and by the dialer for each address before it connects.
Never asks DNS and never opens a socket, so a name that passes here is judged once more by what it resolves to.
"""

import re
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import NamedTuple

import idna

from http_client.networks import ISATAP, NO_NETWORKS, Networks
from limits import URL_CHARACTERS_MAX

URLS_KEPT = 1024
"""How many addresses are kept as they were read: an endpoint gets one event after the other."""

HOST_CHARACTERS_MAX = 253
"""The longest name in DNS, without its last dot."""

# Lists of our own rather than is_global, which differs between the versions of Python that Kopeck runs on.
REFUSED_V4 = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carriers' own, and Alibaba's metadata
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # Azure's host, which looks public
        "169.254.0.0/16",  # link-local, and the metadata of most providers
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # relays to 6to4
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
    )
)
GLOBAL_V6 = IPv6Network("2000::/3")
"""All of IPv6 that is given out for use across the internet; NAT64, mapped and local addresses lie outside of it."""

REFUSED_V6 = tuple(
    IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments: Teredo, ORCHID, benchmarks
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4, which holds an IPv4 address
        "3fff::/20",  # documentation
    )
)
LOOPBACK_V4 = IPv4Network("127.0.0.0/8")
LOOPBACK_V6 = IPv6Address("::1")
LOCAL_SUFFIXES = (".localhost", ".localdomain", ".local", ".internal", ".intranet", ".lan", ".home.arpa")

USUAL_PORTS = {"http": 80, "https": 443}

SHAPE = re.compile(r"(?P<scheme>https?)://(?P<authority>[^/?#]+)(?P<path>[^#]*)(?P<fragment>#.*)?", re.I | re.A)
AUTHORITY = re.compile(r"(?P<host>\[[^\[\]]*\]|[^\[\]:]+)(?::(?P<port>[0-9]{1,5}))?", re.ASCII)
NAME = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?", re.ASCII)
NUMBER = re.compile(r"0x[0-9a-f]*|[0-9]+", re.ASCII)

NOT_HTTPS = "The address must start with https://, so that nobody on the way can read what is sent."
NOT_PUBLIC = (
    "This address is not on the public internet, nor in a network that ENDPOINTS_NETWORKS (in the sandbox "
    "SANDBOX_NETWORKS) lists."
)


class Unusable(ValueError):
    """A URL that no event can be delivered to; the message says why and never quotes it."""


class Target(NamedTuple):
    """A URL taken apart: its host is a name in lower-case ASCII or an address in its usual notation."""

    scheme: str
    host: str
    port: int
    path: str


def is_public(address: str) -> bool:
    """Return whether an IP address belongs to one machine on the public internet; embedded IPv4 never counts as one."""
    parsed = _parsed(address)
    if isinstance(parsed, IPv4Address):
        return not any(parsed in network for network in REFUSED_V4)
    if parsed is None or parsed.scope_id is not None or parsed not in GLOBAL_V6 or parsed.packed[8:12] in ISATAP:
        return False
    return not any(parsed in network for network in REFUSED_V6)


def is_allowed(address: str, *, loopback_allowed: bool, networks: Networks = NO_NETWORKS) -> bool:
    """Return whether an event may be delivered to an IP address."""
    return is_public(address) or (loopback_allowed and _is_loopback_address(address)) or networks.lists(address)


def is_loopback(host: str) -> bool:
    """Return whether a host is this very machine: an address of loopback, in brackets or without, or `localhost`."""
    bracketed = host.startswith("[") and host.endswith("]")
    return host.lower() == "localhost" or _is_loopback_address(host[1:-1] if bracketed else host)


def is_address(host: str) -> bool:
    """Return whether the host of a target is an address rather than a name."""
    return _parsed(host) is not None


def is_name(host: str) -> bool:
    """Return whether a host could be a name in DNS, and no address in whatever notation."""
    name = host.lower().removesuffix(".")
    return bool(NAME.fullmatch(name)) and len(name) <= HOST_CHARACTERS_MAX and not NUMBER.fullmatch(name.split(".")[-1])


def is_localhost(name: str) -> bool:
    """Return whether a name is one that always means this very machine."""
    return f".{name}".endswith(".localhost")


def is_local(name: str) -> bool:
    """Return whether a name is one that means something within one network only."""
    return "." not in name or name.endswith(LOCAL_SUFFIXES)


def problem_with(url: str, *, loopback_allowed: bool, https_only: bool, networks: Networks = NO_NETWORKS) -> str | None:
    """Say in a sentence why a URL cannot be an endpoint, or return None when nothing speaks against it yet."""
    try:
        target = split(url)
    except Unusable as problem:
        return str(problem)
    if https_only and not scheme_fits(target.scheme, target.host, networks):
        return NOT_HTTPS
    if is_address(target.host):
        fits = is_allowed(target.host, loopback_allowed=loopback_allowed, networks=networks)
    elif is_localhost(target.host):
        fits = loopback_allowed
    else:
        # What a local name means is seen when it is resolved.
        fits = bool(networks.listed) or not is_local(target.host)
    return None if fits else NOT_PUBLIC


def problem_with_address(
    address: str, scheme: str, *, loopback_allowed: bool, https_only: bool, networks: Networks
) -> str | None:
    """Say in a sentence why nothing is sent to an IP address by a scheme, or return None."""
    if not is_allowed(address, loopback_allowed=loopback_allowed, networks=networks):
        return NOT_PUBLIC
    return NOT_HTTPS if https_only and not scheme_fits(scheme, address, networks) else None


def scheme_fits(scheme: str, host: str, networks: Networks) -> bool:
    """Return whether production may send to a host by a scheme; a name is judged once more by what it resolves to."""
    listed = networks.lists(host, http=True) if is_address(host) else bool(networks.with_http)
    return scheme == "https" or listed


@lru_cache(maxsize=URLS_KEPT)
def split(url: str) -> Target:
    """Take a URL apart, the same way when it is registered and when it is used; raise Unusable."""
    if len(url) > URL_CHARACTERS_MAX:
        raise Unusable(f"The address is longer than {URL_CHARACTERS_MAX} characters.")
    if not url.isprintable() or " " in url or "\\" in url:
        raise Unusable("The address holds a space, a backslash or a character that cannot be seen.")
    parts = SHAPE.fullmatch(url)
    if parts is None:
        raise Unusable("Give a whole address, one that starts with https:// or http:// and names a host.")
    if parts["fragment"] is not None:
        raise Unusable("Leave out the # and what follows it: it would never reach the other side.")
    if not parts["path"].isascii():
        raise Unusable("After the host only ASCII is possible; write anything else percent-encoded.")
    scheme = parts["scheme"].lower()
    host, port = _host_and_port(parts["authority"], USUAL_PORTS[scheme])
    path = parts["path"] if parts["path"].startswith("/") else f"/{parts['path']}"
    return Target(scheme, host, port, path)


def _host_and_port(authority: str, usual_port: int) -> tuple[str, int]:
    if "@" in authority:
        raise Unusable("Leave out user and password: deliveries are signed instead.")
    parts = AUTHORITY.fullmatch(authority)
    if parts is None:
        raise Unusable("The host or the port of the address cannot be read.")
    port = int(parts["port"] or usual_port)
    if not 1 <= port <= 65535:
        raise Unusable("The port must be a number from 1 to 65535.")
    return _host(parts["host"]), port


def _host(text: str) -> str:
    """Return the host as whoever resolves it would understand it, odd notations of addresses included."""
    if text.startswith("["):
        return _address_v6(text[1:-1])
    name = _ascii(text).lower().removesuffix(".")
    if len(name) > HOST_CHARACTERS_MAX or not NAME.fullmatch(name):
        raise Unusable("The host is neither a name nor an address.")
    # A name whose last part is a number is an address for resolvers, in one of the notations of inet_aton.
    return _address_v4(name) if NUMBER.fullmatch(name.rpartition(".")[2]) else name


def _ascii(name: str) -> str:
    if name.isascii():
        return name
    try:
        # UTS 46 is what browsers do; Python's own codec would send ß to another host.
        return idna.encode(name, uts46=True).decode()
    except UnicodeError:
        raise Unusable("The host's name holds characters that names cannot have.") from None


def _address_v6(text: str) -> str:
    try:
        address = IPv6Address(text)
    except ValueError:
        raise Unusable("Within the brackets is no IPv6 address.") from None
    if address.scope_id is not None:
        raise Unusable("An IPv6 address cannot name a network interface here.")
    return str(address)


def _address_v4(name: str) -> str:
    """Read an address as inet_aton does: up to four numbers, decimal, octal or hexadecimal, the last one the rest."""
    problem = Unusable("The host ends in a number and yet is no IPv4 address.")
    texts = name.split(".")
    if len(texts) > 4 or not all(NUMBER.fullmatch(text) and len(text) <= 20 for text in texts):
        raise problem
    try:
        *heads, last = [_number(text) for text in texts]
    except ValueError:
        raise problem from None
    if any(head > 255 for head in heads) or last >= 256 ** (4 - len(heads)):
        raise problem
    return str(IPv4Address(sum(head << 8 * (3 - place) for place, head in enumerate(heads)) + last))


def _number(text: str) -> int:
    if text.startswith("0x"):
        return int(text[2:] or "0", 16)
    return int(text, 8 if text.startswith("0") else 10)


def _is_loopback_address(address: str) -> bool:
    parsed = _parsed(address)
    return parsed in LOOPBACK_V4 if isinstance(parsed, IPv4Address) else parsed == LOOPBACK_V6


def _parsed(address: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(address)
    except ValueError:
        return None

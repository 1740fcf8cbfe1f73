"""The networks of one's own to which something may be sent although they are not public: a list that is empty at first.

Read from the settings of Kopeck and of the sandbox. Never lists this machine, neighbours on the same link, or what
tells programs in a cloud their credentials, whatever the settings say.
"""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Self

LISTABLE = tuple(
    ip_network(network)
    for network in (
        "10.0.0.0/8",
        "100.64.0.0/10",  # carriers' own, and overlay networks
        "172.16.0.0/12",
        "192.168.0.0/16",
        "fc00::/7",
    )
)
"""The private networks; embedded, local and reserved addresses lie outside, and are never sent to."""

METADATA = tuple(
    ip_network(network)
    for network in (
        "100.100.100.200/32",  # Alibaba
        "fd00:42::42/128",  # Scaleway
        "fd00:c1::a9fe:a9fe/128",  # Oracle
        "fd00:ec2::/32",  # Amazon
        "fd20:ce::254/128",  # Google
    )
)
"""Where clouds keep their metadata within private networks; the rest of it is link-local or looks public."""

ISATAP = (b"\x00\x00\x5e\xfe", b"\x02\x00\x5e\xfe")
"""What stands before the IPv4 address that an ISATAP address holds, whatever its network."""

HTTP = "http://"


@dataclass(frozen=True)
class Networks:
    """Networks that are listed; to those in `with_http` also plain http is sent in production."""

    listed: tuple[IPv4Network | IPv6Network, ...] = ()
    with_http: tuple[IPv4Network | IPv6Network, ...] = ()

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read `10.20.0.0/16,http://10.30.0.0/24`; raise ValueError, which says what is wrong."""
        entries = [entry.strip() for entry in text.split(",") if entry.strip()]
        networks = {entry: _network(entry.removeprefix(HTTP)) for entry in entries}
        with_http = tuple(network for entry, network in networks.items() if entry.startswith(HTTP))
        return cls(listed=tuple(networks.values()), with_http=with_http)

    def lists(self, address: str, *, http: bool = False) -> bool:
        """Return whether this is an IP address in a listed network, or in one that is listed with http."""
        try:
            parsed = ip_address(address)
        except ValueError:
            return False
        entries = self.with_http if http else self.listed
        return _is_listable(parsed) and any(parsed in network for network in entries)


NO_NETWORKS = Networks()


def _network(text: str) -> IPv4Network | IPv6Network:
    try:
        network = ip_network(text)
    except ValueError:
        raise ValueError(
            "must list networks such as 10.20.0.0/16, separated by commas, each beginning with its first address; "
            "write http://10.20.0.0/16 where plain http is to be allowed"
        ) from None
    if not any(network.version == listable.version and network.overlaps(listable) for listable in LISTABLE):
        raise ValueError(
            f"lists {network}, which is no private network: nothing is ever sent to this machine, to link-local and "
            "reserved addresses, and public ones need no entry; take it out"
        )
    return network


def _is_listable(address: IPv4Address | IPv6Address) -> bool:
    if isinstance(address, IPv6Address) and (address.scope_id is not None or address.packed[8:12] in ISATAP):
        return False
    return any(address in network for network in LISTABLE) and not any(address in network for network in METADATA)

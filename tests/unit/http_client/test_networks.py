"""Networks of one's own: sent to when they are listed, and what is never sent to whatever is listed."""

import pytest

from http_client import addresses, dialer
from http_client.addresses import NOT_HTTPS, NOT_PUBLIC
from http_client.client import Client
from http_client.connection import AddressRefused, Deadline
from http_client.networks import NO_NETWORKS, Networks

COMPANY = Networks.from_text("10.20.0.0/16, http://172.17.0.0/16,fd12:3456::/32")
EVERYTHING = Networks.from_text("http://0.0.0.0/0,http://::/0")

NEVER = (
    *("169.254.169.254", "169.254.0.23", "100.100.100.200", "168.63.129.16", "192.0.0.192", "0.0.0.0"),
    *("127.0.0.1", "224.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1", "192.88.99.1"),
    *("::1", "::", "fe80::1", "fe80::a9fe:a9fe", "fec0::1", "ff02::1", "fd00:ec2::254", "fd20:ce::254"),
    *("fd00:42::42", "fd00:c1::a9fe:a9fe"),
    # An IPv4 address within: mapped, compatible, NAT64 (both prefixes), 6to4, Teredo, ISATAP.
    *("::ffff:169.254.169.254", "::ffff:10.20.0.1", "::10.20.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::a9fe:a9fe"),
    *(
        "2002:a9fe:a9fe::",
        "2002:0a14:0001::",
        "2001:0:a14:1::",
        "fd12:3456::5efe:a9fe:a9fe",
        "fd12:3456::200:5efe:a14:1",
    ),
)


def url_of(address: str, scheme: str = "https") -> str:
    return f"{scheme}://[{address}]/hook" if ":" in address else f"{scheme}://{address}/hook"


@pytest.mark.parametrize("address", ["10.20.0.1", "10.20.255.255", "172.17.0.5", "fd12:3456::1"])
def test_address_of_a_listed_network_is_allowed_and_only_where_it_is_listed(address):
    rules = {"loopback_allowed": False, "https_only": True}

    assert addresses.problem_with(url_of(address), networks=COMPANY, **rules) is None
    assert addresses.problem_with_address(address, "https", networks=COMPANY, **rules) is None
    assert addresses.problem_with(url_of(address), **rules) == NOT_PUBLIC


@pytest.mark.parametrize("address", ["10.19.255.255", "10.21.0.0", "172.18.0.1", "192.168.0.1", "fd12:3457::1"])
def test_neighbour_of_a_listed_network_is_refused(address):
    rules = {"loopback_allowed": False, "https_only": False, "networks": COMPANY}

    assert addresses.problem_with(url_of(address), **rules) == NOT_PUBLIC
    assert addresses.problem_with_address(address, "https", **rules) == NOT_PUBLIC


@pytest.mark.parametrize("address", NEVER)
def test_some_addresses_are_refused_whatever_is_listed(address):
    rules = {"loopback_allowed": False, "https_only": False, "networks": EVERYTHING}

    assert addresses.problem_with(url_of(address), **rules) == NOT_PUBLIC
    assert addresses.problem_with_address(address, "http", **rules) == NOT_PUBLIC


def test_address_with_a_zone_is_refused():
    rules = {"loopback_allowed": False, "https_only": False, "networks": EVERYTHING}

    assert addresses.problem_with_address("fd12:3456::1%eth0", "http", **rules) == NOT_PUBLIC


def test_https_stays_required_unless_the_entry_says_http():
    rules = {"loopback_allowed": False, "https_only": True, "networks": COMPANY}

    assert addresses.problem_with(url_of("10.20.0.1", "http"), **rules) == NOT_HTTPS
    assert addresses.problem_with(url_of("172.17.0.5", "http"), **rules) is None
    assert addresses.problem_with(url_of("8.8.8.8", "http"), **rules) == NOT_HTTPS
    assert addresses.problem_with_address("8.8.8.8", "http", **rules) == NOT_HTTPS
    assert addresses.problem_with_address("10.20.0.1", "http", **rules) == NOT_HTTPS


@pytest.mark.parametrize("host", ["shop", "hook.corp.internal", "printer.local"])
def test_local_name_may_be_registered_where_a_network_is_listed(host):
    rules = {"loopback_allowed": False, "https_only": False}

    assert addresses.problem_with(f"http://{host}:8000/hook", networks=COMPANY, **rules) is None
    assert addresses.problem_with(f"http://{host}:8000/hook", networks=NO_NETWORKS, **rules) == NOT_PUBLIC


@pytest.mark.parametrize(
    ("found", "problem"), [("10.20.0.1", NOT_HTTPS), ("8.8.8.8", NOT_HTTPS), ("169.254.169.254", NOT_PUBLIC)]
)
def test_name_is_judged_once_more_by_what_it_resolves_to(found, problem):
    client = Client(
        loopback_allowed=False, https_only=True, networks=COMPANY, resolve=lambda *_: [found], connect_seconds=0.1
    )

    with pytest.raises(AddressRefused, match=problem[:30]):
        client.post("http://shop:8000/hook", b"", {})
    client.close()


@pytest.mark.parametrize(
    "text",
    [
        *("10.20.0.1/16", "company", "10.0.0.0/33", "https://10.0.0.0/8", "10.0.0.0/8;10.1.0.0/16", "http://"),
        *("169.254.0.0/16", "127.0.0.0/8", "::1", "fe80::/10", "8.8.8.0/24", "64:ff9b::/96", "::ffff:0:0/96"),
        *("224.0.0.0/4", "2002::/16", "192.0.2.0/24", "fec0::/10"),
    ],
)
def test_entry_that_can_do_nothing_is_refused(text):
    with pytest.raises(ValueError, match=r"^(must list|lists) "):
        Networks.from_text(text)


def test_single_addresses_and_spaces_may_be_listed():
    networks = Networks.from_text(" 10.20.0.5 , http://192.168.1.7 ,")

    assert networks.lists("10.20.0.5")
    assert not networks.lists("10.20.0.6")
    assert networks.lists("192.168.1.7", http=True)
    assert not networks.lists("10.20.0.5", http=True)


@pytest.mark.parametrize(("loopback_allowed", "refused"), [(False, True), (True, False)])
def test_this_machine_is_not_reached_by_its_address_in_a_listed_network(monkeypatch, loopback_allowed, refused):
    class Socket:
        def getpeername(self):
            return "10.20.0.5", 8000

        def getsockname(self):
            return "10.20.0.5", 40000

        def close(self):
            pass

    monkeypatch.setattr(dialer, "_open", lambda *_: Socket())
    client = Client(loopback_allowed=loopback_allowed, https_only=False, networks=COMPANY)
    target, deadline = addresses.split("http://10.20.0.5:8000/hook"), Deadline(5)

    if refused:
        with pytest.raises(AddressRefused):
            client._dialer.connect(target, deadline)
    else:
        client._dialer.connect(target, deadline)

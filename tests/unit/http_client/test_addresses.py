"""Which addresses and URLs events may be delivered to; nothing here opens a socket or asks DNS."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from http_client import addresses

PUBLIC = [
    "8.8.8.8",
    "93.184.216.34",
    "100.63.255.255",
    "100.128.0.1",
    "172.15.0.1",
    "172.32.0.1",
    "192.0.1.1",
    "198.17.255.255",
    "198.20.0.1",
    "223.255.255.255",
    "2606:2800:220:1:248:1893:25c8:1946",
    "2a02:6b8::1",
    "2003::1",
]

NOT_PUBLIC = [
    # IPv4: this network, private, carriers, loopback, link-local and metadata, protocols, documentation, and above
    *("0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.127.255.255", "100.100.100.200"),
    *("127.0.0.1", "127.255.255.254", "169.254.0.1", "169.254.169.254", "172.16.0.1", "172.31.255.255"),
    *("192.0.0.1", "192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.0.1", "198.18.0.1", "198.19.255.255"),
    *("198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255"),
    "168.63.129.16",
    # IPv6 that is not one machine on the internet
    *("::", "::1", "fe80::1", "febf::1", "fec0::1", "fc00::1", "fd00:ec2::254", "fd20:ce::254", "ff02::1", "ff0e::1"),
    *("100::1", "5f00::1", "3fff::1", "2001:db8::1", "2001:2::1", "2001:10::1", "2001:20::1", "2001:2f::1", "4000::1"),
    # IPv6 that holds an IPv4 address, public ones too: mapped, compatible, translated, NAT64, 6to4, Teredo, ISATAP
    *("::ffff:127.0.0.1", "::ffff:7f00:1", "::ffff:8.8.8.8", "::127.0.0.1", "::8.8.8.8", "::ffff:0:127.0.0.1"),
    *("64:ff9b::127.0.0.1", "64:ff9b::808:808", "64:ff9b:1::7f00:1", "2002:7f00:1::", "2002:808:808::1"),
    *("2001::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2a02:6b8::5efe:7f00:1", "2a02:6b8::200:5efe:808:808"),
    # With the name of an interface
    *("fe80::1%eth0", "2606:4700::1%eth0", "::1%lo"),
    # No address
    *("", "localhost", "127.1", "0x7f000001", "2130706433", "010.0.0.1", "8.8.8.8 ", "８.8.8.8", "8.8.8.8/32"),
]


@pytest.mark.parametrize("address", PUBLIC)
def test_address_of_the_internet_is_public(address):
    assert addresses.is_public(address)
    assert addresses.is_allowed(address, loopback_allowed=False)


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_any_other_address_is_not(address):
    assert not addresses.is_public(address)
    assert not addresses.is_allowed(address, loopback_allowed=False)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.1.2.3", "::1"])
def test_loopback_can_be_let_through(address):
    assert addresses.is_allowed(address, loopback_allowed=True)


@pytest.mark.parametrize(
    "address", [address for address in NOT_PUBLIC if not address.startswith("127.") and address != "::1"]
)
def test_nothing_else_comes_along_with_loopback(address):
    assert not addresses.is_allowed(address, loopback_allowed=True)


@pytest.mark.parametrize(
    "host", ["localhost", "LocalHost", "127.0.0.1", "127.255.0.9", "::1", "[::1]", "0:0:0:0:0:0:0:1"]
)
def test_host_that_is_this_machine_is_loopback(host):
    assert addresses.is_loopback(host)


@pytest.mark.parametrize(
    "host",
    [
        *("", "0.0.0.0", "::", "10.0.0.1", "8.8.8.8", "::ffff:127.0.0.1", "::1%lo", "[::1", "127.1", "2130706433"),
        *("localhost.customer.ru", "notlocalhost", "localhost:8000", "127.0.0.1:8000", "[localhost]", "/run/kopeck"),
    ],
)
def test_any_other_host_is_not_loopback(host):
    assert not addresses.is_loopback(host)


@given(st.ip_addresses(v=4))
def test_what_python_knows_to_be_private_is_never_public(address):
    assert not (addresses.is_public(str(address)) and (address.is_private or address.is_multicast))


@given(st.ip_addresses(v=6))
def test_what_python_knows_to_be_private_is_never_public_in_ipv6(address):
    assert not (addresses.is_public(str(address)) and (address.is_private or address.is_multicast))


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("https://hooks.customer.ru", ("https", "hooks.customer.ru", 443, "/")),
        ("HTTPS://Hooks.Customer.RU./a/b?c=d", ("https", "hooks.customer.ru", 443, "/a/b?c=d")),
        ("http://customer.ru:8080?c=d", ("http", "customer.ru", 8080, "/?c=d")),
        ("https://Пример.рф/%D0%BE", ("https", "xn--e1afmkfd.xn--p1ai", 443, "/%D0%BE")),
        ("https://faß.de/", ("https", "xn--fa-hia.de", 443, "/")),
        ("https://8.8.8.8/", ("https", "8.8.8.8", 443, "/")),
        ("https://134744072/", ("https", "8.8.8.8", 443, "/")),
        ("https://[2A02:06B8:0::1]:8443/", ("https", "2a02:6b8::1", 8443, "/")),
        ("https://a_b.customer.ru/", ("https", "a_b.customer.ru", 443, "/")),
        ("https://1.customer.ru/", ("https", "1.customer.ru", 443, "/")),
    ],
)
def test_url_is_taken_apart(url, target):
    assert addresses.split(url) == target


@pytest.mark.parametrize(
    ("spelling", "address"),
    [
        *[(spelling, "127.0.0.1") for spelling in ("2130706433", "0x7f000001", "0X7F.1", "017700000001", "127.1")],
        *[(spelling, "127.0.0.1") for spelling in ("127.0.1", "0177.0x0.0.1", "127.0.0.1.", "①②⑦.⓪.⓪.①")],
        *[(spelling, "127.0.0.1") for spelling in ("１２７.０.０.１", "127。0。0。1", "００１７７.1")],
        *[(spelling, "0.0.0.0") for spelling in ("0", "0x", "0.0", "00.0x0")],
        ("[::ffff:127.0.0.1]", "::ffff:7f00:1"),
        ("[0:0:0:0:0:0:0:1]", "::1"),
    ],
)
def test_every_notation_of_an_address_is_read(spelling, address):
    host = addresses.split(f"http://{spelling}/").host

    assert addresses._parsed(host) == addresses._parsed(address)


UNUSABLE = [
    *(
        "",
        "customer.ru",
        "//customer.ru/",
        "/hook",
        "ftp://customer.ru/",
        "file:///etc/passwd",
        "gopher://customer.ru/",
    ),
    *("https:customer.ru", "https:/customer.ru", "https://", "https:///hook", "https://?a", "https://:443/"),
    *(
        "https://user@customer.ru/",
        "https://user:secret@customer.ru/",
        "https://@customer.ru/",
        "http://a.ru@127.0.0.1/",
    ),
    *(
        "https://customer.ru/#a",
        "https://customer.ru#",
        "https://customer.ru#@127.0.0.1/",
        "https://customer.ru\\@a.ru/",
    ),
    *(" https://customer.ru/", "https://customer.ru/ ", "https://customer.ru/a b", "https://customer.ru/\r\nHost: a"),
    *("https://custo\tmer.ru/", "https://customer.ru/\x00", "https://customer.ru/\x7f", "https://customer.ru/\u2028"),
    *(
        "https://customer.ru:/",
        "https://customer.ru:0/",
        "https://customer.ru:65536/",
        "https://customer.ru:0000443/",
        "https://customer.ru:-1/",
    ),
    *("https://customer.ru:8o/", "https://customer.ru:٤٤٣/", f"https://customer.ru:{'9' * 1900}/", "https://a.ru:1:2/"),
    *(
        "https://custo%6der.ru/",
        "http://127.0.0.1%2f@a.ru/",
        "http://%31%32%37.0.0.1/",
        "http://%6c%6f/",
        "http://a%00.ru",
    ),
    *(
        "https://-customer.ru/",
        "https://customer-.ru/",
        "https://customer..ru/",
        "https://.ru/",
        "https://./",
        "http://../",
    ),
    *(
        f"https://{'a' * 64}.ru/",
        f"https://{'a.' * 130}ru/",
        f"https://customer.ru/{'a' * 2000}",
        "https://ex*mple.ru/",
    ),
    *("http://256.0.0.1/", "http://1.2.3.4.5/", "http://08.0.0.1/", "http://4294967296/", "http://127.0.0.0x1g.1/"),
    *("http://a.b.0x7f/", "http://999999999999999999999999/", "http://1.16777216/", "http://127..1/"),
    *(
        "http://[::1/",
        "http://::1/",
        "http://[127.0.0.1]/",
        "http://[]/",
        "http://[fe80::1%25eth0]/",
        "http://[::1%lo]/",
    ),
    *(
        "http://[v1.a]/",
        "http://[::1]a/",
        "http://[::1].a.ru/",
        "https://customer.ru/оплата",
        "https://a\u200b\u0301.ru/",
    ),
]


@pytest.mark.parametrize("url", UNUSABLE)
def test_what_is_no_usable_url_gets_a_sentence_that_does_not_quote_it(url):
    problem = addresses.problem_with(url, loopback_allowed=True, https_only=False)

    assert problem
    assert problem.endswith(".")
    assert "customer" not in problem
    assert "secret" not in problem


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "LOCALHOST", "localhost.", "a.localhost", "printer.local", "metadata.google.internal"),
        *("intranet", "router.lan", "host.localdomain", "nas.home.arpa", "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ", "localhost。"),
        *("127.0.0.1", "127.1", "2130706433", "0x7f.1", "0177.1", "0", "10.1", "169.254.169.254", "[::1]", "[::]"),
        *("[::ffff:127.0.0.1]", "[fd00:ec2::254]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "①②⑦.⓪.⓪.①"),
    ],
)
def test_host_that_is_not_public_is_said_when_it_is_registered(host):
    url = f"https://{host}/hook"

    assert addresses.problem_with(url, loopback_allowed=False, https_only=True) == addresses.NOT_PUBLIC


@pytest.mark.parametrize("host", ["localhost", "a.localhost.", "127.0.0.1:8000", "[::1]:8000", "2130706433"])
def test_loopback_may_be_registered_where_it_is_allowed(host):
    assert addresses.problem_with(f"http://{host}/hook", loopback_allowed=True, https_only=False) is None


@pytest.mark.parametrize("host", ["intranet", "printer.local", "[::ffff:127.0.0.1]", "10.0.0.1", "0.0.0.0"])
def test_nothing_else_may_be_registered_there(host):
    url = f"http://{host}/hook"

    assert addresses.problem_with(url, loopback_allowed=True, https_only=False) == addresses.NOT_PUBLIC


def test_http_is_a_problem_only_where_https_is_asked_for():
    url = "http://customer.ru/hook"

    assert addresses.problem_with(url, loopback_allowed=False, https_only=False) is None
    assert "https://" in addresses.problem_with(url, loopback_allowed=False, https_only=True)
    assert addresses.problem_with("https://customer.ru/hook", loopback_allowed=False, https_only=True) is None


@given(st.text(max_size=60))
def test_any_text_gets_a_verdict_and_never_an_error(text):
    for url in (text, f"https://{text}", f"https://{text}/", f"http://customer.ru{text}"):
        problem = addresses.problem_with(url, loopback_allowed=False, https_only=False)
        assert problem is None or problem.endswith(".")

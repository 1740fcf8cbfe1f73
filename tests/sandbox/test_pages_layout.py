"""What all pages share, as a browser without JavaScript gets them."""

import re

import pytest

from sandbox.gateway import checkout
from tests.sandbox.reader import PAGE_BYTES_MAX, Reader, see

HOSTILE = "\"><script>alert(1)</script>'{{7*7}}&amp;"
UNSAFE = [
    "javascript:alert(1)",
    "data:text/html,x",
    "//evil.example/",
    "ftp://shop.example/",
    "http:///path",
    "http://shop.example/\nx",
    "http://shop.example:99999/",
    "https://[/",
    " https://shop.example/",
]


def test_every_page_is_small_marked_as_a_test_and_free_of_inline_code(client, scene):
    for name, path in scene.items():
        answer = see(client, path)
        page = Reader(answer.text)

        assert answer.mimetype == "text/html", name
        assert len(answer.data) < PAGE_BYTES_MAX, name
        assert page.having("p", **{"class": "mode"}), name
        assert "Test mode" in answer.text
        assert not page.having("style"), name
        assert [found for found in page.having("script") if "src" not in found] == []
        assert [a for _, a in page.tags for key in a if key == "style" or key.startswith("on")] == []
        assert [a for tag, a in page.tags if tag == "a" and (a["href"] or "").startswith("javascript:")] == []
        assert page.having("html", lang="en")
        assert len(page.having("h1")) == len(page.having("main", id="main")) == 1, name


def test_every_page_has_a_policy_that_allows_files_of_its_own_and_nothing_else(client, scene):
    for name, path in scene.items():
        headers = see(client, path).headers
        policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))

        assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'", name
        assert policy["script-src"] == policy["style-src"] == policy["form-action"] == "'self'", name
        assert headers["Cache-Control"] == "no-store", name
        assert headers["X-Frame-Options"] == "DENY", name


def test_style_and_script_are_small_kept_for_good_and_change_their_address_when_they_change(client, scene):
    page = Reader(see(client, scene["payments"]).text)
    addresses = [page.having("link", rel="stylesheet")[0]["href"], page.having("script")[0]["src"]]

    for address in addresses:
        assert re.search(r"\?v=[0-9a-f]{10}$", address)
        with client.get(address) as marked, client.get(address.split("?")[0]) as plain:
            assert len(marked.data) < PAGE_BYTES_MAX
            assert "immutable" in marked.headers["Cache-Control"]
            assert "immutable" not in plain.headers["Cache-Control"]


def test_card_form_has_upstreams_names_and_tells_browsers_what_they_may_fill_in(client, payer):
    page = Reader(see(client, f"/checkout/{payer.create()}").text)
    hints = {field["name"]: (field.get("autocomplete"), field.get("inputmode")) for field in page.having("input")}

    assert hints == {
        "csrf_token": (None, None),
        "card_number": ("cc-number", "numeric"),
        "expiry": ("cc-exp", "numeric"),
        "cvv": ("cc-csc", "numeric"),
        "email": ("email", None),
        "save_card": (None, None),
    }
    assert page.having("input", name="csrf_token", type="hidden")


def test_code_form_has_upstreams_name_and_takes_codes_from_the_keyboard_above(client, payer):
    payment = payer.create()
    payer.pay(payment)
    page = Reader(see(client, f"/otp/{payment}").text)

    assert page.having("form", action=f"/otp/verify/{payment}")
    assert page.having("input", name="otp_code", inputmode="numeric", autocomplete="one-time-code", maxlength="4")


def test_every_field_has_a_label(client, scene):
    for name, path in scene.items():
        page = Reader(see(client, path).text)
        labelled = {found["for"] for found in page.having("label") if "for" in found}
        typed = [
            f for tag, f in page.tags if tag in ("input", "select") and f.get("type") not in ("hidden", "checkbox")
        ]

        assert {field.get("id") for field in typed if field.get("type") != "radio"} <= labelled, name


def test_what_a_shop_or_a_payer_wrote_is_escaped_everywhere(client, payer):
    payment = payer.create(reference=HOSTILE)
    payer.pay(payment, email='"<b>"@example.com')
    places = ["/checkout", "/otp", "/success", "/failure", "/expired", "/sandbox/invoices"]

    pages = [see(client, f"{place}/{payment}") for place in places]
    pages += [see(client, path) for path in ("/", "/sandbox/inbox", f"/?text={HOSTILE}", f"/{HOSTILE}?lang={HOSTILE}")]
    for page in pages:
        assert "<script>alert" not in page.text
        assert "<b>" not in page.text
        assert "49" not in re.findall(r"&#39;(.*?)&amp;amp;", page.text)
    assert any("&lt;script&gt;alert(1)&lt;/script&gt;&#39;{{7*7}}" in page.text for page in pages)


def test_the_link_back_is_the_shops_address_without_a_referrer(client, payer):
    payment = payer.create(redirectUrl="https://shop.example:8443/thanks?order=1&x=2")
    payer.pay_through(payment)

    (link,) = Reader(see(client, f"/success/{payment}").text).having("a", rel="noopener noreferrer")
    assert link["href"] == "https://shop.example:8443/thanks?order=1&x=2"


@pytest.mark.parametrize("address", UNSAFE)
def test_an_address_that_is_no_web_page_is_never_a_link(app, client, payer, address):
    with app.app_context():
        # Not through the API, which refuses some of these.
        made = checkout.create_invoice(
            amount=100, reference="R", webhook_url="http://127.0.0.1:9/", redirect_url=address
        )
    for place in ("/checkout", "/success", "/sandbox/invoices"):
        page = Reader(see(client, f"{place}/{made.id}").text)

        assert address not in [found["href"] for found in page.having("a")]
        assert page.having("a", rel="noopener noreferrer") == []


def test_no_language_link_leaves_the_sandbox(client):
    for path in ("//evil.example/", "/%2f%2fevil.example", "/?lang=//evil.example&next=//evil.example"):
        page = Reader(see(client, path).text)

        assert {found["href"][:1] for found in page.having("a") if "hreflang" in found} == {"?"}


@pytest.mark.parametrize(
    ("code", "pay", "shop"),
    [
        ("en", "Pay $250.00", "Cancel and go back"),
        ("uk", "Сплатити 250,00\N{NO-BREAK SPACE}$", "Скасувати"),
        ("de", "250,00\N{NO-BREAK SPACE}$ bezahlen", "Abbrechen"),
        ("ru", "Оплатить 250,00\N{NO-BREAK SPACE}$", "Отменить"),
    ],
)
def test_the_language_is_the_addresses_then_the_cookies_then_the_browsers(app, payer, code, pay, shop):
    path = f"/checkout/{payer.create()}"
    by_browser = see(app.test_client(), path, **{"Accept-Language": f"fr,{code};q=0.8,en;q=0.1"})
    chooser = app.test_client()
    by_address = see(chooser, f"{path}?lang={code}", **{"Accept-Language": "de" if code == "en" else "en"})
    by_cookie = see(chooser, path, **{"Accept-Language": "de" if code == "en" else "en"})

    for answer in (by_browser, by_address, by_cookie):
        assert Reader(answer.text).having("html", lang=code)
        assert answer.headers["Content-Language"] == code
        assert pay in answer.text
        assert shop in answer.text


def test_a_language_that_we_do_not_have_is_passed_over(client):
    answer = see(client, "/?lang=xx", Cookie="lang=../../etc", **{"Accept-Language": "ja"})

    assert Reader(answer.text).having("html", lang="en")
    assert "lang=" not in answer.headers.get("Set-Cookie", "")


@pytest.mark.parametrize("code", ["uk", "de", "ru"])
def test_no_page_falls_back_to_english(client, scene, code):
    english = {"Payment received", "Back to the shop", "Payments", "Test mode", "State", "Amount"}
    for path in scene.values():
        answer = see(client, f"{path}{'&' if '?' in path else '?'}lang={code}")

        assert [words for words in english if f">{words}<" in answer.text] == []

"""The pages of the payer and of the dashboard, as a browser without JavaScript gets them."""

import re
from html.parser import HTMLParser

import pytest

from sandbox.gateway import checkout
from tests.receivers import Receiver
from tests.sandbox.factories import EMAIL, SECRET
from tests.sandbox.payer import HIDDEN, Payer
from tests.sandbox.scenes import SHORT_OF_MONEY, SILENT, make_scene

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
CLIENT = {"Accept": "*/*"}
PAGE_BYTES_MAX = 30_000
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


class Reader(HTMLParser):
    """Keeps every tag with its attributes, and complains of an id that is there twice."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)
        ids = [attributes["id"] for _, attributes in self.tags if "id" in attributes]
        assert len(ids) == len(set(ids)), ids

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def having(self, tag: str, **attributes: str) -> list[dict[str, str | None]]:
        return [found for name, found in self.tags if name == tag and attributes.items() <= found.items()]


@pytest.fixture
def scene(payer, clock) -> dict[str, str]:
    return make_scene(payer, clock)


def see(client, path: str, **headers: str):
    return client.get(path, headers={**BROWSER, **headers})


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
    ("status", "name", "words"),
    [
        (409, "processed", "already done"),
        (409, "ended", "already ended"),
        (404, "missing", "no such payment"),
        (404, "nowhere", "nothing here"),
    ],
)
def test_an_error_is_a_page_with_a_link_to_go_on(client, scene, status, name, words):
    answer = see(client, scene[name])

    assert answer.status_code == status
    assert words in answer.text
    assert Reader(answer.text).having("a", **{"class": "main"})


def test_the_same_error_is_json_for_a_program(client, scene):
    answer = client.get(scene["processed"], headers=CLIENT)

    assert (answer.status_code, answer.json["error"]) == (409, "PAYMENT_ALREADY_PROCESSED")


def test_the_view_that_finds_the_time_over_says_so(client, payer, clock):
    payment = payer.create()
    clock.move(minutes=15)

    answer = see(client, f"/checkout/{payment}")
    assert answer.status_code == 410
    assert "time to pay is over" in answer.text
    assert "card_number" not in answer.text


def send(payer, payment: str, card: str, **form: str):
    data = {"card_number": card, "expiry": "12/30", "cvv": "123", "email": EMAIL, "csrf_token": payer.open(payment)}
    return payer.client.post(f"/api/pay/{payment}", data={**data, **form}, headers=BROWSER)


def test_a_decline_is_a_page_with_the_reason(payer):
    answer = send(payer, payer.create(), SHORT_OF_MONEY)

    assert answer.status_code == 402
    assert "not enough money" in answer.text
    assert "Try another card" not in answer.text


def test_a_decline_that_is_not_final_leads_to_another_card(payer):
    payment = payer.create()
    payer.script(payment, "card_expired,ok")

    answer = send(payer, payment, "4111111111111111")
    assert "The card has expired." in answer.text
    assert Reader(answer.text).having("a", href=f"/checkout/{payment}", **{"class": "main"})
    assert send(payer, payment, "4111111111111111").status_code == 303


def test_a_page_that_answers_a_form_is_found_in_other_languages(payer):
    payment = payer.create()
    answer = send(payer, payment, SHORT_OF_MONEY)
    (link,) = Reader(answer.text).having("a", hreflang="de")

    page = see(payer.client, link["href"])
    assert page.status_code == 200
    assert "Zahlung abgelehnt" in page.text


def test_a_silent_bank_is_a_page_that_looks_again_by_itself(payer):
    payment = payer.create()

    answer = send(payer, payment, SILENT)
    assert answer.status_code == 504
    assert "Do not pay again" in answer.text
    assert f'data-refresh="/success/{payment}"' in answer.text
    payer.app.extensions["sandbox"].clock.move(seconds=30)
    assert "Payment received" in see(payer.client, f"/success/{payment}").text


def test_a_form_without_its_cookie_is_a_page_that_leads_back(app, payer):
    payment = payer.create()
    answer = app.test_client().post(f"/api/pay/{payment}", data={"csrf_token": "x" * 43}, headers=BROWSER)

    assert answer.status_code == 403
    assert Reader(answer.text).having("a", href=f"/checkout/{payment}")


def test_too_many_attempts_show_a_page_with_a_link_back(make_app):
    app = make_app(SANDBOX_PAY_PER_MINUTE="1")
    payer = Payer(app, app.test_client())
    payment = payer.create()
    payer.script(payment, "fail,fail,ok")
    assert send(payer, payment, "4111111111111111").status_code == 402

    answer = send(payer, payment, "4111111111111111")
    assert answer.status_code == 429
    assert "Too many tries" in answer.text
    assert Reader(answer.text).having("a", href=f"/checkout/{payment}")


def test_an_unusable_form_is_a_page_that_leads_back(payer):
    payment = payer.create()

    answer = send(payer, payment, "4111111111111111", email="nobody")
    assert answer.status_code == 422
    assert "Nothing was changed" in answer.text
    assert Reader(answer.text).having("a", href=f"/checkout/{payment}")


def test_the_secret_is_not_shown_where_strangers_may_look(make_app, client):
    open_to_all = make_app(SANDBOX_PUBLIC="yes").test_client()

    assert SECRET in see(client, "/sandbox/verify").text
    assert SECRET not in see(open_to_all, "/sandbox/verify").text
    assert "can be reached by others" in see(open_to_all, "/sandbox/verify").text


def test_a_wrong_code_shows_the_form_again_with_the_tries_that_are_left(client, payer):
    payment = payer.create()
    payer.pay(payment)

    answer = client.post(f"/otp/verify/{payment}", data={"otp_code": payer.wrong_code(payment)}, headers=BROWSER)
    assert answer.status_code == 401
    assert "That is not the code" in answer.text
    assert "Tries left: 4" in answer.text
    assert Reader(answer.text).having("form", action=f"/otp/verify/{payment}")


def test_a_code_that_is_too_old_asks_for_a_new_one(client, payer, clock):
    payment = payer.create()
    payer.pay(payment)
    clock.move(minutes=6)

    answer = client.post(f"/otp/verify/{payment}", data={"otp_code": payer.code(payment)}, headers=BROWSER)
    assert "This code is too old" in answer.text


def test_the_last_wrong_code_ends_the_payment(client, payer):
    payment = payer.create()
    payer.pay(payment)
    wrong = payer.wrong_code(payment)

    for _ in range(5):
        answer = client.post(f"/otp/verify/{payment}", data={"otp_code": wrong}, headers=BROWSER)
    assert "entered too often" in answer.text
    assert "otp_code" not in answer.text


def test_another_code_is_sent_when_asked_for_and_not_too_soon(client, payer, clock):
    payment = payer.create()
    payer.pay(payment)
    first = payer.code(payment)
    form = {"csrf_token": HIDDEN.search(see(client, f"/otp/{payment}").text)[1]}

    early = client.post(f"/otp/resend/{payment}", data=form, headers=BROWSER)
    assert (early.status_code, payer.code(payment)) == (429, first)
    assert "Wait a little" in early.text
    clock.move(seconds=31)
    assert client.post(f"/otp/resend/{payment}", data={}, headers=BROWSER).status_code == 403
    answer = client.post(f"/otp/resend/{payment}", data=form, headers=BROWSER)
    assert (answer.status_code, answer.location) == (303, f"/otp/{payment}?sent=again")
    assert "A new code is on its way" in see(client, answer.location).text
    assert len(re.findall("data-code", see(client, f"/sandbox/inbox?invoice={payment}").text)) == 2


def test_a_code_page_that_comes_too_late_says_that_it_was_paid(client, payer):
    payment = payer.create()
    payer.pay_through(payment)

    answer = see(client, f"/otp/{payment}")
    assert answer.status_code == 404
    assert "already done" in answer.text
    assert "otp_code" not in answer.text


def test_saved_cards_are_offered_to_who_proved_to_read_the_mail(payer):
    payer.pay_through(payer.create(), save_card="true")
    payer.prove()
    payment = payer.create()

    page = Reader(see(payer.client, f"/checkout/{payment}").text)
    values = [found["value"] for found in page.having("input", type="radio", name="saved_card_id")]
    assert len(values) == 2
    assert values[1] == ""
    assert send(payer, payment, "", saved_card_id=values[0]).status_code == 303
    assert send(payer, payer.create(), "5555 5555 5555 4444", saved_card_id="").status_code == 303


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


def test_the_dashboard_lists_filters_and_finds(client, scene):
    assert {"ORDER-100", "ORDER-101", "ORDER-102"} <= set(re.findall(r">([^<>]+)</a></td>", see(client, "/").text))
    assert re.findall(r">([^<>]+)</a></td>", see(client, "/?status=failed").text) == ["ORDER-101"]
    assert re.findall(r">([^<>]+)</a></td>", see(client, "/?text=order-102").text) == ["ORDER-102"]
    assert "Nothing matches" in see(client, "/?status=nonsense").text
    assert see(client, "/merchant/dashboard").location == "/"


def test_a_long_list_is_cut_so_that_its_page_stays_small(client, payer):
    for number in range(55):
        payer.create(reference=f"ORDER-{number:03}")

    answer = see(client, "/")
    assert "Shown: 50" in answer.text
    assert len(answer.data) < PAGE_BYTES_MAX
    assert "ORDER-000" not in answer.text
    assert "ORDER-000" in see(client, "/?text=ORDER-000").text


def test_a_payment_shows_its_webhook_with_body_headers_signature_and_attempts(client, payer):
    with Receiver() as shop:
        payment = payer.create(webhookUrl=shop.url)
        payer.pay_through(payment)
        payer.work()
        page = see(client, f"/sandbox/invoices/{payment}").text
        (request,) = shop.received

    assert request.body.decode() in page.replace("&#34;", '"')
    assert f"X-Signature: {request.headers['x-signature']}" in page
    assert "Attempt 1" in page
    assert "200 ok" in page
    assert ">delivered<" in see(client, "/sandbox/webhooks?state=delivered").text
    assert "Nothing matches" in see(client, "/sandbox/webhooks?state=failed").text


def test_a_webhook_is_sent_again_by_its_button_and_not_by_a_strangers_form(client, payer):
    with Receiver() as shop:
        payment = payer.create(webhookUrl=shop.url)
        payer.pay_through(payment)
        payer.work()
        (form,) = Reader(see(client, f"/sandbox/invoices/{payment}").text).having("form", method="post")
        token = HIDDEN.search(see(client, f"/sandbox/invoices/{payment}").text)[1]

        assert client.post(form["action"], headers=BROWSER).status_code == 403
        assert client.post(form["action"], data={"csrf_token": "x" * 43}, headers=BROWSER).status_code == 403
        answer = client.post(form["action"], data={"csrf_token": token}, headers=BROWSER)
        payer.work()
        assert len(shop.received) == 2
    assert "It is queued" in see(client, answer.location).text
    assert "Attempt 2" in see(client, answer.location).text
    missing = form["action"].replace("/webhooks/1/", "/webhooks/999/")
    assert client.post(missing, data={"csrf_token": token}, headers=BROWSER).status_code == 404


def test_reset_asks_first_and_deletes_everything_but_the_secret(client, scene):
    token = HIDDEN.search(see(client, "/sandbox/reset").text)[1]

    assert client.post("/sandbox/reset", headers=BROWSER).status_code == 403
    assert "ORDER-102" in see(client, "/").text
    answer = client.post("/sandbox/reset", data={"csrf_token": token}, headers=BROWSER)
    assert "Everything was deleted" in see(client, answer.location).text
    assert "ORDER-102" not in see(client, "/").text
    assert SECRET in see(client, "/sandbox/verify").text


def test_a_payment_can_be_made_without_a_shop(client):
    page = see(client, "/test").text
    given = {found["name"]: found["value"] for found in Reader(page).having("input")}

    answer = client.post("/test", data=given, headers=BROWSER)
    assert answer.status_code == 303
    assert see(client, answer.location).status_code == 200


@pytest.mark.parametrize(
    "wrong",
    [
        {"amount": "0"},
        {"amount": "-5"},
        {"amount": "2.50"},
        {"amount": "9" * 30},
        {"amount": "١٢"},
        {"reference": ""},
        {"reference": "x" * 201},
        {"webhook_url": "javascript:alert(1)"},
        {"redirect_url": "shop.example"},
    ],
)
def test_an_unusable_payment_is_not_made_and_what_was_typed_stays(client, wrong):
    page = see(client, "/test").text
    given = {found["name"]: found["value"] for found in Reader(page).having("input")}

    answer = client.post("/test", data={**given, **wrong}, headers=BROWSER)
    assert answer.status_code == 400
    assert "Check the amount" in answer.text
    assert given["webhook_url" if "webhook_url" not in wrong else "redirect_url"] in answer.text
    assert "Shown: 0" in see(client, "/").text


def test_every_test_card_is_listed_and_the_first_ones_stand_beside_the_form(client, payer):
    listed = see(client, "/sandbox/cards").text

    assert "4444 4444 4444 4444" in listed
    assert "3700 000000 00002" in listed
    assert "5555 5555 5555 4600" in listed
    assert 'data-fill="4444 4444 4444 4444"' in see(client, f"/checkout/{payer.create()}").text

"""Every page is in the language that was asked for, and so are the mails."""

import re
from html.parser import HTMLParser

import pytest

from sandbox.bank import payload
from sandbox.pages import languages
from sandbox.storm.background import BackgroundStorm
from tests.sandbox.factories import BANK_SECRET
from tests.sandbox.payer import HIDDEN
from tests.sandbox.reader import BROWSER
from tests.sandbox.scenes import SILENT, make_scene
from tests.sandbox.server import PATIENCE_SECONDS
from tests.sandbox.shops import Shop

SHOWN_ATTRIBUTES = ("placeholder", "aria-label", "data-label", "title", "alt", "data-busy", "data-short", "data-soon")
VOID = ("meta", "link", "img", "input", "path", "br", "circle", "rect")
TECHNICAL = re.compile(
    r"""X-Signature|HMAC-SHA256|https?://\S+|\S+@\S+|[\w-]+(\.\w+)+|ORDER-\d+|Замовлення\s<b>5?</b>\s&\sco
    |[A-Z]+(_[A-Z]+)+|[0-9a-f]{8}-[0-9a-f-]+
    |--[a-z-]+|\.env\b|\b[0-9]xx\b|\b[a-z]+_[a-z_]+\b|\b[A-Z0-9]+\b
    |\b(?:Kopeck|Sandbox|AcquireMock|Mastercard|Visa|Maestro|Electron|Mir|JCB|American|Express|Diners|Club
    |Python|Shell|Node|PHP|Secure|PAY-\d+|fail|ok|amount|null|true|NaN)\b""",
    re.VERBOSE,
)
"""Names, addresses, codes: the same in every language."""

ENGLISH = re.compile(r"\b(the|of|and|not|with|this|your|are|from|only|sent|code sent|payments|whole|nothing)\b", re.I)


class ShownText(HTMLParser):
    """Collects what a page shows, without code, other languages, and technical names."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.open: list[tuple[str, bool]] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        is_code = tag in ("script", "style", "pre", "code") or attributes.get("translate") == "no"
        is_other = tag != "html" and "lang" in attributes
        hidden = is_code or is_other or any(hidden for _, hidden in self.open)
        if not hidden:
            self.texts += [attributes[name] for name in SHOWN_ATTRIBUTES if attributes.get(name)]
        if tag not in VOID:
            self.open.append((tag, hidden))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop()[0] == tag

    def handle_data(self, data):
        if data.strip() and not any(hidden for _, hidden in self.open):
            self.texts.append(data.strip())


def foreign_words(page: str, code: str) -> set[str]:
    """Return the texts of a page that are not in its language."""
    texts = [TECHNICAL.sub("", text) for text in ShownText(page).texts]
    other = (
        re.compile("[A-Za-z]{2}")
        if code in ("ru", "uk")
        else ENGLISH
        if code == "de"
        else re.compile("[а-яїієґ]", re.I)
    )
    return {text for text in texts if other.search(text)}


@pytest.fixture(params=languages.NAMES)
def code(request, client) -> str:
    """Choose a language, as a payer does by the links at the foot of a page."""
    client.get(f"/?lang={request.param}")
    return str(request.param)


@pytest.fixture
def scene(payer, clock, code) -> dict[str, str]:
    pages = make_scene(payer, clock)
    undecided = payer.create(reference="ORDER-110")
    payer.pay(undecided, SILENT)
    token = HIDDEN.search(payer.client.get("/bank/").text)[1]
    payer.client.post("/bank/", data={"csrf_token": token})
    return {
        **pages,
        "undecided": f"/success/{undecided}",
        "history": f"/sandbox/invoices/{undecided}",
        "bank": "/bank/",
        "storm": "/bank/storm",
    }


def test_no_page_has_words_of_another_language(client, scene, code):
    for name, path in scene.items():
        page = client.get(path, headers=BROWSER).text

        assert f'<html lang="{code}">' in page
        assert foreign_words(page, code) == set(), name


def test_problems_of_the_bank_page_are_translated(client, code):
    token = HIDDEN.search(client.get("/bank/").text)[1]
    wrong = dict.fromkeys(payload.FIELDS, "?" * 51)
    page = client.post("/bank/", data={"csrf_token": token, **wrong}, headers=BROWSER).text

    assert page.count('class="problem"') == len(payload.FIELDS)
    assert foreign_words(page, code) == set()

    token = HIDDEN.search(client.get("/bank/storm").text)[1]
    page = client.post("/bank/storm", data={"csrf_token": token, "seed": "x"}, headers=BROWSER).text
    assert foreign_words(page, code) == set()


def test_mails_are_in_the_language_of_the_payer(payer, clock, code):
    language = languages.get_language(code)
    payment = payer.create(amount=123456)
    payer.pay_through(payment)
    delayed = payer.create()
    payer.pay(delayed, SILENT)
    clock.move(seconds=60)
    payer.work()
    payer.prove()

    mails = payer.client.get("/sandbox/api/inbox").json["items"]
    assert [mail["kind"] for mail in mails] == ["email_code", "receipt", "receipt", "otp"]
    for mail in mails:
        assert foreign_words(f"<p>{mail['subject']}</p><p>{mail['body']}</p>", code) == set()
    assert mails[0]["subject"] == language("mail.code_subject", code=mails[0]["code"])
    assert language.money(123456, "USD", "USD").replace("\N{NO-BREAK SPACE}", " ") in mails[2]["body"]


def test_a_payer_without_a_language_gets_mails_in_english(payer):
    payer.pay_through(payer.create())

    receipt, otp = payer.client.get("/sandbox/api/inbox").json["items"]
    assert receipt["subject"] == "Receipt for ORDER-123"
    assert receipt["body"].startswith("Paid: 250.00 USD\nCard: **** 4444\nOrder: ORDER-123\nPayment: ")
    assert otp["body"].startswith(f"The code for your payment of 250.00 USD is {otp['code']}.\n")


@pytest.mark.parametrize("fault", ["loses some", "stumbles over bad bodies", "says that it holds", "is not there"])
def test_the_report_of_a_storm_is_translated(make_app, fault):
    background = BackgroundStorm(patience=0.3, settle=0.3)
    with Shop(fault, shows_log=fault != "loses some", speaks=True) as shop:
        settings = {"SANDBOX_SHOP_URL": shop.addresses.webhook, "SANDBOX_BANK_SECRET": BANK_SECRET}
        client = make_app(storm=background, **settings).test_client()
        token = HIDDEN.search(client.get("/bank/storm").text)[1]
        if fault != "is not there":
            start_storm(client, token)
            assert background.wait(PATIENCE_SECONDS)
    if fault == "is not there":
        start_storm(client, token)
        assert background.wait(PATIENCE_SECONDS)

    assert background.problem or background.storm.report.findings
    for code in languages.NAMES:
        page = client.get(f"/bank/storm?lang={code}", headers=BROWSER).text
        progress = client.get("/bank/storm/progress").json
        assert foreign_words(page, code) == set()
        assert foreign_words(f"<p>{progress['phase_text']}</p><p>{progress['counts_text']}</p>", code) == set()


def start_storm(client, token: str) -> None:
    numbers = {"seed": 11, "day": 1, "operations": 120, "organisations": 6}
    assert client.post("/bank/storm", data={"csrf_token": token, **numbers}).status_code == 303

"""How pages look and behave in a browser: typing, narrow screens, dark mode, the dashboard, and axe-core on all."""

import json

import pytest

from tests.receivers import Receiver
from tests.sandbox.browser.test_browser_paying import expect
from tests.sandbox.scenes import SHORT_OF_MONEY, make_scene

WIDTHS = (320, 768, 1280)


@pytest.fixture
def scene(payer, clock) -> dict[str, str]:
    return make_scene(payer, clock)


def everything(visitor, scene) -> list[str]:
    """Return the address of every page, those of the bank included."""
    visitor.see("/")
    menu = [link.get_attribute("href") for link in visitor.page.locator("header nav a").all()]
    return list(dict.fromkeys([*scene.values(), *menu]))


def complaints(page, axe: str) -> list[str]:
    """Return what axe-core finds serious or critical, in the light and in the dark."""
    page.evaluate(axe)
    found = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        found += [{"scheme": scheme, **each} for each in page.evaluate("async () => (await axe.run()).violations")]
    return [
        json.dumps({"id": each["id"], "scheme": each["scheme"], "at": [node["html"] for node in each["nodes"]][:3]})
        for each in found
        if each["impact"] in ("serious", "critical")
    ]


def test_axe_finds_nothing_serious_on_any_page(visitor, scene, axe):
    for path in everything(visitor, scene):
        visitor.see(path)
        visitor.page.evaluate("document.querySelectorAll('details').forEach((place) => { place.open = true; })")
        assert (path, complaints(visitor.page, axe)) == (path, [])


def test_axe_finds_nothing_serious_where_something_went_wrong(visitor, axe):
    payment = visitor.begin()
    visitor.fill_in(card="4111 1111 1111 1112", expiry="1320", cvv="1", email="nobody")
    visitor.page.keyboard.press("Enter")
    expect(visitor.page.locator("#card_number")).to_have_attribute("aria-invalid", "true")
    assert complaints(visitor.page, axe) == []
    visitor.pay()
    visitor.page.wait_for_url("**/otp/**")
    visitor.confirm(visitor.payer.wrong_code(payment))
    expect(visitor.page.get_by_role("alert")).to_be_visible()
    assert complaints(visitor.page, axe) == []
    visitor.begin()
    visitor.pay(SHORT_OF_MONEY)
    expect(visitor.page.get_by_role("heading")).to_have_text("Payment declined")
    assert complaints(visitor.page, axe) == []


def test_no_page_is_wider_than_the_screen(visitor, scene):
    for path in everything(visitor, scene):
        for code in ("de", "uk"):
            visitor.see(f"{path}{'&' if '?' in path else '?'}lang={code}")
            for width in WIDTHS:
                visitor.page.set_viewport_size({"width": width, "height": 800})
                assert (path, visitor.page.evaluate("document.documentElement.scrollWidth")) == (path, width)


def test_dark_mode_is_dark_and_light_mode_is_light(visitor, open_page):
    grounds = []
    for scheme in ("dark", "light"):
        visitor.page = open_page(color_scheme=scheme)
        visitor.begin()
        script = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
        grounds.append(max(visitor.page.evaluate(script)))

    assert grounds[0] < 64
    assert grounds[1] > 224


NUMBERS = [
    ("4444444444444444", "4444 4444 4444 4444", "Visa"),
    ("5555-5555.5555x4444", "5555 5555 5555 4444", "Mastercard"),
    ("2221000000000009", "2221 0000 0000 0009", "Mastercard"),
    ("2200000000000004", "2200 0000 0000 0004", "Mir"),
    ("370000000000002", "3700 000000 00002", "American Express"),
    ("3528000700000000", "3528 0007 0000 0000", "JCB"),
    ("36700102000000", "3670 0102 0000 00", "Diners Club"),
    ("6759649826438453", "6759 6498 2643 8453", "Maestro"),
    ("44444444444444444444444", "4444 4444 4444 4444 444", "Visa"),
    ("9999", "9999", ""),
]


def test_a_card_number_is_grouped_and_its_brand_named_as_one_types(visitor):
    visitor.begin()
    for typed, shown, brand in NUMBERS:
        visitor.page.fill("#card_number", "")
        visitor.page.locator("#card_number").press_sequentially(typed)
        expect(visitor.page.locator("#card_number")).to_have_value(shown)
        expect(visitor.page.locator("#brand")).to_have_text(brand)


def test_the_caret_stays_where_one_corrects(visitor):
    visitor.begin()
    number = visitor.page.locator("#card_number")
    number.fill("4444 4444 4444 4444")
    number.evaluate("(field) => field.setSelectionRange(7, 7)")
    number.press("Backspace")
    number.press_sequentially("12")

    expect(number).to_have_value("4444 4124 4444 4444 4")
    assert number.evaluate("(field) => field.selectionStart") == 8


EXPIRIES = [("1230", "12/30"), ("5", "05/"), ("530", "05/30"), ("12/2030", "12/30"), ("1", "1")]


def test_an_expiry_date_gets_its_stroke(visitor):
    visitor.begin()
    field = visitor.page.locator("#expiry")
    for typed, shown in EXPIRIES:
        field.fill("")
        if "/20" in typed:  # as a browser fills it in, all at once
            field.fill(typed)
        else:
            field.press_sequentially(typed)
        expect(field).to_have_value(shown)


def test_an_expiry_date_can_be_deleted_again(visitor):
    visitor.begin()
    field = visitor.page.locator("#expiry")
    field.press_sequentially("1230")
    for _ in range(4):
        field.press("Backspace")

    expect(field).to_have_value("")


WRONG = [
    ({"card": "4111 1111 1111 1112"}, "card_number", "Check the card number"),
    ({"card": "4111 1111 1111"}, "card_number", "Check the card number"),
    ({"card": ""}, "card_number", "Check the card number"),
    ({"expiry": "1330"}, "expiry", "MM/YY"),
    ({"expiry": "0120"}, "expiry", "This card has expired"),
    ({"cvv": "12"}, "cvv", "all digits"),
    ({"card": "370000000000002", "cvv": "123"}, "cvv", "all digits"),
    ({"email": "payer"}, "email", "name@example.com"),
]


def test_what_cannot_be_right_is_said_beside_the_field_and_nothing_is_sent(visitor):
    payment = visitor.begin()
    for wrong, field, words in WRONG:
        visitor.see(f"/checkout/{payment}")
        visitor.fill_in(**wrong)
        visitor.page.click("button.main")
        problem = visitor.page.locator(f"#{field}-problem")
        expect(problem).to_contain_text(words)
        expect(problem).to_have_attribute("aria-live", "polite")
        expect(visitor.page.locator(f"#{field}")).to_be_focused()
        expect(visitor.page.locator(f"#{field}")).to_have_attribute("aria-invalid", "true")
    assert visitor.payer.moves(payment) == ["pending"]
    visitor.pay()
    visitor.page.wait_for_url("**/otp/**")


def test_a_problem_goes_away_as_soon_as_it_is_mended(visitor):
    visitor.begin()
    visitor.page.fill("#cvv", "12")
    visitor.page.press("#cvv", "Tab")
    expect(visitor.page.locator("#cvv-problem")).to_contain_text("all digits")
    visitor.page.locator("#cvv").press_sequentially("3")

    expect(visitor.page.locator("#cvv-problem")).to_be_empty()


def test_a_test_card_is_filled_in_by_its_button(visitor):
    visitor.begin()
    visitor.page.click("summary")
    visitor.page.get_by_role("button", name="Use 4444 4444 4444 4444").click()
    expect(visitor.page.locator("#email")).to_be_focused()
    visitor.page.keyboard.type("payer@example.com")
    visitor.page.keyboard.press("Enter")

    visitor.page.wait_for_url("**/otp/**")


def test_a_saved_card_is_paid_with_by_two_keys(visitor, open_page, payer, url):
    payer.pay_through(payer.create(), save_card="true")
    payer.prove()
    page = visitor.page
    cookies = [
        {"name": name, "value": payer.client.get_cookie(name).value, "url": url}
        for name in ("sandbox_session", "user_email")
    ]
    page.context.add_cookies(cookies)
    visitor.begin()
    expect(page.locator("#card_number")).to_be_hidden()
    page.get_by_label("Another card").check()
    expect(page.locator("#card_number")).to_be_visible()
    page.get_by_label("**** 4444").check()
    page.click("button.main")

    page.wait_for_url("**/otp/**")


def test_the_dashboard_filters_shows_and_sends_a_webhook_again(visitor):
    with Receiver() as shop:
        payment = visitor.payer.create(reference="ORDER-7", webhookUrl=shop.url)
        visitor.payer.create(reference="ORDER-8")
        visitor.payer.pay_through(payment)
        visitor.payer.work()
        visitor.see("/")
        visitor.page.get_by_label("State").select_option("paid")
        visitor.page.get_by_role("button", name="Filter").click()
        expect(visitor.page.locator("tbody tr")).to_have_count(1)
        visitor.page.get_by_role("link", name="ORDER-7").click()
        expect(visitor.page.get_by_text(shop.received[0].headers["x-signature"]).first).to_be_visible()
        visitor.page.get_by_role("button", name="Send again").click()
        expect(visitor.page.get_by_text("It is queued")).to_be_visible()
        visitor.payer.work()

        assert [request.headers["x-payment-id"] for request in shop.received] == [payment, payment]


def test_a_payment_is_made_on_the_dashboard_and_everything_is_deleted_there(visitor):
    visitor.see("/")
    visitor.page.get_by_role("link", name="New test payment").click()
    visitor.page.fill("#reference", "BY HAND")
    visitor.page.click("button.main")
    expect(visitor.page.get_by_text("BY HAND")).to_be_visible()
    visitor.see("/")
    visitor.page.get_by_role("link", name="Reset the sandbox").click()
    visitor.page.get_by_role("button", name="Yes, delete everything").click()

    expect(visitor.page.get_by_text("Everything was deleted.")).to_be_visible()
    assert visitor.page.locator("tbody tr").count() == 0


def test_code_is_copied_by_a_button(visitor):
    visitor.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    visitor.see("/sandbox/verify")
    visitor.page.get_by_role("button", name="Copy Python").click()
    expect(visitor.page.get_by_role("button", name="Copied").first).to_be_visible()

    assert "def is_authentic" in visitor.page.evaluate("navigator.clipboard.readText()")

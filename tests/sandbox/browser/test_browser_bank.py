"""The bank's pages in a browser: an exchange is shown, a storm is followed to its end without a click."""

from collections.abc import Iterator

import pytest

from sandbox.storm.background import BackgroundStorm
from tests.sandbox.browser.test_browser_pages import complaints
from tests.sandbox.browser.test_browser_paying import expect
from tests.sandbox.factories import BANK_SECRET
from tests.sandbox.server import PATIENCE_SECONDS, free_port, served
from tests.sandbox.shops import Shop

WIDTHS = (320, 1280)


@pytest.fixture
def tested_shop() -> Iterator[Shop]:
    with Shop("loses some", speaks=True) as running:
        yield running


@pytest.fixture
def url(make_app, tested_shop) -> Iterator[str]:
    port, background = free_port(), BackgroundStorm(patience=0.5, settle=0.5)
    shop = {"SANDBOX_SHOP_URL": tested_shop.addresses.webhook, "SANDBOX_BANK_SECRET": BANK_SECRET}
    app = make_app(storm=background, SANDBOX_BASE_URL=f"http://127.0.0.1:{port}", **shop)
    with served(app, port) as address:
        yield address
    background.stop()
    assert background.wait(PATIENCE_SECONDS)


def test_a_webhook_is_sent_and_the_exchange_is_shown(open_page, url, axe):
    page = open_page()
    page.goto(f"{url}/bank/")
    page.fill("#amount", "many")
    page.click("button.main")
    expect(page.locator("#amount-problem")).to_be_visible()
    assert complaints(page, axe) == []

    page.fill("#amount", "700")
    page.click("button.main")
    expect(page.get_by_label("Request 1", exact=True)).to_contain_text('"amount": 700')
    expect(page.get_by_label("Answer 1", exact=True)).to_contain_text("credited")
    assert complaints(page, axe) == []


def test_a_storm_is_followed_to_its_end(open_page, url, axe):
    page = open_page()
    page.goto(f"{url}/bank/storm")
    page.fill("#operations", "150")
    page.fill("#organisations", "40")
    page.get_by_role("button", name="Start", exact=True).click()
    expect(page.locator("[data-phase]")).to_have_text("done", timeout=PATIENCE_SECONDS * 1000)

    expect(page.get_by_text("acknowledged and lost").first).to_be_visible()
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        assert complaints(page, axe) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width

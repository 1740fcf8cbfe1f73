"""A person at a browser: sees pages, types, clicks, and looks into the sandbox's inbox for codes."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.sandbox.factories import EMAIL, GOOD
from tests.sandbox.payer import Payer

if TYPE_CHECKING:
    from playwright.sync_api import Page


@dataclass
class Visitor:
    """One tab; `payer` is the program beside it that makes payments and looks into them."""

    page: "Page"
    url: str
    payer: Payer

    def beside(self) -> "Visitor":
        """Open another tab of the same browser."""
        return Visitor(self.page.context.new_page(), self.url, self.payer)

    def see(self, path: str) -> None:
        self.page.goto(f"{self.url}{path}")

    def begin(self, **order: Any) -> str:
        """Have a payment made, and open its page."""
        payment = self.payer.create(**order)
        self.see(f"/checkout/{payment}")
        return payment

    def fill_in(self, card: str = GOOD, expiry: str = "1230", cvv: str = "123", email: str = EMAIL) -> None:
        for name, value in (("card_number", card), ("expiry", expiry), ("cvv", cvv), ("email", email)):
            self.page.fill(f"#{name}", value)

    def pay(self, card: str = GOOD) -> None:
        self.fill_in(card)
        self.page.click("button.main")

    def read_code(self, payment: str) -> str:
        """Read the newest code on the inbox page, in a tab of its own."""
        tab = self.page.context.new_page()
        tab.goto(f"{self.url}/sandbox/inbox?invoice={payment}")
        code = tab.locator("[data-code]").first.inner_text()
        tab.close()
        return code

    def confirm(self, code: str) -> None:
        self.page.fill("#otp_code", code)
        self.page.click("form[data-otp] button")

    def pay_through(self, payment: str) -> None:
        self.pay()
        self.page.wait_for_url("**/otp/**")
        self.confirm(self.read_code(payment))
        self.page.wait_for_url("**/success/**")

    @property
    def heading(self) -> str:
        return self.page.locator("h1").inner_text()

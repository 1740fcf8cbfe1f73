"""docs/sandbox.md says what is true: settings, addresses, cards, waits."""

import re

from sandbox.gateway import cards, webhooks
from sandbox.gateway.model import AMOUNT_MAX, MOVES, OTP_LIFETIME, OTP_RESEND_AFTER
from sandbox.settings import ROOT, Settings

PAGE = (ROOT / "docs/sandbox.md").read_text()
OF_KOPECK = {"KOPECK_ENV", "PORT", "BANK_WEBHOOK_SECRETS"}


def section(title: str) -> str:
    return re.split(r"^##+ ", PAGE.split(f"\n### {title}\n")[1], flags=re.MULTILINE)[0]


def first_cells(title: str) -> list[str]:
    return re.findall(r"^\| (`[^|]+?) \|", section(title), re.MULTILINE)


def test_the_page_lists_exactly_the_settings():
    asked = set()

    class Watched(dict[str, str]):
        def get(self, name, default=None):
            asked.add(name)
            return super().get(name, default)

    Settings.from_env(Watched())
    assert {cell.strip("`") for cell in first_cells("Settings")} == asked - OF_KOPECK


def test_the_page_lists_exactly_the_addresses_of_both_apis(app):
    routes = {
        f"{method} " + re.sub("<[a-z]+:", "<", rule.rule)
        for rule in app.url_map.iter_rules()
        if rule.endpoint.split(".")[0] in ("acquiremock", "control_api")
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }

    assert {cell.strip("`") for cell in first_cells("Addresses")} == routes


def test_the_page_lists_exactly_the_states():
    listed = {name for cell in first_cells("States") for name in re.findall("`([a-z_]+)`", cell)}

    assert listed == set(MOVES)


def test_the_cards_do_what_the_page_says():
    text = section("Cards")
    known = {card.number: card.behaviour for card in cards.TABLE}
    for number in re.findall(r"`(\d{15,16})`", text):
        assert number in known
    assert set(re.findall(r"`([a-z_]+)`", text)) <= set(cards.STEPS) | {"paid"}
    assert f"after {cards.SLOW_SECONDS:.0f} seconds" in text
    assert f"after {cards.TIMEOUT_SECONDS:.0f} seconds, and after {cards.SILENT_SECONDS:.0f}" in text


def test_the_numbers_of_the_page_are_those_of_the_code():
    waits = ", ".join(str(seconds) for seconds in webhooks.RETRY_SECONDS[:-1])

    assert f"after {waits} and {webhooks.RETRY_SECONDS[-1]} seconds" in PAGE.replace("\n  ", " ")
    assert len(webhooks.RETRY_SECONDS) + 1 == webhooks.ATTEMPTS_MAX
    assert f"within {webhooks.SECONDS_MAX:.0f} seconds" in PAGE
    assert f"From 1 to {AMOUNT_MAX}" in PAGE
    assert f"after {OTP_LIFETIME.seconds // 60} minutes" in PAGE
    assert f"once in {OTP_RESEND_AFTER.seconds} seconds" in PAGE

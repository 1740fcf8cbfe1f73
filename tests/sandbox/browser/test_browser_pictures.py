"""The pictures of docs/sandbox/ are there and small; with PICTURES=renew they are made anew."""

import os
from pathlib import Path

import pytest

from sandbox.settings import ROOT
from tests.receivers import Receiver
from tests.sandbox.browser.pictures import shrunk
from tests.sandbox.browser.test_browser_paying import expect
from tests.sandbox.scenes import make_scene

FOLDER = ROOT / "docs/sandbox"
PICTURE_BYTES_MAX = 60_000
WIDTHS = {"narrow": 360, "wide": 1280}
HEIGHT, HEIGHT_MAX = 760, 1500
PAGES = (
    *("checkout", "otp", "success", "failure", "expired", "processed"),
    *("payments", "payment", "webhooks", "inbox", "cards", "verify", "bank", "storm"),
)
DARK = ("checkout", "success", "payments")
NAMES = [f"{page}-{width}" for page in PAGES for width in WIDTHS] + [
    f"{page}-{width}-dark" for page in DARK for width in WIDTHS
]


@pytest.mark.skipif("PICTURES" not in os.environ, reason="PICTURES=renew makes the pictures of docs/sandbox/ anew")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_pictures_are_made_anew(visitor, open_page, payer, clock, width, scheme):
    FOLDER.mkdir(exist_ok=True)
    with Receiver() as shop:
        scene = {**make_scene(payer, clock, shop.url), "bank": "/bank/", "storm": "/bank/storm"}
    scene["checkout"] = f"/checkout/{payer.create(reference='ORDER-105')}"
    visitor.page = open_page(
        color_scheme=scheme, viewport={"width": WIDTHS[width], "height": HEIGHT}, reduced_motion="reduce"
    )
    visitor.page.clock.install(time=clock())
    blank = open_page()
    for name in PAGES if scheme == "light" else DARK:
        visitor.see(scene[name])
        expect(visitor.page.locator("h1")).to_be_visible()
        height = min(HEIGHT_MAX, visitor.page.evaluate("document.documentElement.scrollHeight"))
        picture = visitor.page.screenshot(
            full_page=True, clip={"x": 0, "y": 0, "width": WIDTHS[width], "height": height}
        )
        file = FOLDER / f"{name}-{width}{'-dark' if scheme == 'dark' else ''}.png"
        file.write_bytes(shrunk(blank, picture))


@pytest.mark.parametrize("name", NAMES)
def test_every_page_has_its_picture_and_it_is_small(name):
    picture = FOLDER / f"{name}.png"

    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size <= PICTURE_BYTES_MAX


def test_there_is_no_picture_of_a_page_that_is_gone():
    assert {Path(file).stem for file in FOLDER.glob("*.png")} == set(NAMES)

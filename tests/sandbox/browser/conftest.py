"""Chromium, a sandbox that it reaches over HTTP, and a line at the end that says whether there was one."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from flask import Flask

from tests.sandbox.browser.visitor import Visitor
from tests.sandbox.payer import Payer
from tests.sandbox.server import free_port, served

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
AXE = "axe-core@4.10.3"
INSTALL_SECONDS = 300

VERSIONS: list[str] = []
PROBLEMS: list[str] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if VERSIONS:
        terminalreporter.write_line(f"browsers tested: {', '.join(VERSIONS)}")
    for problem in dict.fromkeys(PROBLEMS):
        terminalreporter.write_line(problem)


def skip(problem: str) -> None:
    PROBLEMS.append(problem)
    pytest.skip(problem)


@pytest.fixture(scope="session")
def chromium() -> Iterator["Browser"]:
    program = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    if find_spec("playwright") is None:
        skip("BROWSERS NOT TESTED: the Python package playwright is not here")
    if program is None:
        skip("BROWSERS NOT TESTED: no Chromium is here")
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - it may not be here

    with sync_playwright() as playwright:
        # Where tests run as root, Chromium's own sandbox does not start.
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        VERSIONS.append(f"Chromium {browser.version}")
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def axe(request: pytest.FixtureRequest) -> str:
    """Return the source of axe-core, got from npm once and kept in pytest's cache."""
    folder = Path(request.config.cache.mkdir(AXE.replace("@", "-")))
    source = folder / "node_modules/axe-core/axe.min.js"
    if not source.exists():
        _install(folder)
    version = AXE.split("@")[1]
    VERSIONS.append(f"axe-core {version}")
    return source.read_text(encoding="utf-8")


def _install(folder: Path) -> None:
    if shutil.which("npm") is None:
        skip("ACCESSIBILITY NOT TESTED: npm is not here, and axe-core comes from it")
    result = subprocess.run(
        ["npm", "install", "--prefix", folder, "--no-save", "--no-audit", "--no-fund", "--ignore-scripts", AXE],
        capture_output=True,
        text=True,
        check=False,
        timeout=INSTALL_SECONDS,
    )
    if result.returncode:
        skip(f"ACCESSIBILITY NOT TESTED: npm did not get {AXE}")


@pytest.fixture
def url(make_app: Callable[..., Flask]) -> Iterator[str]:
    port = free_port()
    app = make_app(SANDBOX_BASE_URL=f"http://127.0.0.1:{port}")
    with served(app, port) as address:
        yield address


@pytest.fixture
def app(make_app: Callable[..., Flask], url: str) -> Flask:
    """An app of its own on the database of the one that is served, to prepare and to look into."""
    return make_app(SANDBOX_BASE_URL=url)


@pytest.fixture
def open_page(chromium: "Browser") -> Iterator[Callable[..., "Page"]]:
    """Open pages in browsers of their own; the test fails if a page broke its policy or its script broke."""
    contexts, complaints = [], []

    def listen(page: "Page") -> None:
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda said: complaints.append(said.text) if "Security Policy" in said.text else None)

    def make(**options: object) -> "Page":
        context = chromium.new_context(**{"locale": "en-US", "viewport": {"width": 1280, "height": 900}, **options})
        context.set_default_timeout(20_000)
        context.on("page", listen)
        contexts.append(context)
        return context.new_page()

    yield make
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture
def visitor(open_page: Callable[..., "Page"], url: str, payer: Payer) -> Visitor:
    return Visitor(open_page(), url, payer)

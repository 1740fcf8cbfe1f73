"""The code on the page about signatures, taken from the page and run on what the sandbox sends."""

import hashlib
import hmac
import html
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.receivers import ReceivedRequest, Receiver

DRIVERS = {
    "Python": (
        ".py",
        "import pathlib, sys\n"
        "body, signature, secret = sys.argv[1:]\n"
        "sys.exit(0 if is_authentic(pathlib.Path(body).read_bytes(), signature, secret) else 1)\n",
    ),
    "Shell": (".sh", 'is_authentic "$1" "$2" "$3"\n'),
    "Node.js": (
        ".js",
        "const [file, given, secret] = process.argv.slice(2);\n"
        'process.exitCode = isAuthentic(require("node:fs").readFileSync(file), given, secret) ? 0 : 1;\n',
    ),
    "PHP": (".php", "exit(is_authentic(file_get_contents($argv[1]), $argv[2], $argv[3]) ? 0 : 1);\n"),
}
PROGRAMS = {"Python": sys.executable, "Shell": "sh", "Node.js": "node", "PHP": "php"}
NEEDS = {"Shell": ("sh", "openssl", "sed")}
PIECE = re.compile(r'<h2 id="code-\d-title">([^<]+)</h2>.*?<pre [^>]*>(.*?)</pre>', re.DOTALL)


@dataclass(frozen=True)
class Snippet:
    """One piece of code, in a file with a line behind it that calls it."""

    program: str
    file: Path

    def accepts(self, body: bytes, signature: str, secret: str) -> bool:
        kept = self.file.with_suffix(".body")
        kept.write_bytes(body)
        result = subprocess.run(
            [self.program, self.file, kept, signature, secret], capture_output=True, text=True, check=False
        )
        assert result.returncode in (0, 1), result.stderr
        assert not result.stderr, result.stderr
        return result.returncode == 0


def on_page(client) -> dict[str, str]:
    page = client.get("/sandbox/verify").text
    return {language: html.unescape(code) for language, code in PIECE.findall(page)}


@pytest.fixture
def snippet(client, tmp_path) -> Callable[[str], Snippet]:
    def make(language: str) -> Snippet:
        missing = [need for need in NEEDS.get(language, (PROGRAMS[language],)) if shutil.which(need) is None]
        if missing:
            pytest.skip(f"{missing[0]} is not here: the {language} code of /sandbox/verify was not run")
        ending, driver = DRIVERS[language]
        file = tmp_path / f"snippet{ending}"
        file.write_text(on_page(client)[language] + driver)
        return Snippet(PROGRAMS[language], file)

    return make


@pytest.fixture
def webhook(payer) -> ReceivedRequest:
    with Receiver() as shop:
        payer.pay_through(payer.create(reference="Замовлення 5 \\ %s", webhookUrl=shop.url))
        payer.work()
        (webhook,) = shop.received
        return webhook


def test_the_page_has_all_four_languages(client):
    assert set(on_page(client)) == set(DRIVERS)


@pytest.mark.parametrize("language", DRIVERS)
def test_the_code_accepts_what_the_sandbox_sends_and_nothing_else(snippet, webhook, payer, language):
    code, signature, secret = snippet(language), webhook.headers["x-signature"], payer.secret()

    assert code.accepts(webhook.body, signature, secret)
    assert not code.accepts(webhook.body.replace(b"25000.0", b"25001.0"), signature, secret)
    assert not code.accepts(webhook.body + b"\n", signature, secret)
    assert not code.accepts(webhook.body, signature, secret[:-1])
    for forged in ("", "*", "0" * 64, signature.upper()):
        assert not code.accepts(webhook.body, forged, secret)


@pytest.mark.parametrize("language", DRIVERS)
def test_the_code_accepts_nothing_without_a_secret(snippet, webhook, language):
    code = snippet(language)

    # What anybody can make.
    guessed = hmac.new(b"", webhook.body, hashlib.sha256).hexdigest()
    assert not code.accepts(webhook.body, guessed, "")

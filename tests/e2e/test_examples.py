"""The examples of the pages, run as they are printed, against the real server."""

import json
import re
import shutil
import subprocess
import sys
import urllib.request

import pytest

from config import ROOT
from tests.factories import INN, SECRET

LANGUAGES = {
    "sh": ["sh"],
    "python": [sys.executable],
    "javascript": ["node"],
    "php": ["php"],
}


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


def balance(port: int) -> int:
    address = f"http://127.0.0.1:{port}/api/v1/organizations/{INN}/balance/"
    try:
        with urllib.request.urlopen(address) as answer:
            return int(json.load(answer)["balance"])
    except urllib.error.HTTPError as error:
        error.close()
        return 0


@pytest.mark.parametrize("language", LANGUAGES)
def test_signing_example_is_credited(port, tmp_path, language):
    command = LANGUAGES[language]
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not here: the {language} example of docs/webhooks.md was not run")
    (code,) = blocks("docs/webhooks.md", language)
    example = tmp_path / "example"
    example.write_text(code)
    before = balance(port)
    environ = {"PATH": "/usr/local/bin:/usr/bin:/bin", "SECRET": SECRET}
    url = f"http://127.0.0.1:{port}/api/v1/webhook/bank/"

    result = subprocess.run(
        [*command, example], env={**environ, "URL": url}, capture_output=True, text=True, check=False
    )

    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["status"] == "credited"
    assert balance(port) == before + 145000
    refused = subprocess.run(
        [*command, example], env={**environ, "URL": url, "SECRET": "x"}, capture_output=True, check=False
    )
    assert refused.returncode != 0


@pytest.mark.parametrize("page", ["README.md", "README.ru.md"])
def test_first_webhook_of_the_readme_works(port, tmp_path, page):
    code = blocks(page, "sh")[0].replace(":8000/", f":{port}/")
    (tmp_path / ".env").write_text(f"KOPECK_ENV=development\nBANK_WEBHOOK_SECRETS={SECRET},older\n")

    def run() -> tuple[dict[str, object], dict[str, object]]:
        result = subprocess.run(["sh", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
        webhook, after = (json.loads(line) for line in result.stdout.splitlines())
        return webhook, after

    first, second = run(), run()

    assert first[0]["status"] in ("credited", "duplicate")
    assert second[0]["status"] == "duplicate"
    assert second[1] == first[1]
    assert int(str(second[1]["balance"])) >= 145000

"""Commands in a process of their own: what is missing to begin is said in a line, without a secret."""

import os
import subprocess
import sys

import pytest

from config import ROOT
from tests.factories import SECRET, SECRETS_KEY


@pytest.mark.parametrize("url", ["postgresql://x:pass-word@127.0.0.1:9/k", "mariadb://x:pass-word@127.0.0.1:9/k"])
def test_migration_without_a_database_says_so_in_one_line(tmp_path, url):
    result = _flask(tmp_path, "db", "upgrade", DATABASE_URL=url)

    assert result.returncode == 1
    assert "Error: The database is not available. Look at DATABASE_URL." in result.stderr
    assert "Traceback" not in result.stderr
    assert "pass-word" not in result.stderr


def test_database_file_in_a_place_that_cannot_be_made_says_so(tmp_path):
    (tmp_path / "file").touch()

    result = _flask(tmp_path, "orgs", "list", DATABASE_URL=f"sqlite:///{tmp_path / 'file' / 'k.db'}")

    assert result.returncode == 1
    assert "DATABASE_URL names a file in" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("name", ["BANK_WEBHOOK_SECRETS_TYPO"])
def test_secret_of_a_bank_that_is_not_there_stops_the_start(tmp_path, name):
    result = _flask(tmp_path, "orgs", "list", **{name: SECRET})

    assert result.returncode == 1
    assert f"{name} is for a bank that is not in the registry" in result.stderr


def test_command_without_tables_says_what_to_do(tmp_path):
    result = _flask(tmp_path, "orgs", "list", DATABASE_URL=f"sqlite:///{tmp_path / 'empty.db'}")

    assert result.returncode == 1
    assert "run `flask db upgrade`" in result.stderr
    assert "Traceback" not in result.stderr


def test_command_with_bad_settings_lists_them_and_quotes_no_secret(tmp_path):
    result = _flask(tmp_path, "orgs", "list", KOPECK_ENV="production", BANK_WEBHOOK_SECRETS="short", PORT="0")

    assert result.returncode == 1
    assert "PORT must be" in result.stderr
    assert "BANK_WEBHOOK_SECRETS holds a weak secret" in result.stderr
    assert "short" not in result.stderr


def _flask(tmp_path, *args: str, **environ: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"], "BANK_WEBHOOK_SECRETS": SECRET, "SECRETS_KEYS": SECRETS_KEY, **environ}
    command = [sys.executable, "-m", "flask", "--app", str(ROOT / "app.py"), *args]
    return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)

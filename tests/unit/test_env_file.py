"""`make run` makes `.env`, or completes it, and never puts a secret where others can read it."""

import os
import stat

import pytest

import environment
from config import ROOT
from tests.unit.test_config import ordinary_user

OLD = "KOPECK_ENV=development\nBANK_WEBHOOK_SECRETS=\nENDPOINTS_ON_LOOPBACK=refuse\nSECRETS_KEYS=kept"


@pytest.fixture
def file(tmp_path):
    (tmp_path / ".env.example").write_bytes((ROOT / ".env.example").read_bytes())
    return tmp_path / ".env"


def mode(file) -> int:
    return stat.S_IMODE(file.stat().st_mode)


def values(file) -> dict[str, str]:
    return environment.read(file, {})[0]


def test_file_is_made_with_secrets_for_its_owner_alone(file):
    umask = os.umask(0)
    try:
        said = list(environment.complete(file))
    finally:
        os.umask(umask)

    assert said[0] == "Made .env."
    assert mode(file) == 0o600
    assert {name: len(values(file)[name]) for name in environment.SECRETS} == dict.fromkeys(environment.SECRETS, 64)
    assert len({values(file)[name] for name in environment.SECRETS}) == 2
    # The page of the beginning looks for it so.
    assert file.read_text().count("\nBANK_WEBHOOK_SECRETS=") == 1
    assert list(environment.complete(file)) == []


@pytest.mark.parametrize("open_mode", [0o644, 0o640, 0o604, 0o666, 0o620])
def test_file_that_others_can_read_is_closed_before_a_secret_goes_in(file, open_mode):
    file.write_text(OLD)
    file.chmod(open_mode)
    steps = environment.complete(file)

    assert f"mode {open_mode:04o}" in next(steps)
    assert (mode(file), file.read_text()) == (0o600, OLD)
    assert list(steps) == ["Put a fresh secret into .env: BANK_WEBHOOK_SECRETS."]
    assert mode(file) == 0o600
    assert values(file)["SECRETS_KEYS"] == "kept"


def test_file_that_cannot_be_closed_gets_no_secret(tmp_path):
    file = tmp_path / ".env"
    file.write_text(OLD)
    file.chmod(0o644)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.geteuid() and folder.name.startswith(("pytest-", "popen", "test_")):
            folder.chmod(0o755)

    with ordinary_user():
        if os.geteuid() == file.stat().st_uid:
            pytest.skip("an ordinary user runs the tests, who may change every file of theirs")
        with pytest.raises(SystemExit, match="no secret goes into it"):
            list(environment.complete(file))

    assert file.read_text() == OLD


@pytest.mark.parametrize(
    "line",
    [
        "export BANK_WEBHOOK_SECRETS=mine",
        " BANK_WEBHOOK_SECRETS = mine",
        "'BANK_WEBHOOK_SECRETS'=mine",
        "BANK_WEBHOOK_SECRETS='mine' # the bank's",
        "\ufeffBANK_WEBHOOK_SECRETS=mine",
        "BANK_WEBHOOK_SECRETS=\nBANK_WEBHOOK_SECRETS=mine",
    ],
)
def test_secret_that_is_there_in_any_spelling_stays(file, line):
    file.write_text(f"{line}\nSECRETS_KEYS=kept\nENDPOINTS_ON_LOOPBACK=allow\n")
    file.chmod(0o600)

    assert list(environment.complete(file)) == []
    assert values(file)["BANK_WEBHOOK_SECRETS"] == "mine"


@pytest.mark.parametrize(
    "line", ['BANK_WEBHOOK_SECRETS=""', "BANK_WEBHOOK_SECRETS= # none yet", "BANK_WEBHOOK_SECRETS"]
)
def test_secret_that_is_empty_in_any_spelling_is_made(file, line):
    file.write_text(f"# mine\n\n{line}\n# more\nSECRETS_KEYS=kept\nENDPOINTS_ON_LOOPBACK=allow\nPORT=1")
    file.chmod(0o600)

    assert list(environment.complete(file)) == ["Put a fresh secret into .env: BANK_WEBHOOK_SECRETS."]
    assert len(values(file)["BANK_WEBHOOK_SECRETS"]) == 64
    assert values(file) | {"BANK_WEBHOOK_SECRETS": ""} == {
        **{"BANK_WEBHOOK_SECRETS": "", "SECRETS_KEYS": "kept", "ENDPOINTS_ON_LOOPBACK": "allow", "PORT": "1"}
    }
    assert file.read_text().startswith("# mine\n\nBANK_WEBHOOK_SECRETS=")


def test_production_is_not_opened_to_this_machine(file):
    file.write_text("export KOPECK_ENV='production'\nBANK_WEBHOOK_SECRETS=a\nSECRETS_KEYS=b\n")

    assert [said for said in environment.complete(file) if "ENDPOINTS" in said] == []


def test_link_stays_a_link(file, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text(OLD)
    file.symlink_to(elsewhere)
    list(environment.complete(file))

    assert file.is_symlink()
    assert mode(elsewhere) == 0o600
    assert len(values(file)["BANK_WEBHOOK_SECRETS"]) == 64


def test_file_that_cannot_be_read_is_left_as_it_is(file):
    file.write_text("PORT='1\n")
    file.chmod(0o600)

    with pytest.raises(SystemExit, match="line 1 cannot be read"):
        list(environment.complete(file))
    assert file.read_text() == "PORT='1\n"

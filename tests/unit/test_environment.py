"""What other programs take from `.env` in their own ways is recognised, on every system."""

import pytest

import environment

FILE = "SECRET=abc#def\nNAME='two words'\nPORT=8000\n"
BY_HONCHO = {"SECRET": "abc", "NAME": "two words"}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / ".env"
    path.write_text(FILE)
    return path


def test_what_honcho_has_read_is_passed_over(file):
    environ = {**BY_HONCHO, "PORT": "8100", environment.HONCHO_MARK: "worker.1", "OTHER": "x"}

    assert environment.read(file, environ)[0] == {
        "SECRET": "abc#def",
        "NAME": "two words",
        "PORT": "8000",
        "OTHER": "x",
        environment.HONCHO_MARK: "worker.1",
    }


def test_what_was_set_by_hand_stays_under_honcho(file):
    environ = {**BY_HONCHO, "SECRET": "by hand", "PORT": "8010", environment.HONCHO_MARK: "web.1"}

    values, _ = environment.read(file, environ)

    assert (values["SECRET"], values["PORT"]) == ("by hand", "8010")


def test_port_that_is_set_by_hand_stays_where_no_honcho_is(file):
    assert environment.read(file, {**BY_HONCHO, "PORT": "8010"})[0]["PORT"] == "8010"


def test_where_there_is_no_proc_what_stands_before_the_mark_was_there_at_the_start(tmp_path):
    environ = {"PORT": "1", environment.FLASK_MARK: "true", "DATABASE_URL": "of a file"}

    assert environment.started_with(environ, tmp_path / "none") == {"PORT"}
    assert environment.started_with({"PORT": "1"}, tmp_path / "none") == {"PORT"}


def test_proc_says_what_was_there_at_the_start_whatever_is_there_now(tmp_path):
    kept = tmp_path / "environ"
    kept.write_bytes(b"PORT=1\0" + environment.FLASK_MARK.encode() + b"=true\0DATABASE_URL=x=y\0")

    assert environment.started_with({"OTHER": "1"}, kept) >= {"PORT", "DATABASE_URL", environment.FLASK_MARK}

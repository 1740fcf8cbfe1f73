"""How it is started beside Kopeck: by the Procfile, with its address printed first, and not at all if it is deleted."""

import os
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from sandbox.settings import ROOT
from tests.sandbox.server import Process, free_port

BIN = Path(sys.executable).parent


class FromProcfile(Process):
    """Started by the words of the Procfile, with the port that honcho would make up for it."""

    def command(self) -> list[str]:
        lines = dict(line.split(": ", 1) for line in (ROOT / "Procfile").read_text().splitlines())
        return ["sh", "-c", lines["sandbox"]]


def environ(folder: Path, port: int) -> dict[str, str]:
    return {
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "SANDBOX_DATABASE": str(folder / "sandbox.db"),
        "SANDBOX_PORT": str(port),
        "SANDBOX_HOST": "127.0.0.1",
        "SANDBOX_BASE_URL": f"http://127.0.0.1:{port}",
    }


def test_the_procfile_has_it_listen_where_the_settings_say(tmp_path):
    process = FromProcfile({"PATH": f"{BIN}:{os.environ['PATH']}", "PORT": "8200"}, tmp_path / "log")
    process.environ["SANDBOX_DATABASE"] = str(tmp_path / "sandbox.db")
    try:
        process.start()
        with urllib.request.urlopen(f"{process.url}/health") as answer:
            assert answer.status == 200
    finally:
        process.kill()


def welcome(folder: Path, port: int) -> subprocess.CompletedProcess[str]:
    command = [BIN / "flask", "--app", "sandbox", "sandbox", "welcome"]
    return subprocess.run(
        command, cwd=ROOT, env=environ(folder, port), capture_output=True, text=True, check=False, timeout=60
    )


def test_its_address_is_printed_first_unless_something_else_is_there(tmp_path):
    port = free_port()
    said = welcome(tmp_path, port)
    assert said.returncode == 0, said.stderr
    assert f"http://127.0.0.1:{port}/" in said.stdout

    process = Process({"SANDBOX_DATABASE": str(tmp_path / "other.db")}, tmp_path / "log")
    try:
        process.start()
        refused = welcome(tmp_path, process.port)
    finally:
        process.kill()
    assert refused.returncode == 1
    assert f"SANDBOX_PORT={process.port + 1} make run" in refused.stderr


@pytest.mark.parametrize("there", [True, False])
def test_make_run_starts_it_if_it_is_there(tmp_path, there):
    for name in ("Makefile", "Procfile"):
        shutil.copy(ROOT / name, tmp_path)
    if there:
        (tmp_path / "sandbox").mkdir()
        (tmp_path / "sandbox/__init__.py").touch()
    result = subprocess.run(
        ["make", "-n", "-o", ".venv/run", "-o", ".env", "run"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    assert ("--app sandbox" in result.stdout) is there
    assert ("web worker sandbox" in result.stdout) is there
    assert "web worker" in result.stdout

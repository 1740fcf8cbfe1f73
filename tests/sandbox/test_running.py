"""How the sandbox is started: by the Procfile beside Kopeck, by `flask run`, and not at all if it is deleted."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from sandbox.settings import ROOT
from tests.sandbox.factories import SECRET, order
from tests.sandbox.payer import pay_as_a_script
from tests.sandbox.server import Process, eventually, free_port

BIN = Path(sys.executable).parent


class FromProcfile(Process):
    """Started by the command of the Procfile, with the PORT that honcho would set."""

    def __init__(self, folder: Path, **environ: str) -> None:
        settings = {"SANDBOX_DATABASE": str(folder / "sandbox.db"), "SANDBOX_WEBHOOK_SECRET": SECRET, "PORT": "8200"}
        super().__init__({"PATH": f"{BIN}:{os.environ['PATH']}", **settings, **environ}, folder / "log")

    def command(self) -> list[str]:
        lines = dict(line.split(": ", 1) for line in (ROOT / "Procfile").read_text().splitlines())
        return ["sh", "-c", lines["sandbox"]]


@pytest.fixture
def from_procfile(tmp_path: Path) -> Iterator[Callable[..., FromProcfile]]:
    started: list[FromProcfile] = []

    def start(**environ: str) -> FromProcfile:
        process = FromProcfile(tmp_path, **environ)
        started.append(process)
        process.start()
        return process

    yield start
    for process in started:
        process.kill()


def test_the_procfile_serves_at_the_port_of_the_settings_and_without_a_warning(from_procfile):
    process = from_procfile()

    assert requests.get(f"{process.url}/health", timeout=30).json()["status"] == "ok"
    assert "WARNING" not in process.log.read_text()
    created = requests.post(f"{process.url}/api/create-invoice", json=order(), timeout=30)
    assert created.json()["pageUrl"].startswith(f"{process.url}/checkout/")


def test_the_procfile_starts_a_worker_too(from_procfile, shop):
    process = from_procfile()
    page_url = requests.post(f"{process.url}/api/create-invoice", json=order(webhookUrl=shop.url), timeout=30)
    pay_as_a_script(process.url, page_url.json()["pageUrl"], "ORDER-123", "/pay")
    eventually(lambda: shop.received)

    assert [json.loads(request.body)["status"] for request in shop.received] == ["paid"]


def test_a_shop_may_call_the_sandbox_while_it_is_called(from_procfile, shop):
    process = from_procfile(SANDBOX_SHOP_URL=shop.url)

    def answer(_request):
        health = requests.get(f"{process.url}/health", timeout=30)
        return health.status_code, {"Content-Type": "application/json"}, health.content

    shop.answer = answer
    imitated = requests.post(f"{process.url}/api/v1/webhook/bank/imitation/", json={}, timeout=60).json()

    assert imitated["bank_webhook_status_code"] == 200
    assert imitated["bank_webhook_response"]["status"] == "ok"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_by_a_signal_to_all_its_processes(from_procfile, number):
    process = from_procfile()

    assert process.end(number) == 0
    assert "Traceback" not in process.log.read_text()


def test_other_machines_cannot_reach_it_unless_it_is_public(from_procfile, tmp_path):
    refused = FromProcfile(tmp_path, SANDBOX_HOST="0.0.0.0")
    result = subprocess.run(
        refused.command(), cwd=ROOT, env=refused.environ, capture_output=True, text=True, check=False, timeout=60
    )
    assert result.returncode != 0
    assert "SANDBOX_PUBLIC=yes" in result.stderr

    public = from_procfile(SANDBOX_HOST="0.0.0.0", SANDBOX_PUBLIC="yes")
    strange = requests.get(f"{public.url}/health", headers={"Host": "sandbox.example"}, timeout=30)
    assert strange.status_code == 200


def test_flask_run_needs_neither_gunicorn_nor_gevent(tmp_path):
    """They cannot be imported on Windows."""
    program = "import sys; sys.modules |= {'gunicorn': None, 'gevent': None}; import sandbox; sandbox.create_app()"
    environ = {"PATH": os.environ["PATH"], "SANDBOX_DATABASE": str(tmp_path / "sandbox.db")}
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environ, capture_output=True, text=True, check=False, timeout=60
    )

    assert (result.returncode, result.stderr) == (0, "")


def environ(folder: Path, port: int) -> dict[str, str]:
    return {
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "SANDBOX_DATABASE": str(folder / "sandbox.db"),
        "SANDBOX_PORT": str(port),
        "SANDBOX_HOST": "127.0.0.1",
        "SANDBOX_BASE_URL": f"http://127.0.0.1:{port}",
    }


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
    assert f"such as SANDBOX_PORT={process.port + 10}" in refused.stderr


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

"""The OpenAPI document is true: schemathesis tries to prove otherwise, and Swagger UI needs nothing from outside."""

import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import urljoin

import pytest

from api import SWAGGER_POLICY
from app import create_app
from auth import api_keys
from config import ROOT
from context import wall_clock
from database.extension import db
from ledger import audit
from ledger.findings import Finding
from tests import wsgi
from tests.callers import Bank
from tests.databases import Database
from tests.factories import START, make_config, make_org

HOOKS = "tests.contracts.schemathesis_hooks"
CASES_PER_OPERATION = 50
CASES_MIN = 500


@pytest.fixture
def address():
    """Serve an app in production dress with something in it; give its address and a key for everything."""
    database = Database("sqlite")
    database.create()
    app = create_app(make_config(database.url, KOPECK_ENV="production"), wall_clock)
    database.migrate(app)
    for amount in (0, 1, 2, 2**63 - 1):
        Bank(app.test_client()).send(amount=amount)
    with app.app_context():
        make_org("7707083893")
        token = api_keys.create(name="schemathesis", scopes=list(api_keys.SCOPES), now=START)
    with wsgi.listening(app) as url:
        yield f"{url}/api/v1/openapi.json", token
    with app.app_context():
        assert [step for step in audit.verify() if isinstance(step, Finding)] == []
        db.engine.dispose()
    database.drop()


def test_schemathesis_finds_nothing(address, tmp_path):
    url, token = address
    options = ["--checks", "all", "-n", str(CASES_PER_OPERATION), "--seed", "1", "-H", f"Authorization: Bearer {token}"]
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "SCHEMATHESIS_HOOKS": HOOKS}

    result = subprocess.run(
        [Path(sys.executable).with_name("schemathesis"), "run", url, *options],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )

    assert result.returncode == 0, result.stdout[-10_000:]
    (cases,) = re.findall(r"(\d+) generated", result.stdout)
    assert int(cases) >= CASES_MIN


def test_document_is_openapi_3_1_and_complete(client, app, database):
    document = client.get("/api/v1/openapi.json").json
    documented = {(path.rstrip("/"), method.upper()) for path, item in document["paths"].items() for method in item}
    served = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule).rstrip("/"), method)
        for rule in app.url_map.iter_rules()
        for method in rule.methods - {"HEAD", "OPTIONS"}
        if not rule.rule.startswith(("/api/v1/swagger", "/api/v1/openapi", "/api/organizations", "/api/webhook"))
    }

    assert document["openapi"] == "3.1.0"
    assert {entry for entry in documented if entry[1] != "PARAMETERS"} == served


def test_swagger_needs_nothing_from_outside(client, database):
    page = client.get("/api/v1/swagger/")
    addresses = re.findall(r'(?:src|href)="([^"]+)"', page.text)

    assert len(addresses) == 3
    for address in (urljoin("/api/v1/swagger/", address) for address in addresses):
        assert address.startswith("/api/v1/swagger/files/")
        with client.get(address) as file:
            assert file.status_code == 200
    assert "http" not in page.text.replace("http-equiv", "")
    assert page.headers.getlist("Content-Security-Policy") == [SWAGGER_POLICY]


@pytest.mark.parametrize("name", ["../app.py", "..%2fconfig.py", "/etc/passwd", "nothing.js"])
def test_swagger_files_are_only_its_own(client, name):
    assert client.get(f"/api/v1/swagger/files/{name}").status_code == 404

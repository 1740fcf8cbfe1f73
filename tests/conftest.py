"""app, client, clock, databases: every test that touches a table runs on each database that is there."""

import os
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import cache

import pytest
from click.testing import Result
from flask import Flask
from flask.testing import FlaskClient

from app import create_app
from auth import api_keys
from database.extension import db
from ledger import audit
from ledger.findings import Finding
from outbox import audit as events_audit
from tests import brokers, databases, nginx, poolers
from tests.callers import Bank, Operator
from tests.databases import Database
from tests.factories import START, make_config
from tests.receivers import Receiver

LONGEST = (
    "tests/contracts/test_interrupted_migrations.py",
    "tests/contracts/test_openapi.py",
    "tests/flows/test_state_machine.py",
)
"""Files that take a minute or more: they begin first, so that none of them runs alone at the end."""


class Clock:
    """The app's clock, which stands still until a test moves it."""

    def __init__(self) -> None:
        self.moment = START

    def __call__(self) -> datetime:
        return self.moment

    def move(self, **span: float) -> None:
        self.moment += timedelta(**span)


@pytest.fixture(scope="session")
def session_clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session", params=databases.FAMILIES)
def migrated(request: pytest.FixtureRequest, session_clock: Clock) -> Iterator[tuple[Database, Flask]]:
    database = Database(request.param)
    database.create()
    app = create_app(make_config(database.url), session_clock)
    database.migrate(app)
    yield database, app
    with app.app_context():
        db.engine.dispose()
    database.drop()


@pytest.fixture
def database(migrated: tuple[Database, Flask]) -> Database:
    migrated[0].clean()
    return migrated[0]


@pytest.fixture
def clock(session_clock: Clock) -> Clock:
    session_clock.moment = START
    return session_clock


@pytest.fixture
def app(migrated: tuple[Database, Flask], database: Database, clock: Clock) -> Flask:
    return migrated[1]


@pytest.fixture
def context(app: Flask) -> Iterator[Flask]:
    """Stand inside the app, for tests that call use cases directly."""
    with app.app_context():
        yield app


@pytest.fixture
def make_app(database: Database, clock: Clock) -> Iterator[Callable[..., Flask]]:
    """Make further apps on the same database, with other settings."""
    made = []

    def make(**overrides: str) -> Flask:
        made.append(create_app(make_config(database.url, **overrides), clock))
        return made[-1]

    yield make
    for other in made:
        with other.app_context():
            db.engine.dispose()


@pytest.fixture(scope="session")
def migrated_loopback(migrated: tuple[Database, Flask], session_clock: Clock) -> Iterator[Flask]:
    app = create_app(make_config(migrated[0].url, ENDPOINTS_ON_LOOPBACK="allow"), session_clock)
    yield app
    with app.app_context():
        db.engine.dispose()


@pytest.fixture
def loopback_app(migrated_loopback: Flask, database: Database, clock: Clock) -> Flask:
    """The app of tests in which receivers on this machine hear of events."""
    return migrated_loopback


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def bank(client: FlaskClient) -> Bank:
    return Bank(client)


@pytest.fixture
def operator(app: Flask, client: FlaskClient) -> Operator:
    with app.app_context():
        return Operator(client, api_keys.create(name="operator", scopes=list(api_keys.SCOPES), now=START))


@pytest.fixture
def run(app: Flask) -> Callable[..., Result]:
    """Run a command at the shell."""
    runner = app.test_cli_runner()
    return lambda *args: runner.invoke(args=list(args))


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def check_ledger(app: Flask) -> Callable[[], None]:
    """Re-add every log and compare; what each test of money ends with."""

    def check() -> None:
        with app.app_context():
            steps = [*audit.verify(), *events_audit.verify()]
        findings = [step for step in steps if isinstance(step, Finding)]
        assert findings == []

    return check


def pytest_configure() -> None:
    absent = set(os.environ.get("TEST_REQUIRE", "").split()) & {*databases.MISSING, *brokers.MISSING}
    if absent:
        pytest.exit(f"installed, but not answering: {', '.join(sorted(absent))}", returncode=1)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.location[0] not in LONGEST)


def pytest_report_header() -> list[str]:
    return [_databases_line(), _brokers_line()]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.write_line(_databases_line())
    terminalreporter.write_line(_brokers_line())
    if nginx.PROGRAM is None:
        terminalreporter.write_line("NOT TESTED, not found: nginx")
    if poolers.PROGRAM is None:
        terminalreporter.write_line("NOT TESTED, not found: pgbouncer")


@cache
def _databases_line() -> str:
    versions = []
    for family in databases.FAMILIES:
        database = Database(family)
        database.create()
        versions.append(f"{family} {database.version()}")
        database.drop()
    missing = f"; NOT TESTED, no server found: {', '.join(databases.MISSING)}" if databases.MISSING else ""
    return f"databases tested: {', '.join(versions)}{missing}"


def _brokers_line() -> str:
    versions = [f"{family} {version}" for family, version in brokers.VERSIONS.items()]
    missing = f"; NOT TESTED, no server found: {', '.join(brokers.MISSING)}" if brokers.MISSING else ""
    return f"brokers tested: {', '.join(versions) or 'none'}{missing}"

"""The deployment of a family, and a line for each fault at the end of the run."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults import deployment as deployment_module
from tests.faults.deployment import ROUNDS, Deployment, Deployments, report_line
from tests.faults.disk import NoDisk, SmallDisk, why_not

REPORT: list[str] = []


@pytest.fixture(scope="session")
def deployments() -> Iterator[Deployments]:
    deployments = Deployments()
    yield deployments
    deployments.close()


@pytest.fixture(params=deployment_module.FAMILIES)
def deployment(request: pytest.FixtureRequest, deployments: Deployments) -> Iterator[Deployment]:
    deployment = deployments.get(request.param)
    with reported(request, deployment):
        yield deployment


@pytest.fixture
def small_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Deployment]:
    """A deployment whose SQLite file is on a disk of its own, large enough for as many rounds as there are."""
    absent = why_not()
    if absent:
        pytest.skip(f"a full disk was not tried: {absent}")
    try:
        with (
            SmallDisk(tmp_path, 16 + ROUNDS) as disk,
            Deployment("sqlite", disk=disk) as deployment,
            reported(request, deployment),
        ):
            yield deployment
    except NoDisk as error:
        pytest.skip(f"a full disk was not tried: {error}")


@contextmanager
def reported(request: pytest.FixtureRequest, deployment: Deployment) -> Iterator[None]:
    """Write down what was sent and answered meanwhile."""
    counts, findings = deployment.counts.copy(), len(deployment.findings)
    yield
    REPORT.append(report_line(request.node.name, deployment.counts - counts, len(deployment.findings) - findings))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for line in REPORT:
        terminalreporter.write_line(line)
    if REPORT and deployment_module.MISSING:
        terminalreporter.write_line(f"faults NOT TESTED, no server to start: {', '.join(deployment_module.MISSING)}")

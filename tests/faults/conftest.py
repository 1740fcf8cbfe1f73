"""The stage of a family, and a line for each fault at the end of the run."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults import stage as stages_module
from tests.faults.disk import NoDisk, SmallDisk, why_not
from tests.faults.stage import ROUNDS, Stage, Stages, report_line

REPORT: list[str] = []


@pytest.fixture(scope="session")
def stages() -> Iterator[Stages]:
    stages = Stages()
    yield stages
    stages.close()


@pytest.fixture(params=stages_module.FAMILIES)
def stage(request: pytest.FixtureRequest, stages: Stages) -> Iterator[Stage]:
    stage = stages.get(request.param)
    with reported(request, stage):
        yield stage


@pytest.fixture
def small_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stage]:
    """A stage whose SQLite file is on a disk of its own, large enough for as many rounds as there are."""
    absent = why_not()
    if absent:
        pytest.skip(f"a full disk was not tried: {absent}")
    try:
        with SmallDisk(tmp_path, 16 + ROUNDS) as disk, Stage("sqlite", disk=disk) as stage, reported(request, stage):
            yield stage
    except NoDisk as error:
        pytest.skip(f"a full disk was not tried: {error}")


@contextmanager
def reported(request: pytest.FixtureRequest, stage: Stage) -> Iterator[None]:
    """Write down what was sent and answered meanwhile."""
    counts, findings = stage.counts.copy(), len(stage.findings)
    yield
    REPORT.append(report_line(request.node.name, stage.counts - counts, len(stage.findings) - findings))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for line in REPORT:
        terminalreporter.write_line(line)
    if REPORT and stages_module.MISSING:
        terminalreporter.write_line(f"faults NOT TESTED, no server to start: {', '.join(stages_module.MISSING)}")

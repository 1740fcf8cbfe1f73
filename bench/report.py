"""The results of a run: a table, and a document for results.json and its picture."""

import os
import platform
import re
import statistics
import subprocess
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sqlalchemy import make_url

from bench.fixture import Scale
from bench.rows import Goal
from bench.servers import environment, executable
from config import ROOT

PACKAGES = ("flask", "gunicorn", "gevent", "sqlalchemy", "psycopg", "pymysql", "marshmallow")
HEADER = ("ROW", "MEASURED", "REFERENCE", "ROUNDS", "MEDIAN", "GOAL", "")
NOTE = "absolute figures of this machine, for orientation only"


@dataclass(kw_only=True)
class Result:
    """The result of one row: a value for each round, or why there is none."""

    goal: Goal
    scale: Scale
    values: list[float] = field(default_factory=list)
    figures: list[dict[str, float]] = field(default_factory=list)
    failed: str | None = None

    @property
    def median(self) -> float | None:
        """Return the median of all rounds, or None when a check failed in any."""
        return None if self.failed or not self.values else statistics.median(self.values)

    @property
    def met(self) -> bool:
        """Return whether the row reached its goal."""
        return self.median is not None and self.goal.met_by(self.median)

    def texts(self) -> dict[str, str]:
        """Return the texts of the row with the sizes of the run."""
        sizes = asdict(self.scale)
        return {name: getattr(self.goal, name).format(**sizes) for name in ("name", "measured", "reference")}

    def goal_text(self) -> str:
        """Return the goal as text."""
        return f"{'≥' if self.goal.at_least else '≤'} {self.format_value(self.goal.threshold)}"

    def format_value(self, value: float) -> str:
        """Return a value of this row as text."""
        return f"{value:.1f} MB" if self.goal.unit == "MB" else f"{value:.2f} {self.goal.unit}".strip()


def table(results: list[Result]) -> str:
    """Return the table as text. A row whose check failed shows no figure."""
    rows = [HEADER, *(_cells(result) for result in results)]
    widths = [max(len(row[place]) for row in rows) for place in range(len(HEADER))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    failures = [f"{result.goal.name}: {result.failed}" for result in results if result.failed]
    return "\n".join([*lines, *(["", *failures] if failures else [])])


def document(results: list[Result], scale: Scale, settings: dict[str, dict[str, str]]) -> dict[str, Any]:
    """Return everything that results.json keeps."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _output("git", "describe", "--always", "--dirty"),
        "machine": {"cores": os.cpu_count(), "processor": _processor(), "system": platform.platform()},
        "versions": versions(),
        "settings": {**settings, "gunicorn": _gunicorn(), "run": asdict(scale)},
        "rows": [_row(result) for result in results],
    }


def versions() -> dict[str, str]:
    """Return the versions of packages and tools. Those of the databases are among their settings."""
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
        "wrk": _output("wrk", "-v").split()[1],
        "pgbench": _output("pgbench", "--version").removeprefix("pgbench (PostgreSQL) "),
    }


def _cells(result: Result) -> tuple[str, ...]:
    texts = result.texts()
    rounds = " ".join(f"{value:.2f}" for value in result.values) if not result.failed else ""
    median = "-" if result.median is None else result.format_value(result.median)
    verdict = "CHECK FAILED" if result.failed else "met" if result.met else "NOT MET"
    return (texts["name"], texts["measured"], texts["reference"], rounds, median, result.goal_text(), verdict)


def _row(result: Result) -> dict[str, Any]:
    figures = {"note": NOTE, "rounds": result.figures}
    return {
        **result.texts(),
        "unit": result.goal.unit or "ratio",
        "values": [round(value, 4) for value in result.values] if not result.failed else [],
        "median": None if result.median is None else round(result.median, 4),
        "threshold": result.goal.threshold,
        "at_least": result.goal.at_least,
        "goal": result.goal_text(),
        "met": result.met,
        "failed": result.failed,
        "figures": figures if not result.failed else {},
    }


def _gunicorn() -> dict[str, str]:
    """Return gunicorn's settings for workers under the configuration of this repository."""
    config = _output(executable("gunicorn"), "--print-config", env=environment(make_url("sqlite:////unused/kopeck.db")))
    found = dict(re.findall(r"^(\w+)\s+= (.*)$", config, re.MULTILINE))
    return {name: found.get(name, "?") for name in ("workers", "worker_class", "threads", "worker_connections")}


def _processor() -> str:
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else "unknown"


def _output(*command: str, env: dict[str, str] | None = None) -> str:
    ran = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)  # noqa: S603
    return (ran.stdout or ran.stderr).strip()

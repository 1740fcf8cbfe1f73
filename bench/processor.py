"""Processor time of processes, user and system, from /proc: it holds where the rates of a busy machine do not."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from bench.load import Reading

TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
MICROSECONDS = 1_000_000
WEB, DATABASE, WORKER = "web", "database", "worker"
"""Names of processes: gunicorn's, those of a database server, and `flask worker`."""


@dataclass(kw_only=True)
class Used:
    """What processes have used while they were watched, in seconds, by a name for each."""

    seconds: dict[str, float] = field(default_factory=dict)

    def by(self, reading: Reading, answers: int | None = None) -> Reading:
        """Return a reading with the microseconds that each process has used for one of its answers.

        `answers` is how many there were while the processes were watched, if not all.
        """
        count = answers or reading.answers
        return replace(reading, processor={name: used * MICROSECONDS / count for name, used in self.seconds.items()})


@contextmanager
def watch(processes: Mapping[str, int]) -> Iterator[Used]:
    """Watch processes, each with its children, until the end of the `with` block."""
    before = {name: _seconds(pid) for name, pid in processes.items()}
    used = Used()
    yield used
    used.seconds = {name: _seconds(pid) - before[name] for name, pid in processes.items()}


def _seconds(pid: int) -> float:
    """Return what a process and its children have used, those that have ended included."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    theirs = sum(_own_ticks(int(child)) for child in children)
    return (theirs + sum(_ticks(pid))) / TICKS_A_SECOND


def _own_ticks(child: int) -> int:
    """Return what a child has used, or 0 if it has ended since: then its parent, who is read later, has it."""
    try:
        return sum(_ticks(child)[:2])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def _ticks(pid: int) -> list[int]:
    """Return utime, stime, cutime and cstime; see proc(5)."""
    # The name of the command comes before, in brackets, and may hold anything.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return [int(field) for field in fields[11:15]]

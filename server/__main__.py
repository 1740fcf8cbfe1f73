"""`python -m server web worker`: runs processes of the Procfile under one supervisor that lets each end what it began.

honcho's own command kills five seconds after the first process has ended, reads `.env` its own way, and gives each
process a PORT of its own choice.
"""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from honcho.environ import parse_procfile
from honcho.manager import Manager
from honcho.printer import Printer

from limits import STOP_SECONDS

ROOT = Path(__file__).resolve().parent.parent


class PatientPrinter(Printer):  # type: ignore[misc]
    """honcho's printer, which goes on when the terminal is gone: what runs has to be ended all the same."""

    def write(self, message: Any) -> None:
        """Print one line of a process, or from the first that nobody can read on nothing any more."""
        try:
            super().write(message)
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Supervisor(Manager):  # type: ignore[misc]
    """honcho's manager, with patience: what still runs STOP_SECONDS after it was told to end is killed."""

    def __init__(self) -> None:
        super().__init__(PatientPrinter(sys.stdout))
        self._kills_at: float | None = None
        self._process_id = os.getpid()
        # A terminal that is closed; honcho knows of the two other signals only.
        signal.signal(signal.SIGHUP, self._end)

    def status(self) -> int:
        """Return 0 if every process has ended in good order, else what the first of the others ended with."""
        statuses = (int(process["returncode"]) for process in self._processes.values())
        return next((status for status in statuses if status), 0)

    def terminate(self) -> None:
        """Tell every process to end, as soon as all run: honcho would tell those that do, and never the others."""
        if self._kills_at is None:
            self._kills_at = time.monotonic() + STOP_SECONDS
        if self._processes and super()._all_started():
            super().terminate()

    def _all_started(self) -> bool:
        """Return whether all run, which honcho asks again and again; if they were to end before, it is done now."""
        started = bool(super()._all_started())
        if started and self._kills_at is not None:
            super().terminate()
        return started

    def _end(self, *_: object) -> None:
        # The processes that honcho forks inherit this.
        if os.getpid() == self._process_id:
            self.terminate()

    def kill(self) -> None:
        """Kill what still runs, if its time is up; honcho asks again and again."""
        if self._kills_at is not None and time.monotonic() >= self._kills_at:
            super().kill()


def main(names: list[str]) -> int:
    """Run the named processes until SIGTERM, SIGHUP, Ctrl-C or the end of one of them; return the exit status."""
    commands = parse_procfile((ROOT / "Procfile").read_text(encoding="utf-8")).processes
    if not names or not set(names) <= set(commands):
        print(f"Name the processes to run, of these: {', '.join(commands)}. For instance: python -m server web worker")
        return 2
    supervisor = Supervisor()
    for name in names:
        supervisor.add_process(name, commands[name], cwd=str(ROOT))
    supervisor.loop()
    return supervisor.status()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

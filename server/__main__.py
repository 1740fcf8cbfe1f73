"""`python -m server web worker`: runs processes of the Procfile under one supervisor that lets each end what it began.

honcho's own command kills five seconds after the first process has ended, reads `.env` its own way, and gives each
process a PORT of its own choice.
"""

import sys
import time
from pathlib import Path

from honcho.environ import parse_procfile
from honcho.manager import Manager

from limits import STOP_SECONDS

ROOT = Path(__file__).resolve().parent.parent


class Supervisor(Manager):  # type: ignore[misc]
    """honcho's manager, with patience: what still runs STOP_SECONDS after it was told to end is killed."""

    def __init__(self) -> None:
        super().__init__()
        self._kills_at: float | None = None

    def terminate(self) -> None:
        """Tell every process to end."""
        if self._kills_at is None:
            self._kills_at = time.monotonic() + STOP_SECONDS
        super().terminate()

    def kill(self) -> None:
        """Kill what still runs, if its time is up; honcho asks again and again."""
        if self._kills_at is not None and time.monotonic() >= self._kills_at:
            super().kill()


def main(names: list[str]) -> int:
    """Run the named processes until SIGTERM, Ctrl-C or the end of one of them; return the exit status."""
    commands = parse_procfile((ROOT / "Procfile").read_text(encoding="utf-8")).processes
    if not names or not set(names) <= set(commands):
        print(f"Name the processes to run, of these: {', '.join(commands)}. For instance: python -m server web worker")
        return 2
    supervisor = Supervisor()
    for name in names:
        supervisor.add_process(name, commands[name], cwd=str(ROOT))
    supervisor.loop()
    return int(supervisor.returncode or 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

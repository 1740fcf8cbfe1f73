"""The storm of the bank's page: it runs in a thread, one at a time.

The last report is kept in memory until the next storm.
"""

import threading
from typing import Any

from sandbox.storm.connection import ShopSilent
from sandbox.storm.run import Storm


class BackgroundStorm:
    """The current or last storm."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self.storm: Storm | None = None
        self.problem: str | None = None

    @property
    def is_on(self) -> bool:
        """Return whether a storm is running."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, storm: Storm) -> bool:
        """Start a storm; return False if one is running."""
        with self._lock:
            if self.is_on:
                return False
            self.storm, self.problem = storm, None
            self._thread = threading.Thread(target=self._run, args=(storm,), name="sandbox-storm", daemon=True)
            self._thread.start()
        return True

    def stop(self) -> None:
        """Ask the storm to stop."""
        if self.storm is not None:
            self.storm.stop()

    def wait(self, seconds: float) -> bool:
        """Wait for the end; return whether the storm has ended."""
        if self._thread is not None:
            self._thread.join(seconds)
        return not self.is_on

    def as_json(self) -> dict[str, Any]:
        """Return the progress as JSON."""
        storm = self.storm
        if storm is None:
            return {"phase": "none", "on": False, "steps": 0, "done": 0, "counts": {}, "problem": None, "report": None}
        counts = dict(storm.progress())
        return {
            "phase": storm.phase,
            "on": self.is_on,
            "steps": len(storm.plan.steps),
            "done": counts.get("steps", 0),
            "counts": counts,
            "problem": self.problem,
            "report": storm.report.as_json() if storm.report else None,
        }

    def _run(self, storm: Storm) -> None:
        try:
            storm.run()
        except ShopSilent as problem:
            self.problem, storm.phase = problem.message, "failed"
        except BaseException:
            self.problem, storm.phase = "The storm broke off by a fault of the sandbox; its log says more.", "failed"
            raise

"""The storm of the bank's page: it runs in a thread, one at a time.

The last report is kept in memory until the next storm.
"""

import threading
from typing import Any

from sandbox.storm.connection import ShopSilent
from sandbox.storm.plan import Plan
from sandbox.storm.play import PATIENCE_SECONDS
from sandbox.storm.run import SETTLE_SECONDS, Storm
from sandbox.storm.shop import Shop


class BackgroundStorm:
    """The current or last storm."""

    def __init__(self, *, patience: float = PATIENCE_SECONDS, settle: float = SETTLE_SECONDS) -> None:
        self._patience, self._settle = patience, settle
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self.storm: Storm | None = None
        self.problem: str | None = None

    @property
    def is_on(self) -> bool:
        """Return whether a storm is running."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, plan: Plan, shop: Shop, *, secret: str | None, again: bool) -> bool:
        """Start a storm; return False if one is running."""
        with self._lock:
            if self.is_on:
                return False
            storm = Storm(
                plan=plan, shop=shop, secret=secret, again=again, patience=self._patience, settle=self._settle
            )
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

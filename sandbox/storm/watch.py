"""The storm of a page: played in a thread of its own, watched by whoever asks, one at a time.

Called by bank.py. Keeps the last report until the next storm; nothing of it is stored.
"""

import threading
from typing import Any

from sandbox.storm.run import Storm
from sandbox.storm.wire import ShopSilent


class Watch:
    """What goes on, or went on last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self.storm: Storm | None = None
        self.problem: str | None = None

    @property
    def is_on(self) -> bool:
        """Tell whether a storm goes on."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, storm: Storm) -> bool:
        """Begin a storm unless one goes on."""
        with self._lock:
            if self.is_on:
                return False
            self.storm, self.problem = storm, None
            self._thread = threading.Thread(target=self._run, args=(storm,), name="sandbox-storm", daemon=True)
            self._thread.start()
        return True

    def stop(self) -> None:
        """Ask the storm to end."""
        if self.storm is not None:
            self.storm.stop()

    def wait(self, seconds: float) -> bool:
        """Wait for the end and tell whether it came."""
        if self._thread is not None:
            self._thread.join(seconds)
        return not self.is_on

    def as_json(self) -> dict[str, Any]:
        """Write down how far it has come."""
        storm = self.storm
        if storm is None:
            return {"stage": "none", "on": False, "steps": 0, "done": 0, "counts": {}, "problem": None, "report": None}
        counts = dict(storm.progress())
        return {
            "stage": storm.stage,
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
            self.problem, storm.stage = str(problem), "failed"
        except BaseException:
            self.problem, storm.stage = "The storm broke off by a fault of the sandbox; its log says more.", "failed"
            raise

"""One storm: read the shop, play the day, wait until the balances are final, report."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sandbox.storm.compare import SLOW_SECONDS, compare
from sandbox.storm.plan import Plan
from sandbox.storm.play import CONNECTIONS, PATIENCE_SECONDS, Play
from sandbox.storm.report import Report
from sandbox.storm.shop import Reading, Shop

SETTLE_SECONDS = 15.0
"""How long to wait for acknowledged money: some shops credit after their answer."""

POLL_SECONDS = 0.3


@dataclass(kw_only=True)
class Storm:
    """A plan, a shop, and the options of the run; without a `secret` nothing is signed."""

    plan: Plan
    shop: Shop
    secret: str | None
    connections: int = CONNECTIONS
    patience: float = PATIENCE_SECONDS
    settle: float = SETTLE_SECONDS
    again: bool = False
    slow_seconds: float = SLOW_SECONDS
    phase: str = field(default="waiting", init=False)
    report: Report | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._play = Play(
            self.plan,
            url=self.shop.places.webhook,
            secret=self.secret,
            connections=self.connections,
            patience=self.patience,
        )

    def run(self, on_step: Callable[[int], None] = lambda _: None) -> Report:
        """Play the plan and return the report; raise ShopSilent if the shop does not answer."""
        self.phase = "reading balances"
        before = self.shop.read(self.plan.inns, self.plan.made_up)
        self.phase = "playing"
        self._play.run(on_step)
        self.phase = "settling"
        self.report = self._settled(before)
        self.phase = "done"
        return self.report

    def stop(self) -> None:
        """Stop early; the report covers what was played."""
        self._play.stop()

    def progress(self) -> Mapping[str, int]:
        """Return the current counts."""
        return self._play.progress()

    def _settled(self, before: Reading) -> Report:
        """Read the shop until the balances rest and no money is missing, or until the time is over."""
        deadline, last = time.monotonic() + self.settle, None
        while True:
            after = self.shop.read(self.plan.inns, self.plan.made_up, earlier=before)
            report = compare(
                self.plan, self._play.results, before, after, again=self.again, slow_seconds=self.slow_seconds
            )
            rests = last is not None and dict(last.balances) == dict(after.balances) and not report.is_short
            if rests or time.monotonic() > deadline:
                return report
            last = after
            time.sleep(POLL_SECONDS)

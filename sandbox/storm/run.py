"""One storm from beginning to end: read the shop, play the day, wait until the money has settled, report.

Called by the command and by the page, which watch it by its `stage` and its counts. Writes nothing anywhere.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sandbox.storm.plan import Plan
from sandbox.storm.play import CONNECTIONS, PATIENCE_SECONDS, Play
from sandbox.storm.report import Report, judge
from sandbox.storm.shop import Reading, Shop

SETTLE_SECONDS = 15.0
"""How long money that was acknowledged may take to be in the balance: some shops credit a moment later."""

LOOK_SECONDS = 0.3


@dataclass(kw_only=True)
class Storm:
    """A plan, a shop, and how to play the one against the other; `secret` None leaves signatures out."""

    plan: Plan
    shop: Shop
    secret: str | None
    connections: int = CONNECTIONS
    patience: float = PATIENCE_SECONDS
    settle: float = SETTLE_SECONDS
    again: bool = False
    stage: str = field(default="waiting", init=False)
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
        """Play it all and return the report; raise ShopSilent when there is no shop to judge."""
        self.stage = "reading balances"
        before = self.shop.read(self.plan.inns)
        self.stage = "playing"
        self._play.run(on_step)
        self.stage = "settling"
        self.report = self._settled(before)
        self.stage = "done"
        return self.report

    def stop(self) -> None:
        """End early; what was played until then is still judged."""
        self._play.stop()

    def progress(self) -> Mapping[str, int]:
        """Return what has been counted so far."""
        return self._play.progress()

    def _settled(self, before: Reading) -> Report:
        """Look until nothing moves and nothing is missing any more, or until the patience for that is over."""
        deadline, last = time.monotonic() + self.settle, None
        while True:
            after = self.shop.read(self.plan.inns)
            report = judge(self.plan, self._play.books, before, after, again=self.again)
            rests = last is not None and dict(last.balances) == dict(after.balances) and not report.is_short
            if rests or time.monotonic() > deadline:
                return report
            last = after
            time.sleep(LOOK_SECONDS)

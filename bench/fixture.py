"""The databases and servers of each row. They are stopped and dropped when the row ends.

A figure is therefore the same whether its row runs alone or with all others.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import URL

from bench.checks import log
from bench.databases import Database, Databases
from bench.servers import KOPECK, Server, serve
from config import ROOT

CONNECTIONS = 64
ORGANIZATIONS = 1_000


@dataclass(frozen=True, kw_only=True)
class Scale:
    """The size of a run."""

    rounds: int
    seconds: int
    warm_seconds: int
    payments: int
    """Payments in the database that is compared with an empty one."""
    deep_log: int
    """Rows in the log whose deep pages are read."""
    resident_first: int
    resident_last: int
    """Number of credits after which the memory is read."""
    pairs: int
    """Single requests of each kind in a round."""
    finished: int
    """Finished deliveries in the outbox that is compared with an empty one."""
    claims: int
    """Claims in each of the two outboxes in a round."""


FULL = Scale(
    rounds=5,
    seconds=6,
    warm_seconds=2,
    payments=5_000_000,
    deep_log=1_000_000,
    resident_first=20_000,
    resident_last=200_000,
    pairs=300,
    finished=1_000_000,
    claims=100,
)
QUICK = Scale(
    rounds=1,
    seconds=1,
    warm_seconds=1,
    payments=50_000,
    deep_log=10_000,
    resident_first=1_000,
    resident_last=4_000,
    pairs=30,
    finished=20_000,
    claims=30,
)


@dataclass
class Fixture:
    """What the cases of a run need: its scale, databases and servers."""

    scale: Scale
    folder: Path
    databases: Databases
    before: Path = ROOT
    """The checkout with which against.py compares this one."""
    row_databases: list[Database] = field(default_factory=list)
    verified: list[Database] = field(default_factory=list)
    stack: ExitStack = field(default_factory=ExitStack)

    @contextmanager
    def row(self) -> Iterator[None]:
        """Run one row. Afterwards stop its servers, then verify and drop its databases."""
        try:
            with ExitStack() as self.stack:
                yield
            for database in self.verified:
                log(f"  ledger verify: {database.verify()}")
        finally:
            for database in self.row_databases:
                self.databases.drop(database)
            self.row_databases, self.verified = [], []

    def database(
        self,
        family: str = "postgresql",
        organizations: int = ORGANIZATIONS,
        root: Path = ROOT,
        *,
        by_ledger: bool = True,
    ) -> Database:
        """Create a database that is dropped after the row. `root` is the checkout that migrates it.

        Unless something else than the ledger writes to it, it is verified before.
        """
        database = self.databases.create(family, organizations, root)
        self.row_databases.append(database)
        if by_ledger:
            self.verified.append(database)
        return database

    def serve(self, url: URL, application: str = KOPECK, *flags: str) -> Server:
        """Serve Kopeck or another application until the row ends."""
        return self.stack.enter_context(serve(application, url, *flags))

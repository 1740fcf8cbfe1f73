"""What a row stands on: databases and servers of its own, taken down behind it.

A figure is therefore the same whether it is measured alone or among all.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import URL

from bench.databases import Database, Databases
from bench.servers import KOPECK, Server, served
from bench.truth import say

CONNECTIONS = 64
ORGANIZATIONS = 1_000


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How large a run is."""

    rounds: int
    seconds: int
    warm_seconds: int
    payments: int
    """In the database that is compared with an empty one."""
    deep_log: int
    """Rows in the log that is read deep down."""
    resident_first: int
    resident_last: int
    """After how many credits the memory is read."""
    pairs: int
    """Single requests of each kind a round."""
    finished: int
    """Deliveries that are over, in the outbox that is compared with an empty one."""
    turns: int
    """A worker's turns at each of them a round."""


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
    turns=100,
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
    turns=30,
)


@dataclass
class Stage:
    """Where one row after the other is measured."""

    scale: Scale
    folder: Path
    databases: Databases
    used: list[Database] = field(default_factory=list)
    stack: ExitStack = field(default_factory=ExitStack)

    @contextmanager
    def row(self) -> Iterator[None]:
        """Give way to a row; then its servers end, and its databases are verified and dropped."""
        try:
            with ExitStack() as self.stack:
                yield
            for database in self.used:
                say(f"  ledger verify: {database.verify()}")
        finally:
            for database in self.used:
                self.databases.drop(database)
            self.used = []

    def database(self, family: str = "postgresql", organizations: int = ORGANIZATIONS) -> Database:
        """Make a database that lasts as long as the row."""
        database = self.databases.make(family, organizations)
        self.used.append(database)
        return database

    def serve(self, url: URL, application: str = KOPECK, *flags: str) -> Server:
        """Serve Kopeck, or what takes its place, as long as the row lasts."""
        return self.stack.enter_context(served(application, url, *flags))

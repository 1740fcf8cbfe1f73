"""What outages happen to: a database of its own, the real server on it, and a bank that pays all the while."""

import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from math import ceil
from pathlib import Path
from typing import Self

from sqlalchemy import URL, make_url

from tests import clusters
from tests.clusters import MariadbCluster, PostgresqlCluster
from tests.faults.books import compare, compare_balances
from tests.faults.disk import SmallDisk
from tests.faults.payers import Bank, Books
from tests.faults.server import Server

ROUNDS = int(os.environ.get("FAULT_ROUNDS", "1"))
SOME = 100
"""How many operations are acknowledged before a fault and after it, at the least."""

OPERATIONS_MAX = 10_000
FINDINGS_SHOWN = 20

FAMILIES = ("sqlite", *clusters.available())
MISSING = tuple(family for family in ("postgresql", "mariadb") if family not in FAMILIES)


class Deployment:
    """One database with one server and one bank; `sound` as long as nothing was found wrong with it."""

    cluster: PostgresqlCluster | MariadbCluster
    server: Server
    url: URL

    def __init__(self, family: str, *, disk: SmallDisk | None = None) -> None:
        self.family = family
        self.disk = disk
        self.counts: Counter[str] = Counter()
        self.findings: list[str] = []
        self.sound = True
        self._open = ExitStack()

    def __enter__(self) -> Self:
        self.books = Books(counts=self.counts)
        with ExitStack() as opening:
            self.folder = Path(opening.enter_context(tempfile.TemporaryDirectory(prefix="kopeck-faults-")))
            if self.family == "sqlite":
                self.url = make_url(f"sqlite:///{(self.disk or self).folder / 'kopeck.db'}")
            else:
                kind = PostgresqlCluster if self.family == "postgresql" else MariadbCluster
                self.cluster = opening.enter_context(kind())
                self.url = self.cluster.url
            inside = self.disk.inside if self.disk else ()
            self.server = opening.enter_context(Server(self.url, self.folder / "log", inside=inside))
            self._open = opening.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def rounds(self, *, every: int = 1) -> Iterator[None]:
        """Count the rounds of a fault, or every so manieth, and begin anew when checking all takes too long."""
        for _ in range(ceil(ROUNDS / every)):
            # The small disk keeps its file; one fault alone is tried on it.
            if len(self.books.operations) > OPERATIONS_MAX and self.disk is None:
                self.__exit__()
                self.__enter__()
            self.counts["rounds"] += 1
            yield

    @contextmanager
    def load(self, *, noticed: bool | None = True) -> Iterator[Bank]:
        """Have the bank pay before, during and after what the caller does; then compare everything.

        A fault that the bank must notice and did not would prove nothing; None leaves it open.
        """
        self.sound = False
        bank = Bank(self.books, self.server.port)
        before = bank.troubles()
        with self.explained():
            with bank.paying():
                bank.wait_for("acknowledged", SOME)
                yield bank
                bank.wait_for("acknowledged", SOME)
            self.check()
            troubles = bank.troubles() - before
            assert noticed in (None, troubles > 0), f"{troubles} sendings were refused or not answered"
        self.sound = True

    def check(self) -> None:
        """Compare books, tables, balances, chains, and what the server wrote."""
        self.check_tables()
        self._note(compare_balances(self._tables, self.server.port) + self.server.troubles())
        self.server.flask("ledger", "verify")

    def check_tables(self) -> None:
        """Compare books and tables alone, which needs no server."""
        self._note(self.books.findings + compare(self.books, self._tables()))

    def _note(self, findings: list[str]) -> None:
        self.findings += findings
        assert not findings, "\n".join([f"{len(findings)} findings", *findings[:FINDINGS_SHOWN]])

    @contextmanager
    def reached_by(self, port: int) -> Iterator[None]:
        """Have the bank pay to another server, which reaches the same database by another port, such as a proxy's."""
        direct = self.server
        with Server(self.url.set(port=port), self.folder / "log-of-another") as self.server:
            yield
        self.server = direct

    def _tables(self) -> URL:
        """Return where the tables can be read: on a small disk nobody sees them, so they are copied."""
        if self.disk is None:
            return self.url
        copy = self.folder / "copy.db"
        self.disk.copy("kopeck.db", copy)
        return make_url(f"sqlite:///{copy}")

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Have a failure show what the server wrote last."""
        try:
            yield
        except BaseException as error:
            error.add_note(f"The server wrote:\n{self.server.tail()}")
            raise


class Deployments:
    """One deployment for each family, kept from test to test until something was found wrong with it."""

    def __init__(self) -> None:
        self.kept: dict[str, Deployment] = {}

    def get(self, family: str) -> Deployment:
        """Return the deployment of a family, a new one when the last one is no longer sound."""
        if family in self.kept and not self.kept[family].sound:
            self.kept.pop(family).__exit__()
        if family not in self.kept:
            self.kept[family] = Deployment(family).__enter__()
        return self.kept[family]

    def close(self) -> None:
        """End them all."""
        for deployment in self.kept.values():
            deployment.__exit__()


def report_line(name: str, counts: Counter[str], findings: int) -> str:
    """Say in one line what a fault was tried with and what came of it."""
    figures = ("rounds", "operations", "acknowledged", "repeats", "refusals", "connection errors")
    return f"{name}: {', '.join(f'{what} {counts[what]}' for what in figures)}, findings {findings}"

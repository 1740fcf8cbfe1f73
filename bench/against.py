"""The cases of `--against`: this checkout compared with another one, each served from its own folder.

Each side has a database that its own migrations made. Both use the packages of this virtualenv.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

from bench import latency
from bench.cases import format_figures
from bench.checks import check, log
from bench.databases import Database
from bench.fixture import CONNECTIONS, Fixture
from bench.latency import Call
from bench.load import Reading
from bench.measures import Credits, Round, compare, credits_to, duplicates_of, log_reading, reads
from bench.receiver import Receiver, receiving
from bench.servers import worker
from config import ROOT

NOW, BEFORE = "now", "before"
LOG_ROWS = 200
POLL_SECONDS = 0.2
TIMEOUT_SECONDS = 120
UNUSED_URL = "http://127.0.0.1:9/"
"""The endpoint of credits to which nothing is sent."""


def new_credits(
    fixture: Fixture, *, family: str = "postgresql", connections: int = CONNECTIONS, organizations: int = 1000
) -> Iterator[Round]:
    """Compare new credits."""
    now, before = _sides(fixture, family, connections)
    for side in (now, before):
        side.inns = side.inns[:organizations]
    return compare(fixture, (NOW, now), (BEFORE, before))


def subscribed(fixture: Fixture) -> Iterator[Round]:
    """Compare new credits with a subscribed endpoint, while no worker runs."""
    now, before = _sides(fixture)
    for side in (now, before):
        side.database.flask("endpoints", "create", UNUSED_URL)
    return compare(fixture, (NOW, now), (BEFORE, before))


def duplicates(fixture: Fixture) -> Iterator[Round]:
    """Compare duplicates of credits that were made just before."""
    now, before = _sides(fixture)
    for side in (now, before):
        side(fixture.scale.warm_seconds)
    return compare(fixture, (NOW, duplicates_of(now)), (BEFORE, duplicates_of(before)))


def balances(fixture: Fixture) -> Iterator[Round]:
    """Compare reads of balances."""
    now, before = (reads(fixture, side.database, side.server) for side in _sides(fixture))
    return compare(fixture, (NOW, now), (BEFORE, before))


def half_load(fixture: Fixture) -> Iterator[Round]:
    """Compare the median latency under the same load: half of what was reached before."""
    now, before = _sides(fixture)
    now(fixture.scale.warm_seconds)
    wanted = before(fixture.scale.warm_seconds).rate / 2
    for number in range(fixture.scale.rounds):
        figures: dict[str, float] = {}
        for name, side in ((NOW, now), (BEFORE, before))[:: 1 if number % 2 == 0 else -1]:
            figures |= log_reading(fixture, number, name, side(fixture.scale.seconds, rate=wanted))
        yield Round(values=(figures[f"{NOW}, median ms"] / figures[f"{BEFORE}, median ms"],), figures=figures)


def single(fixture: Fixture, call: Callable[[HTTPConnection, Database], Call]) -> Iterator[Round]:
    """Compare the latency of single requests that alternate between the two."""
    sides = _sides(fixture)
    for side in sides:
        _credit_log(side)
    with closing(sides[0].server.connect()) as first, closing(sides[1].server.connect()) as second:
        now, before = call(first, sides[0].database), call(second, sides[1].database)
        latency.medians(now, before, fixture.scale.pairs // 3)
        for number in range(fixture.scale.rounds):
            milliseconds = latency.medians(now, before, fixture.scale.pairs)
            figures = dict(zip((f"{NOW}, ms", f"{BEFORE}, ms"), milliseconds, strict=True))
            log(f"  round {number + 1} of {fixture.scale.rounds}: {format_figures(figures)}")
            yield Round(values=(milliseconds[0] / milliseconds[1],), figures=figures)


def single_credit(connection: HTTPConnection, database: Database) -> Call:
    """Return a call that sends a new credit."""
    return latency.credit(connection, database.inns)


def single_page(connection: HTTPConnection, database: Database) -> Call:
    """Return a call that reads the first page of a log."""
    return latency.first_page(connection, database.inns[0], LOG_ROWS)


def deliveries(fixture: Fixture) -> Iterator[Round]:
    """Compare the deliveries of one worker to one endpoint."""
    now, before = (_Deliveries(fixture, side) for side in _sides(fixture))
    return compare(fixture, (NOW, now), (BEFORE, before))


@dataclass
class _Deliveries:
    """Deliveries by one worker of a checkout. They are due before it starts."""

    fixture: Fixture
    credits: Credits

    def __post_init__(self) -> None:
        self.receiver: Receiver = self.fixture.stack.enter_context(receiving())
        self.credits.database.flask("endpoints", "create", self.receiver.url)

    def __call__(self, seconds: int) -> Reading:
        before = self.credits.database.credit_count()
        self.credits(max(1, seconds // 3))
        count = self.credits.database.credit_count() - before
        deadline = time.monotonic() + TIMEOUT_SECONDS
        with worker(self.credits.database.url, self.credits.database.root):
            while self.receiver.summary()[0] < count:
                check(time.monotonic() < deadline, f"{self.receiver.summary()[0]} of {count} were delivered")
                time.sleep(POLL_SECONDS)
        received, seconds_taken = self.receiver.summary()
        event_ids = {request.headers["webhook-id"] for request in self.receiver.take_all()}
        check(received == len(event_ids) == count, f"{received} deliveries of {len(event_ids)} events, not {count}")
        return Reading(answers=received, rate=(received - 1) / seconds_taken)


def _sides(fixture: Fixture, family: str = "postgresql", connections: int = CONNECTIONS) -> tuple[Credits, Credits]:
    """Serve both checkouts, and return a measurement of credits to each: now and before."""
    now, before = (_side(fixture, family, connections, root) for root in (ROOT, fixture.before))
    return now, before


def _side(fixture: Fixture, family: str, connections: int, root: Path) -> Credits:
    database = fixture.database(family, root=root)
    return credits_to(fixture, database, fixture.serve(database.url, root=root), connections)


def _credit_log(side: Credits) -> None:
    """Credit LOG_ROWS operations to the first organisation."""
    with closing(side.server.connect()) as connection:
        credit = latency.credit(connection, side.database.inns[:1])
        for _ in range(LOG_ROWS):
            credit()

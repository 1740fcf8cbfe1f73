"""The cases of `--against`: this checkout compared with another one, each served from its own folder.

Each side has a database that its own migrations made. Both use the packages of this virtualenv. Every round starts new
servers: two processes of the same code differ by some per cent for as long as they run. The one that is started first
is often the slower one, so the rounds take turns.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import Any

from bench import latency
from bench.cases import format_figures
from bench.checks import check, log
from bench.databases import Database
from bench.fixture import CONNECTIONS, Fixture
from bench.latency import Call
from bench.load import Reading
from bench.measures import Credits, Round, compare_once, credits_to, duplicates_of, in_turn, log_reading, reads, warm_up
from bench.receiver import Receiver, receiving
from bench.servers import KOPECK, serve, worker
from config import ROOT

NOW, BEFORE = "now", "before"
LOG_ROWS = 200
POLL_SECONDS = 0.2
TIMEOUT_SECONDS = 120
UNUSED_URL = "http://127.0.0.1:9/"
"""The endpoint of credits to which nothing is sent."""


def rounds(
    fixture: Fixture,
    measure: Callable[..., Round],
    *,
    family: str = "postgresql",
    connections: int = CONNECTIONS,
    subscribed: bool = False,
    **options: Any,
) -> Iterator[Round]:
    """Run `measure(fixture, number, now, before, **options)` in each round, on the same two databases."""
    databases = [fixture.database(family, root=root) for root in (ROOT, fixture.before)]
    if subscribed:
        for database in databases:
            database.flask("endpoints", "create", UNUSED_URL)
    for number in range(fixture.scale.rounds):
        with ExitStack() as stack:
            sides = [_served(fixture, database, connections, stack) for database in in_turn(number, databases)]
            now, before = in_turn(number, sides)
            yield measure(fixture, number, now, before, **options)


def new_credits(
    fixture: Fixture, number: int, now: Credits, before: Credits, *, organizations: int | None = None
) -> Round:
    """Compare new credits, spread over so many organisations."""
    for side in (now, before):
        side.inns = side.inns[:organizations]
    warm_up(fixture, *in_turn(number, [now, before]))
    return compare_once(fixture, number, (NOW, now), (BEFORE, before))


def duplicates(fixture: Fixture, number: int, now: Credits, before: Credits) -> Round:
    """Compare duplicates of credits that were made just before."""
    warm_up(fixture, *in_turn(number, [now, before]))
    return compare_once(fixture, number, (NOW, duplicates_of(now)), (BEFORE, duplicates_of(before)))


def balances(fixture: Fixture, number: int, now: Credits, before: Credits) -> Round:
    """Compare reads of balances."""
    first, second = (reads(fixture, side.database, side.server) for side in (now, before))
    warm_up(fixture, *in_turn(number, [first, second]))
    return compare_once(fixture, number, (NOW, first), (BEFORE, second))


def half_load(fixture: Fixture, number: int, now: Credits, before: Credits) -> Round:
    """Compare the median latency under the same load: half of what was reached before."""
    warm_up(fixture, *in_turn(number, [now, before]))
    wanted = before(fixture.scale.warm_seconds).rate / 2
    figures: dict[str, float] = {}
    for name, side in in_turn(number, [(NOW, now), (BEFORE, before)]):
        figures |= log_reading(fixture, number, name, side(fixture.scale.seconds, rate=wanted))
    return Round(values=(figures[f"{NOW}, median ms"] / figures[f"{BEFORE}, median ms"],), figures=figures)


def single(
    fixture: Fixture,
    number: int,
    now: Credits,
    before: Credits,
    *,
    call: Callable[[HTTPConnection, Database, str], Call],
) -> Round:
    """Compare the latency of single requests that alternate between the two, for an organisation with a log."""
    inn = now.inns[number]
    with closing(now.server.connect()) as first, closing(before.server.connect()) as second:
        calls = []
        for connection, side in ((first, now), (second, before)):
            credit = single_credit(connection, side.database, inn)
            for _ in range(LOG_ROWS):
                credit()
            calls.append(call(connection, side.database, inn))
        sides = calls[0], calls[1]
        latency.medians(*sides, fixture.scale.pairs // 3)
        milliseconds = latency.medians(*sides, fixture.scale.pairs)
    figures = dict(zip((f"{NOW}, ms", f"{BEFORE}, ms"), milliseconds, strict=True))
    log(f"  round {number + 1} of {fixture.scale.rounds}: {format_figures(figures)}")
    return Round(values=(milliseconds[0] / milliseconds[1],), figures=figures)


def single_credit(connection: HTTPConnection, _database: Database, inn: str) -> Call:
    """Return a call that sends a new credit."""
    return latency.credit(connection, [inn])


def single_page(connection: HTTPConnection, database: Database, inn: str) -> Call:
    """Return a call that reads the first page of a log."""
    return latency.first_page(connection, database, inn, LOG_ROWS)


def deliveries(fixture: Fixture) -> Iterator[Round]:
    """Compare the deliveries of one worker to one endpoint. Every measurement starts a new worker."""
    sides = []
    for root in (ROOT, fixture.before):
        receiver = fixture.stack.enter_context(receiving())
        database = fixture.database(root=root)
        database.flask("endpoints", "create", receiver.url)
        sides.append(_Deliveries(_served(fixture, database, CONNECTIONS, fixture.stack), receiver))
    now, before = sides
    for number in range(fixture.scale.rounds):
        yield compare_once(fixture, number, (NOW, now), (BEFORE, before))


@dataclass(frozen=True)
class _Deliveries:
    """Deliveries by one worker of a checkout. They are due before it starts."""

    credits: Credits
    receiver: Receiver

    def __call__(self, seconds: int) -> Reading:
        database = self.credits.database
        before = database.credit_count()
        self.credits(max(1, seconds // 3))
        count = database.credit_count() - before
        deadline = time.monotonic() + TIMEOUT_SECONDS
        with worker(database.url, database.root):
            while self.receiver.summary()[0] < count:
                check(time.monotonic() < deadline, f"{self.receiver.summary()[0]} of {count} were delivered")
                time.sleep(POLL_SECONDS)
        received, seconds_taken = self.receiver.summary()
        event_ids = {request.headers["webhook-id"] for request in self.receiver.take_all()}
        check(received == len(event_ids) == count, f"{received} deliveries of {len(event_ids)} events, not {count}")
        return Reading(answers=received, rate=(received - 1) / seconds_taken)


def _served(fixture: Fixture, database: Database, connections: int, stack: ExitStack) -> Credits:
    server = stack.enter_context(serve(KOPECK, database.url, root=database.root))
    return credits_to(fixture, database, server, connections)

"""The cases: what each one sets up, and what it compares with what in each round."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from math import sqrt
from pathlib import Path

from bench import latency, pgbench
from bench.checks import check, log
from bench.fill import add_account, fill
from bench.fixture import CONNECTIONS, Fixture
from bench.hashing import hash_rows
from bench.measures import (
    Credits,
    Round,
    ceiling,
    compare,
    credits_to,
    duplicates_of,
    flask_alone,
    log_reading,
    reads,
    with_processor,
)
from bench.processor import DATABASE, WEB
from bench.servers import FLASK_ALONE, FLASK_ALONE_SERVER, KOPECK, PLAIN, UNGROUPED

MEMORY_SECONDS = 2
RATE_SHARE_MIN = 0.95
"""The share of the wanted rate that must be reached, apart from chance. The latency belongs to that rate."""


def new_credits(fixture: Fixture, family: str = "postgresql", connections: int = CONNECTIONS) -> Credits:
    """Serve Kopeck on a new database, and return a measurement of credits to it."""
    database = fixture.database(family)
    return credits_to(fixture, database, fixture.serve(database.url), connections)


def against_ceiling(fixture: Fixture, family: str, connections: int) -> Iterator[Round]:
    """Compare spread credits with the ceiling."""
    measured = new_credits(fixture, family, connections)
    return compare(fixture, ("credits", measured), ("ceiling", ceiling(fixture, connections)))


def spread(fixture: Fixture) -> Iterator[Round]:
    """Compare spread credits with a bare Flask app, and also what both use of the processor."""
    rounds = against_flask(fixture, "postgresql", 128)
    return with_processor(rounds, WEB, measured="credits", reference="bare Flask")


def against_flask(fixture: Fixture, family: str, connections: int) -> Iterator[Round]:
    """Compare spread credits with a bare Flask app that stores nothing."""
    measured = new_credits(fixture, family, connections)
    return compare(fixture, ("credits", measured), ("bare Flask", flask_alone(fixture, connections)))


def against_pgbench(fixture: Fixture) -> Iterator[Round]:
    """Compare spread credits with the same statements from pgbench, with as many clients.

    The figures also show pgbench with the number of clients that is best for it.
    """
    # pgbench can neither write a body for each credit nor hash a row.
    database = fixture.database(by_ledger=False)
    pgbench.check_script(database)
    seconds = fixture.scale.warm_seconds
    rates = {clients: pgbench.run(database, clients, seconds).rate for clients in pgbench.FEWER_CLIENTS}
    best = max(rates, key=lambda clients: rates[clients])
    log(f"  pgbench at its best: {rates[best]:,.0f}/s with {best} clients")
    name, reference = f"pgbench with {CONNECTIONS} clients", partial(pgbench.run, database, CONNECTIONS)
    rounds = compare(fixture, ("credits", new_credits(fixture)), (name, reference))
    for result in with_processor(rounds, DATABASE, measured="credits", reference=name):
        yield replace(result, figures=result.figures | {f"pgbench with {best} clients": rates[best]})


def one_organization(fixture: Fixture) -> Iterator[Round]:
    """Compare credits to one organisation with spread ones, on the same server."""
    spread = new_credits(fixture)
    one = credits_to(fixture, spread.database, spread.server)
    one.inns = one.inns[:1]
    return compare(fixture, ("credits to one", one), ("credits spread", spread))


def against_plain(fixture: Fixture, *, organizations: int) -> Iterator[Round]:
    """Compare credits with those of the plain ORM application."""
    measured = new_credits(fixture)
    database = fixture.database()
    add_account(database)
    reference = credits_to(fixture, database, fixture.serve(database.url, PLAIN))
    for side in (measured, reference):
        side.inns = side.inns[:organizations]
    yield from compare(fixture, ("credits", measured), ("plain ORM credits", reference))
    hash_rows(database)


def against_default(fixture: Fixture, *flags: str, application: str = KOPECK) -> Iterator[Round]:
    """Compare spread credits under other settings with those under gunicorn.conf.py."""
    database = fixture.database()
    other = credits_to(fixture, database, fixture.serve(database.url, application, *flags))
    return compare(fixture, ("other settings", other), ("credits", new_credits(fixture)))


def duplicates(fixture: Fixture) -> Iterator[Round]:
    """Compare duplicates with new credits, on the same server."""
    new = new_credits(fixture)
    return compare(fixture, ("duplicates", duplicates_of(new)), ("new credits", new))


def tail_latency(fixture: Fixture) -> Iterator[Round]:
    """Compare p99 with the median, at half of the rate that was reached just before."""
    spread = new_credits(fixture)
    spread(fixture.scale.warm_seconds)
    for number in range(fixture.scale.rounds):
        reached = log_reading(fixture, number, "credits", spread(fixture.scale.seconds))
        wanted = reached["credits"] / 2
        half = spread(fixture.scale.seconds, rate=wanted)
        figures = log_reading(fixture, number, "credits at half load", half)
        expected = wanted * fixture.scale.seconds
        enough = half.answers >= RATE_SHARE_MIN * expected - 3 * sqrt(expected)
        check(enough, f"{half.rate:.0f}/s were reached, not {wanted:.0f}/s")
        assert half.p99_ms is not None
        assert half.median_ms is not None
        yield Round(values=(half.p99_ms / half.median_ms,), figures=reached | figures)


def among_millions(fixture: Fixture) -> Iterator[Round]:
    """Compare credits to a database with millions of payments with those to an empty one, on the same PostgreSQL."""
    database = fixture.database()
    fill(database, fixture.scale.payments)
    full = credits_to(fixture, database, fixture.serve(database.url))
    return compare(fixture, ("credits among millions", full), ("credits to an empty database", new_credits(fixture)))


def balances(fixture: Fixture) -> Iterator[Round]:
    """Compare reads of balances with those of a bare Flask app, of the same rows."""
    database = fixture.database()
    measured = reads(fixture, database, fixture.serve(database.url))
    reference = reads(fixture, database, fixture.serve(database.url, FLASK_ALONE, FLASK_ALONE_SERVER))
    return compare(fixture, ("balance reads", measured), ("bare Flask", reference))


def deep_pages(fixture: Fixture) -> Iterator[Round]:
    """Compare single reads of pages deep in a long log with those of its first page."""
    rows, database = fixture.scale.deep_log, fixture.database(organizations=1)
    fill(database, rows)
    with closing(fixture.serve(database.url).connect()) as connection:
        deep = latency.deep_page(connection, database, database.inns[0], rows)
        first = latency.first_page(connection, database, database.inns[0], rows)
        latency.medians(deep, first, fixture.scale.pairs // 3)
        for number in range(fixture.scale.rounds):
            milliseconds = latency.medians(deep, first, fixture.scale.pairs)
            figures = dict(zip(("deep page, ms", "first page, ms"), milliseconds, strict=True))
            log(f"  round {number + 1} of {fixture.scale.rounds}: {format_figures(figures)}")
            yield Round(values=(milliseconds[0] / milliseconds[1],), figures=figures)


def added_latency(fixture: Fixture) -> Iterator[Round]:
    """Return the latency that group commit adds to a single credit, compared with a transaction for each credit."""
    database = fixture.database()
    servers = fixture.serve(database.url), fixture.serve(database.url, UNGROUPED)
    with closing(servers[0].connect()) as first, closing(servers[1].connect()) as second:
        grouped, alone = latency.credit(first, database.inns), latency.credit(second, database.inns)
        latency.medians(grouped, alone, fixture.scale.pairs // 3)
        for number in range(fixture.scale.rounds):
            milliseconds = latency.medians(grouped, alone, fixture.scale.pairs)
            figures = dict(zip(("group commit, ms", "a transaction each, ms"), milliseconds, strict=True))
            log(f"  round {number + 1} of {fixture.scale.rounds}: {format_figures(figures)}")
            yield Round(values=(milliseconds[0] - milliseconds[1],), figures=figures)


def memory(fixture: Fixture) -> Iterator[Round]:
    """Compare the memory of each worker after many credits with that after the first ones, in one round."""
    spread = new_credits(fixture)
    first = _resident_after(spread, fixture.scale.resident_first)
    last = _resident_after(spread, fixture.scale.resident_last)
    check(first.keys() == last.keys(), "a worker was replaced during the measurement")
    growth = max(last[pid] / first[pid] for pid in first)
    figures = {f"worker {place}, MB, at first": first[pid] for place, pid in enumerate(first, 1)}
    figures |= {f"worker {place}, MB, at last": last[pid] for place, pid in enumerate(first, 1)}
    yield Round(values=(growth, max(last.values())), figures=figures)


def _resident_after(spread: Credits, credits: int) -> dict[int, float]:
    while spread.database.credit_count() < credits:
        spread(MEMORY_SECONDS)
    resident = {pid: _resident_mb(pid) for pid in spread.server.worker_pids()}
    log(f"  after {spread.database.credit_count():,} credits: {', '.join(f'{mb:.1f} MB' for mb in resident.values())}")
    return resident


def _resident_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (kilobytes,) = (line.split()[1] for line in lines if line.startswith("VmRSS:"))
    return round(int(kilobytes) / 1024, 1)


def format_figures(figures: dict[str, float]) -> str:
    """Return the figures as one line of text."""
    return ", ".join(f"{name}: {value:.2f}" for name, value in figures.items())

"""How each case is measured: what is set up, what is compared with what, round by round."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from math import sqrt
from pathlib import Path

from bench import pgbench, singles
from bench.fill import fill
from bench.measures import Credits, Round, ceiling, credits_to, in_turn, reads, repeats, told
from bench.servers import KOPECK, PLAIN, UNGROUPED
from bench.stage import CONNECTIONS, Stage
from bench.truth import hold, say

MEMORY_SECONDS = 2
REACHED_AT_LEAST = 0.95
"""How much of the wanted rate must have been reached, chance set aside, for a latency to be that of this rate."""


def credited(stage: Stage, family: str = "postgresql", connections: int = CONNECTIONS) -> Credits:
    """Serve Kopeck on a new database and return credits to it."""
    database = stage.database(family)
    return credits_to(stage, database, stage.serve(database.url), connections)


def against_ceiling(stage: Stage, family: str, connections: int) -> Iterator[Round]:
    """Compare spread credits with the ceiling."""
    measured = credited(stage, family, connections)
    return in_turn(stage, ("credits", measured), ("ceiling", ceiling(stage, connections)))


def against_pgbench(stage: Stage) -> Iterator[Round]:
    """Compare spread credits with the same statements from pgbench, with as many clients.

    What pgbench reaches with the number of clients that it likes best is told beside it.
    """
    database = stage.database()
    pgbench.check_script(database)
    seconds = stage.scale.warm_seconds
    rates = {clients: pgbench.run(database, clients, seconds).rate for clients in pgbench.FEWER_CLIENTS}
    best = max(rates, key=lambda clients: rates[clients])
    say(f"  pgbench at its best: {rates[best]:,.0f}/s with {best} clients")
    reference = partial(pgbench.run, database, CONNECTIONS)
    for found in in_turn(stage, ("credits", credited(stage)), (f"pgbench with {CONNECTIONS} clients", reference)):
        yield replace(found, figures=found.figures | {f"pgbench with {best} clients": rates[best]})


def one_organization(stage: Stage) -> Iterator[Round]:
    """Compare credits to one organisation with spread ones, on the same server."""
    spread = credited(stage)
    one = credits_to(stage, spread.database, spread.server)
    one.inns = one.inns[:1]
    return in_turn(stage, ("credits to one", one), ("credits spread", spread))


def against_plain(stage: Stage, *, organizations: int) -> Iterator[Round]:
    """Compare credits with those of the plain ORM application."""
    measured = credited(stage)
    database = stage.database()
    reference = credits_to(stage, database, stage.serve(database.url, PLAIN))
    for side in (measured, reference):
        side.inns = side.inns[:organizations]
    return in_turn(stage, ("credits", measured), ("plain ORM credits", reference))


def against_ourselves(stage: Stage, *flags: str, application: str = KOPECK) -> Iterator[Round]:
    """Compare spread credits, served another way, with those that are served as gunicorn.conf.py has it."""
    database = stage.database()
    other = credits_to(stage, database, stage.serve(database.url, application, *flags))
    return in_turn(stage, ("served another way", other), ("credits", credited(stage)))


def duplicates(stage: Stage) -> Iterator[Round]:
    """Compare repeats with new credits, on the same server."""
    new = credited(stage)
    return in_turn(stage, ("duplicates", repeats(new)), ("new credits", new))


def tail(stage: Stage) -> Iterator[Round]:
    """Compare p99 with the median, at half the load that was reached just before."""
    spread = credited(stage)
    spread(stage.scale.warm_seconds)
    for number in range(stage.scale.rounds):
        reached = told(stage, number, "credits", spread(stage.scale.seconds))
        wanted = reached["credits"] / 2
        half = spread(stage.scale.seconds, rate=wanted)
        figures = told(stage, number, "credits at half load", half)
        expected = wanted * stage.scale.seconds
        enough = half.answers >= REACHED_AT_LEAST * expected - 3 * sqrt(expected)
        hold(enough, f"{half.rate:.0f}/s were reached, not {wanted:.0f}/s")
        assert half.p99_ms is not None
        assert half.median_ms is not None
        yield Round(values=(half.p99_ms / half.median_ms,), figures=reached | figures)


def among_millions(stage: Stage) -> Iterator[Round]:
    """Compare credits to a database with millions of payments with credits to an empty one, in one cluster."""
    database = stage.database()
    fill(database, stage.scale.payments)
    full = credits_to(stage, database, stage.serve(database.url))
    return in_turn(stage, ("credits among millions", full), ("credits to an empty database", credited(stage)))


def balances(stage: Stage) -> Iterator[Round]:
    """Compare reads of balances with the ceiling."""
    database = stage.database()
    measured = reads(stage, database, stage.serve(database.url))
    return in_turn(stage, ("balance reads", measured), ("ceiling", ceiling(stage)))


def deep_pages(stage: Stage) -> Iterator[Round]:
    """Compare single reads of pages deep in a long log with single reads of its first page."""
    rows, database = stage.scale.deep_log, stage.database(organizations=1)
    fill(database, rows)
    with closing(stage.serve(database.url).caller()) as connection:
        deep = singles.deep_page(connection, database.inns[0], rows)
        first = singles.first_page(connection, database.inns[0], rows)
        singles.medians(deep, first, stage.scale.pairs // 3)
        for number in range(stage.scale.rounds):
            milliseconds = singles.medians(deep, first, stage.scale.pairs)
            figures = dict(zip(("deep page, ms", "first page, ms"), milliseconds, strict=True))
            say(f"  round {number + 1} of {stage.scale.rounds}: {listed(figures)}")
            yield Round(values=(milliseconds[0] / milliseconds[1],), figures=figures)


def added_latency(stage: Stage) -> Iterator[Round]:
    """Subtract what a credit takes in a transaction of its own from what it takes as Kopeck does it, one at a time."""
    database = stage.database()
    servers = stage.serve(database.url), stage.serve(database.url, UNGROUPED)
    with closing(servers[0].caller()) as one, closing(servers[1].caller()) as other:
        grouped, alone = singles.credit(one, database.inns), singles.credit(other, database.inns)
        singles.medians(grouped, alone, stage.scale.pairs // 3)
        for number in range(stage.scale.rounds):
            milliseconds = singles.medians(grouped, alone, stage.scale.pairs)
            figures = dict(zip(("group commit, ms", "a transaction each, ms"), milliseconds, strict=True))
            say(f"  round {number + 1} of {stage.scale.rounds}: {listed(figures)}")
            yield Round(values=(milliseconds[0] - milliseconds[1],), figures=figures)


def memory(stage: Stage) -> Iterator[Round]:
    """Compare what each worker holds in memory after many credits with what it held after the first ones; once."""
    spread = credited(stage)
    first = _resident_after(spread, stage.scale.resident_first)
    last = _resident_after(spread, stage.scale.resident_last)
    hold(first.keys() == last.keys(), "a worker was replaced on the way")
    growth = max(last[pid] / first[pid] for pid in first)
    figures = {f"worker {place}, MB, at first": first[pid] for place, pid in enumerate(first, 1)}
    figures |= {f"worker {place}, MB, at last": last[pid] for place, pid in enumerate(first, 1)}
    yield Round(values=(growth, max(last.values())), figures=figures)


def _resident_after(spread: Credits, credits: int) -> dict[int, float]:
    while spread.database.credited() < credits:
        spread(MEMORY_SECONDS)
    resident = {pid: _resident_mb(pid) for pid in spread.server.workers()}
    say(f"  after {spread.database.credited():,} credits: {', '.join(f'{mb:.1f} MB' for mb in resident.values())}")
    return resident


def _resident_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (kilobytes,) = (line.split()[1] for line in lines if line.startswith("VmRSS:"))
    return round(int(kilobytes) / 1024, 1)


def listed(figures: dict[str, float]) -> str:
    """Write figures in a line."""
    return ", ".join(f"{name}: {value:.2f}" for name, value in figures.items())

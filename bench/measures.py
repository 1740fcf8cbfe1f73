"""What can be measured for some seconds, each with its own check: new credits, repeats, reads, the ceiling."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy import make_url

from bench import load
from bench.databases import Database
from bench.load import Measure, Reading, Requests
from bench.servers import CEILING, Server
from bench.stage import CONNECTIONS, Stage
from bench.truth import hold, say

SETTLE_SECONDS = 0.1


@dataclass(frozen=True, kw_only=True)
class Round:
    """What one round showed: a value for each goal of its case, and the figures that these were made of."""

    values: tuple[float, ...]
    figures: dict[str, float]


@dataclass(kw_only=True)
class Credits:
    """New credits from so many connections at once."""

    server: Server
    database: Database
    file: Path
    inns: list[str]
    connections: int = CONNECTIONS
    sent: Requests | None = None
    """What was credited the last time."""

    def __call__(self, seconds: int, rate: float = 0) -> Reading:
        """Credit for so many seconds, so many a second, or as fast as answers come."""
        count = int(rate * 1.2 or load.REQUESTS_A_SECOND) * seconds + load.REQUESTS_A_SECOND
        requests = load.sign_credits(self.file, self.inns, count)
        before = settled(self.database)
        reading = load.send(requests, self.server.port, connections=self.connections, seconds=seconds, rate=rate)
        grown = settled(self.database) - before
        # What wrk had sent and not yet seen answered at its end is credited too.
        counted = reading.answers <= grown <= reading.answers + self.connections
        hold(counted, f"{reading.answers} answers, but {grown} credits in the database")
        self.sent = replace(requests, count=max(1, reading.answers - 2 * self.connections), again=True)
        return reading


def credits_to(stage: Stage, database: Database, server: Server, connections: int = CONNECTIONS) -> Credits:
    """Return new credits spread over all organisations."""
    return Credits(
        server=server,
        database=database,
        file=stage.folder / f"credits-{server.port}",
        inns=database.inns,
        connections=connections,
    )


def repeats(credits: Credits) -> Measure:
    """Return duplicates only, of what was credited last."""

    def measure(seconds: int) -> Reading:
        assert credits.sent is not None, "something must be credited before it can be repeated"
        # One that wrk hung up on before it was read is credited now.
        return unchanged(credits.server, credits.database, credits.sent, seconds, but_for=credits.connections)

    return measure


def reads(stage: Stage, database: Database, server: Server) -> Measure:
    """Return reads of balances, spread over all organisations."""
    requests = load.balance_reads(stage.folder / f"reads-{server.port}", database.inns)
    return lambda seconds: unchanged(server, database, requests, seconds)


def ceiling(stage: Stage, connections: int = CONNECTIONS) -> Measure:
    """Return the ceiling: what the same app answers without a database."""
    nowhere = stage.folder / "nowhere.db"
    server = stage.serve(make_url(f"sqlite:///{nowhere}"), CEILING)
    inns = [str(number) for number in range(10**9, 10**9 + 1000)]

    def measure(seconds: int) -> Reading:
        count = load.REQUESTS_A_SECOND * (seconds + 1)
        requests = load.sign_credits(stage.folder / "ceiling", inns, count)
        reading = load.send(requests, server.port, connections=connections, seconds=seconds)
        hold(not nowhere.exists(), "the ceiling has touched a database")
        return reading

    return measure


def in_turn(stage: Stage, measured: tuple[str, Measure], reference: tuple[str, Measure]) -> Iterator[Round]:
    """Compare two rates: warm both up, then measure one after the other, and in the next round the other way round."""
    for name, measure in (reference, measured):
        say(f"  warming up: {name}")
        measure(stage.scale.warm_seconds)
    for number in range(stage.scale.rounds):
        order = (measured, reference) if number % 2 == 0 else (reference, measured)
        figures: dict[str, float] = {}
        for name, measure in order:
            figures |= told(stage, number, name, measure(stage.scale.seconds))
        yield Round(values=(figures[measured[0]] / figures[reference[0]],), figures=figures)


def told(stage: Stage, number: int, name: str, reading: Reading) -> dict[str, float]:
    """Say what was measured, and return it as figures; the first is the rate."""
    figures = {name: round(reading.rate, 1)}
    latency = ""
    if reading.median_ms is not None and reading.p99_ms is not None:
        latency = f", median {reading.median_ms:.1f} ms, p99 {reading.p99_ms:.1f} ms"
        figures |= {f"{name}, median ms": reading.median_ms, f"{name}, p99 ms": reading.p99_ms}
    say(f"  round {number + 1} of {stage.scale.rounds}: {name}: {reading.rate:,.0f}/s{latency}")
    return figures


def unchanged(server: Server, database: Database, requests: Requests, seconds: int, *, but_for: int = 0) -> Reading:
    """Send what must not change anything, but for a few at most."""
    before = settled(database)
    reading = load.send(requests, server.port, connections=CONNECTIONS, seconds=seconds)
    grown = settled(database) - before
    hold(grown <= but_for, f"{grown} credits came of requests that credit nothing")
    return reading


def settled(database: Database) -> int:
    """Return how many credits there are, once nothing moves any more."""
    before, now = -1, database.credited()
    while before != now:
        time.sleep(SETTLE_SECONDS)
        before, now = now, database.credited()
    return now

"""Measurements of some seconds, each with its own check: new credits, duplicates, reads, the ceiling."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from sqlalchemy import make_url

from bench import load, processor
from bench.checks import check, log
from bench.databases import Database
from bench.fixture import CONNECTIONS, Fixture
from bench.load import Measure, Reading, Requests
from bench.processor import WEB
from bench.servers import CEILING, FLASK_ALONE, FLASK_ALONE_SERVER, Server

POLL_SECONDS = 0.1

Side = TypeVar("Side")


@dataclass(frozen=True, kw_only=True)
class Round:
    """The result of one round: a value for each goal of its case, and the figures behind these values."""

    values: tuple[float, ...]
    figures: dict[str, float]


@dataclass(kw_only=True)
class Credits:
    """New credits over a number of connections."""

    server: Server
    database: Database
    file: Path
    inns: list[str]
    connections: int = CONNECTIONS
    sent: Requests | None = None
    """The requests that were credited last."""

    def __call__(self, seconds: int, rate: float = 0) -> Reading:
        """Credit for some seconds, at this rate per second. Without a rate, as fast as answers come."""
        count = int(rate * 1.2 or load.REQUESTS_A_SECOND) * seconds + load.REQUESTS_A_SECOND
        requests = load.sign_credits(self.file, self.inns, count)
        before = stable_count(self.database)
        with processor.watch({WEB: self.server.pid, **self.database.processes}) as used:
            reading = load.send(requests, self.server.port, connections=self.connections, seconds=seconds, rate=rate)
        grown = stable_count(self.database) - before
        # Requests without an answer when wrk ended are credited too.
        consistent = reading.answers <= grown <= reading.answers + self.connections
        check(consistent, f"{reading.answers} answers, but {grown} credits in the database")
        self.sent = replace(requests, count=max(1, reading.answers - 2 * self.connections), repeatable=True)
        return used.by(reading)


def credits_to(fixture: Fixture, database: Database, server: Server, connections: int = CONNECTIONS) -> Credits:
    """Return a measurement of new credits, spread over all organisations."""
    return Credits(
        server=server,
        database=database,
        file=fixture.folder / f"credits-{server.port}",
        inns=database.inns,
        connections=connections,
    )


def duplicates_of(credits: Credits) -> Measure:
    """Return a measurement that only repeats what was credited last."""

    def measure(seconds: int) -> Reading:
        assert credits.sent is not None, "something must be credited before it can be repeated"
        # When wrk closed a connection before its request was read, that request is credited only now.
        return send_without_credits(
            credits.server, credits.database, credits.sent, seconds, tolerance=credits.connections
        )

    return measure


def reads(fixture: Fixture, database: Database, server: Server) -> Measure:
    """Return a measurement of balance reads, spread over all organisations."""
    requests = load.balance_reads(fixture.folder / f"reads-{server.port}", database.inns, database.api_key)
    return lambda seconds: send_without_credits(server, database, requests, seconds)


def flask_alone(fixture: Fixture, connections: int) -> Measure:
    """Return a measurement of a bare Flask app that checks signature and schema, and stores nothing."""
    server = fixture.serve(make_url("sqlite://"), FLASK_ALONE, FLASK_ALONE_SERVER)
    return _without_database(fixture, server, connections)


def ceiling(fixture: Fixture, connections: int = CONNECTIONS) -> Measure:
    """Return a measurement of the ceiling: the same app without a database."""
    unused = fixture.folder / "unused.db"
    server = fixture.serve(make_url(f"sqlite:///{unused}"), CEILING)
    measure = _without_database(fixture, server, connections)

    def measured(seconds: int) -> Reading:
        reading = measure(seconds)
        check(not unused.stat().st_size, "the ceiling used a database")
        return reading

    return measured


def _without_database(fixture: Fixture, server: Server, connections: int) -> Measure:
    inns = [str(number) for number in range(10**9, 10**9 + 1000)]

    def measure(seconds: int) -> Reading:
        count = load.REQUESTS_A_SECOND * (seconds + 1)
        requests = load.sign_credits(fixture.folder / f"unstored-{server.port}", inns, count)
        with processor.watch({WEB: server.pid}) as used:
            reading = load.send(requests, server.port, connections=connections, seconds=seconds)
        return used.by(reading)

    return measure


def compare(fixture: Fixture, measured: tuple[str, Measure], reference: tuple[str, Measure]) -> Iterator[Round]:
    """Compare two rates. Warm both up, then measure both in each round. Every second round swaps the order."""
    log(f"  warming up: {reference[0]}, {measured[0]}")
    warm_up(fixture, reference[1], measured[1])
    for number in range(fixture.scale.rounds):
        yield compare_once(fixture, number, measured, reference)


def warm_up(fixture: Fixture, *measures: Measure) -> None:
    """Measure for a short time, and forget it."""
    for measure in measures:
        measure(fixture.scale.warm_seconds)


def in_turn(number: int, sides: list[Side]) -> list[Side]:
    """Return the two sides in the order of this round: every second round swaps them."""
    return sides[::-1] if number % 2 else sides


def compare_once(fixture: Fixture, number: int, measured: tuple[str, Measure], reference: tuple[str, Measure]) -> Round:
    """Compare two rates in one round. The order depends on its number."""
    figures: dict[str, float] = {}
    for name, measure in in_turn(number, [measured, reference]):
        figures |= log_reading(fixture, number, name, measure(fixture.scale.seconds))
    return Round(values=(figures[measured[0]] / figures[reference[0]],), figures=figures)


def with_processor(rounds: Iterator[Round], processes: str, *, measured: str, reference: str) -> Iterator[Round]:
    """Add a value to each round: what these processes use for an answer, as a multiple of the reference's."""
    for each in rounds:
        times = each.figures[f"{measured}, {processes} µs"] / each.figures[f"{reference}, {processes} µs"]
        yield replace(each, values=(*each.values, times))


def log_reading(fixture: Fixture, number: int, name: str, reading: Reading) -> dict[str, float]:
    """Log a reading, and return its figures. The first one is the rate."""
    figures = {name: round(reading.rate, 1)}
    latency = ""
    if reading.median_ms is not None and reading.p99_ms is not None:
        latency = f", median {reading.median_ms:.1f} ms, p99 {reading.p99_ms:.1f} ms"
        figures |= {f"{name}, median ms": reading.median_ms, f"{name}, p99 ms": reading.p99_ms}
    figures |= {f"{name}, {of} µs": round(microseconds, 1) for of, microseconds in reading.processor.items()}
    times = "".join(f", {of} {microseconds:.0f} µs" for of, microseconds in reading.processor.items())
    log(f"  round {number + 1} of {fixture.scale.rounds}: {name}: {reading.rate:,.0f}/s{latency}{times}")
    return figures


def send_without_credits(
    server: Server, database: Database, requests: Requests, seconds: int, *, tolerance: int = 0
) -> Reading:
    """Send requests that must credit nothing, or at most `tolerance` of them."""
    before = stable_count(database)
    with processor.watch({WEB: server.pid}) as used:
        reading = load.send(requests, server.port, connections=CONNECTIONS, seconds=seconds)
    grown = stable_count(database) - before
    check(grown <= tolerance, f"{grown} credits came from requests that credit nothing")
    return used.by(reading)


def stable_count(database: Database) -> int:
    """Return the number of credits once it no longer changes."""
    previous, current = -1, database.credit_count()
    while previous != current:
        time.sleep(POLL_SECONDS)
        previous, current = current, database.credit_count()
    return current

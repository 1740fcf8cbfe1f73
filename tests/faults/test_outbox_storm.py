"""A storm: thousands of events to endpoints of every bad habit, four workers, all of which are killed in the middle.

OUTBOX_EVENTS says how many events (10000 is the whole claim), OUTBOX_DATABASE on which database.
"""

import json
import os
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import and_, func, select

from config import ROOT
from database.columns import UtcDateTime
from database.session import look_up
from limits import LEASE_SECONDS
from models import Incident
from outbox.claims import LOST
from outbox.retry import RETRY_JITTER, RETRY_SECONDS
from tests import databases
from tests.clusters import free_port
from tests.factories import make_org
from tests.faults.conftest import REPORT
from tests.faults.crowd import MOVED, RETRY_AFTER_SECONDS
from tests.faults.server import WITH_US
from tests.faults.worker_process import FileClock
from tests.faults.workers import Worker
from tests.outboxes import ATTEMPTS, DELIVERIES, ENDPOINTS, open_endpoint, pay, read_attempts, read_deliveries

EVENTS = int(os.environ.get("OUTBOX_EVENTS", "240"))
FAMILY = os.environ.get("OUTBOX_DATABASE") or next(
    name for name in ("postgresql", "sqlite") if name in databases.FAMILIES
)
WORKERS = 4
LEASE = timedelta(seconds=LEASE_SECONDS)

ODD = ("slow", "failing", "flapping", "dead", "redirecting", "endless", "closing", "gone", "throttled", "ordered")
KINDS = (*ODD, *["healthy"] * 10)
"""One organisation with one endpoint each; one more endpoint hears of all of them."""

NEVER_WELL = ("failing", "dead", "redirecting", "gone")
FIRST_WAVE = 0.6
SECOND_WAVE_AFTER = timedelta(hours=84)
"""After all of the first that fail for ever are exhausted, and the second is half-way when five days are over."""

SOON = timedelta(seconds=3)
"""What is due within this time is waited for: the clock must not be moved while a worker takes it."""

STEP = timedelta(minutes=1)
"""The clock goes on by so much at the least, however close together things are due."""

STALLED_SECONDS = 10
"""After this time without any news nobody is at work who could still bring some: the slowest answer takes three."""

PATIENCE_SECONDS = 3600

pytestmark = pytest.mark.parametrize("migrated", [FAMILY], indirect=True)


@pytest.fixture
def clock(tmp_path) -> FileClock:
    return FileClock(tmp_path / "clock")


@pytest.fixture
def app(make_app) -> Flask:
    return make_app(ENDPOINTS_ON_LOOPBACK="allow")


@pytest.fixture
def crowd(tmp_path) -> Iterator[int]:
    """Start the receivers, and return their port."""
    command = [*WITH_US, sys.executable, "-m", "tests.faults.crowd", str(tmp_path / "received")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        yield int(process.stdout.readline())
        process.terminate()


@dataclass
class Storm:
    """The driver: credits, moves the clock whenever nothing is to be done, kills, and looks at what is written."""

    clock: FileClock
    inns: Sequence[str]
    begun_at: datetime
    workers: list[Worker]
    start_worker: Any
    count: int = 0
    moves: int = 0
    waits: Counter[int] = field(default_factory=Counter)
    killed: bool = False

    def credit(self, share: float) -> None:
        """Credit a share of all payments, the same to each organisation."""
        each = round(EVENTS * share / len(self.inns))
        for inn in self.inns:
            pay(each, inn=inn, now=self.clock())
        self.count += each

    def run(self) -> None:
        """Go on until every delivery is settled."""
        self.credit(FIRST_WAVE)
        ends_at = time.monotonic() + PATIENCE_SECONDS
        second_wave_at = self.begun_at + SECOND_WAVE_AFTER
        while True:
            self.wait_until_quiet(ends_at)
            self.check_waits()
            due_at = self.next_group()
            if self.look() is not None:
                # Something has become due while all that was looked at.
                continue
            if second_wave_at is not None and (due_at is None or due_at > second_wave_at):
                self.move_to(second_wave_at)
                self.credit(1 - FIRST_WAVE)
                second_wave_at = None
            elif due_at is None:
                return
            else:
                self.move_to(due_at)

    def move_to(self, moment: datetime) -> None:
        self.clock.move(seconds=max(0.0, (moment - self.clock()).total_seconds()) + 0.01)
        self.moves += 1

    def wait_until_quiet(self, ends_at: float) -> None:
        """Wait until nothing is due and nobody is at work; what a worker that was killed held is let run out."""
        seen, since = None, time.monotonic()
        while (held := self.look()) is not None:
            assert time.monotonic() < ends_at, "the storm did not end"
            self.kill_in_the_middle(len(held[1]))
            if held != seen:
                seen, since = held, time.monotonic()
            elif time.monotonic() > since + STALLED_SECONDS and self.killed:
                self.move_to(self.clock() + LEASE)
                self.killed = False
            time.sleep(0.1)

    def look(self) -> tuple[int, frozenset[Any]] | None:
        """Return how much is due, or nearly, and who holds what; None when nothing is and nobody does."""
        soon = self.clock() + SOON
        due = int(look_up(select(func.count()).where(DELIVERIES.c.due_at <= soon))[0][0])
        held = look_up(select(DELIVERIES.c.id, DELIVERIES.c.lease).where(DELIVERIES.c.lease.is_not(None)))
        return (due, frozenset(map(tuple, held))) if due or held else None

    def kill_in_the_middle(self, held: int) -> None:
        """Kill all workers while they hold something, a quarter of the first wave being delivered; let others go on."""
        if len(self.workers) > WORKERS or held < WORKERS:
            return
        delivered = look_up(select(func.count()).where(DELIVERIES.c.status == "delivered"))[0][0]
        if delivered > EVENTS * FIRST_WAVE / 4:
            for worker in self.workers:
                worker.kill()
            self.killed = True
            self.workers += [self.start_worker() for _ in range(WORKERS)]

    def next_group(self) -> datetime | None:
        """Return when all is due that comes next: what failed together comes back within the jitter."""
        query = select(func.min(DELIVERIES.c.due_at, type_=UtcDateTime))
        first: datetime | None = look_up(query)[0][0]
        if first is None:
            return None
        last = first + max(STEP, (first - self.clock()) * 5 * RETRY_JITTER)
        group: datetime = look_up(
            query.with_only_columns(func.max(DELIVERIES.c.due_at, type_=UtcDateTime)).where(DELIVERIES.c.due_at <= last)
        )[0][0]
        return group

    def check_waits(self) -> None:
        """Check of all that waits that it waits as long as the schedule says, give or take the jitter."""
        newest = and_(ATTEMPTS.c.delivery_id == DELIVERIES.c.id, ATTEMPTS.c.number == DELIVERIES.c.attempt_count)
        rows = look_up(
            select(*DELIVERIES.c["step", "scheduled_at"], *ATTEMPTS.c["started_at", "duration_ms", "status_code"])
            .join(ATTEMPTS, newest)
            .where(DELIVERIES.c.scheduled_at.is_not(None), ATTEMPTS.c.duration_ms.is_not(None))
        )
        for row in rows:
            ended_at = row.started_at + timedelta(milliseconds=row.duration_ms)
            asked = row.status_code == 429
            wait = RETRY_AFTER_SECONDS if asked else RETRY_SECONDS[row.step - 1]
            jitter = 0 if asked else wait * RETRY_JITTER
            assert row.scheduled_at - ended_at >= timedelta(seconds=wait - jitter - 0.001)
            # Settled within its lease at the latest.
            assert row.scheduled_at - row.started_at <= timedelta(seconds=wait + jitter) + LEASE
            self.waits[row.step] += 1


def read_received(log: Path) -> dict[str, list[dict[str, Any]]]:
    """Return every request by endpoint, in the order in which they began."""
    found = defaultdict(list)
    for line in log.read_text().splitlines():
        request = json.loads(line)
        found[request["endpoint"]].append(request)
    return {endpoint: sorted(requests, key=lambda each: each["began"]) for endpoint, requests in found.items()}


def test_storm_of_events_reaches_every_endpoint_that_ever_answers(
    context, database, clock, crowd, tmp_path, check_ledger
):
    inns = [f"{7_700_000_000 + number}" for number in range(len(KINDS))]
    paths, dead = {}, free_port()
    for inn, kind in zip(inns, KINDS, strict=True):
        make_org(inn)
        path = f"/{kind}/{inn}"
        port = dead if kind == "dead" else crowd
        paths[open_endpoint(f"http://127.0.0.1:{port}{path}", inn=inn, ordered=kind == "ordered", now=clock())] = path
    paths[open_endpoint(f"http://127.0.0.1:{crowd}/all/all", now=clock())] = "/all/all"

    with ExitStack() as running:
        numbers = iter(range(100))

        def start_worker() -> Worker:
            return running.enter_context(Worker(database.url, clock.file, tmp_path / f"worker-{next(numbers)}"))

        storm = Storm(clock, inns, clock(), [start_worker() for _ in range(WORKERS)], start_worker)
        storm.run()
        for worker in storm.workers[WORKERS:]:
            worker.end()
        written = "".join([worker.written() for worker in storm.workers])

    assert "Traceback" not in written, written
    received = read_received(tmp_path / "received")
    REPORT.extend(report(storm, paths))
    print("\n".join(["", *report(storm, paths)]))
    assert len(storm.workers) == 2 * WORKERS
    lost = [attempt for attempts in read_attempts().values() for attempt in attempts if attempt.error == LOST]
    assert lost, "the workers that were killed held nothing, which proves nothing"
    check_deliveries(storm, paths, received)
    check_log(paths, received)
    check_endpoints(paths)
    check_order(next(received[path] for path in received if path.startswith("/ordered")))
    assert MOVED not in received
    assert len(storm.waits) == len(RETRY_SECONDS)
    check_ledger()


def check_deliveries(storm: Storm, paths: dict[int, str], received: dict[str, list[dict[str, Any]]]) -> None:
    """Check that every event reached every endpoint that answers, and that nothing is left to do."""
    rows = defaultdict(list)
    for row in read_deliveries():
        assert (row.due_at, row.scheduled_at, row.lease) == (None, None, None)
        rows[row.endpoint_id].append(row)
    for endpoint_id, path in paths.items():
        kind = path.split("/")[1]
        statuses = Counter(row.status for row in rows[endpoint_id])
        if kind in NEVER_WELL:
            assert statuses["delivered"] == statuses["pending"] == 0
            continue
        taken = {request["event"] for request in received[path] if request["status"] == 200}
        assert statuses == {"delivered": storm.count * (len(KINDS) if kind == "all" else 1)}
        assert taken == {str(row.event_id) for row in rows[endpoint_id]}


def check_log(paths: dict[int, str], received: dict[str, list[dict[str, Any]]]) -> None:
    """Check that attempts follow each other, in the log and at the receivers, and that both say the same."""
    deliveries, attempts = {row.id: row for row in read_deliveries()}, read_attempts()
    logged: Counter[tuple[str, str]] = Counter()
    for id_, row in deliveries.items():
        tried = attempts[id_]
        assert [attempt.number for attempt in tried] == list(range(1, row.attempt_count + 1))
        logged[paths[row.endpoint_id], str(row.event_id)] = sum(attempt.error != LOST for attempt in tried)
        for before, after in pairwise(tried):
            lasted = LEASE if before.error == LOST else timedelta(milliseconds=before.duration_ms)
            # Milliseconds are rounded.
            assert after.started_at >= before.started_at + lasted - timedelta(milliseconds=1)
    for path, requests in received.items():
        by_event = defaultdict(list)
        for request in requests:
            by_event[request["event"]].append(request)
        for event_id, those in by_event.items():
            assert all(after["began"] >= before["ended"] for before, after in pairwise(those)), those
            # One that was lost may have been received, and is the only one that may not be in the log.
            assert logged[path, event_id] <= len(those) <= logged[path, event_id] + 1


def check_endpoints(paths: dict[int, str]) -> None:
    """Check who is disabled and why, with an incident each, and that nobody was exhausted too soon."""
    endpoints = {row.id: row for row in look_up(select(*ENDPOINTS.c))}
    because = {paths[id_].split("/")[1]: row.disabled_because for id_, row in endpoints.items() if row.disabled_at}
    assert because == {"failing": "failing", "dead": "failing", "redirecting": "failing", "gone": "gone"}
    incidents = look_up(select(Incident.kind, Incident.facts))
    assert {row.kind for row in incidents} == {"endpoint_disabled"}
    assert sorted(row.facts["endpoint_id"] for row in incidents) == sorted(
        id_ for id_, row in endpoints.items() if row.disabled_at
    )
    attempts = read_attempts()
    for row in read_deliveries():
        if row.status == "exhausted":
            assert sum(attempt.error != LOST for attempt in attempts[row.id]) == len(RETRY_SECONDS) + 1
        if row.status == "paused":
            assert endpoints[row.endpoint_id].disabled_at is not None
    exhausted = {paths[row.endpoint_id].split("/")[1] for row in read_deliveries() if row.status == "exhausted"}
    assert exhausted == {"failing", "dead", "redirecting"}


def check_order(requests: list[dict[str, Any]]) -> None:
    """Check that a version was received only after the one before was taken."""
    taken_at = {request["version"]: request["ended"] for request in reversed(requests) if request["status"] == 200}
    for request in requests:
        assert request["version"] == 1 or request["began"] >= taken_at[request["version"] - 1]


def report(storm: Storm, paths: dict[int, str]) -> list[str]:
    """Say what came of it, a line for each kind of endpoint."""
    kinds = {id_: path.split("/")[1] for id_, path in paths.items()}
    deliveries, attempts = read_deliveries(), read_attempts()
    disabled = {row.id for row in look_up(select(ENDPOINTS.c.id).where(ENDPOINTS.c.disabled_at.is_not(None)))}
    figures: dict[str, Counter[str]] = defaultdict(Counter)
    for row in deliveries:
        for name in (kinds[row.endpoint_id], "in all"):
            lost = sum(attempt.error == LOST for attempt in attempts[row.id])
            figures[name] += Counter({"events": 1, row.status: 1, "attempts": row.attempt_count, "lost": lost})
    for id_ in disabled:
        figures[kinds[id_]]["disabled"] += 1
        figures["in all"]["disabled"] += 1
    columns = ("events", "delivered", "attempts", "lost", "exhausted", "paused", "disabled")
    counted = f"{storm.count * len(KINDS)} events, {storm.moves} moves of the clock"
    lines = [f"storm on {FAMILY}: {counted}, all {WORKERS} workers killed once"]
    lines.append(f"{'endpoint':>12}" + "".join([f"{column:>11}" for column in columns]))
    for name in (*ODD, "healthy", "all", "in all"):
        lines.append(f"{name:>12}" + "".join([f"{figures[name][column]:>11}" for column in columns]))
    return lines

"""The cases about events: deliveries, credits with an endpoint, claims among finished deliveries.

They are measured like those of cases.py.
"""

from collections.abc import Iterator
from dataclasses import replace

from bench import latency, outboxes
from bench.cases import format_figures, new_credits
from bench.checks import check, log
from bench.claiming import BATCH, claim_and_settle
from bench.databases import Database, execute
from bench.deliveries import Bare, Deliveries
from bench.finished import fill_finished
from bench.fixture import Fixture
from bench.in_process import app_context, application
from bench.load import Reading
from bench.measures import Credits, Round, compare, log_reading, with_processor
from bench.processor import WORKER
from bench.receiver import Receiver, receiving
from bench.servers import worker

ENDPOINTS = 100
"""Number of organisations in each of the two outboxes. Each one has its own endpoint."""

SPARE_CLAIMS = 300
"""Number of batches that are still due after the last claim of a round."""


def against_bare(fixture: Fixture) -> Iterator[Round]:
    """Compare the deliveries of one worker with the same requests from a bare loop, to the same receiver."""
    receiver = fixture.stack.enter_context(receiving())
    database = fixture.database()
    secret = outboxes.subscribe_all(database, receiver.url)
    deliveries = Deliveries(database=database, receiver=receiver, secret=secret)
    # The bare loop sends the requests of this run.
    deliveries(fixture.scale.warm_seconds)
    bare = Bare(deliveries=deliveries, file=fixture.folder / "received.json")
    rounds = compare(fixture, ("deliveries", deliveries), ("bare requests loop", bare))
    return with_processor(rounds, WORKER, measured="deliveries", reference="bare requests loop")


def with_endpoint(fixture: Fixture) -> Iterator[Round]:
    """Compare credits with and without a subscribed endpoint, while no worker runs.

    The figures also show the throughput while a worker delivers to a receiver on the same machine.
    """
    receiver = fixture.stack.enter_context(receiving())
    subscribed, unsubscribed = new_credits(fixture), new_credits(fixture)
    outboxes.subscribe_all(subscribed.database, receiver.url)
    measured, reference = "credits with an endpoint", "credits without one"
    rounds = compare(fixture, (measured, _CreditsWithDeliveries(subscribed)), (reference, unsubscribed))
    for number, result in enumerate(rounds):
        figures = log_reading(
            fixture, number, "credits with a running worker", _with_worker(fixture, subscribed, receiver)
        )
        share = figures["credits with a running worker"] / result.figures[reference]
        log(f"  with a running worker: {share:.2f} of those without an endpoint")
        yield replace(result, figures=result.figures | figures | {"share with a running worker": round(share, 4)})


class _CreditsWithDeliveries:
    """Credits, with a check that each one has its delivery."""

    def __init__(self, credits: Credits) -> None:
        self._credits = credits

    def __call__(self, seconds: int) -> Reading:
        reading = self._credits(seconds)
        database = self._credits.database
        deliveries, credited = outboxes.delivery_counts(database).deliveries, database.credit_count()
        check(deliveries == credited, f"{credited} credits have {deliveries} deliveries")
        return reading


def _with_worker(fixture: Fixture, credits: Credits, receiver: Receiver) -> Reading:
    with worker(credits.database.url):
        receiver.wait_for_first()
        reading = credits(fixture.scale.seconds)
    receiver.take_all()
    return reading


def among_finished(fixture: Fixture) -> Iterator[Round]:
    """Compare claims, without sending, in an outbox with many finished deliveries with those in a new one."""
    databases = [_outbox(fixture, finished) for finished in (fixture.scale.finished, 0)]
    for database in databases:
        _top_up(database, SPARE_CLAIMS + fixture.scale.claims // 3)
        # Without this, PostgreSQL would plan the queries for an empty table.
        execute(database.url, "VACUUM ANALYZE")
    with application(databases[0]) as full, application(databases[1]) as new:
        in_full, in_new = claim_and_settle(full), claim_and_settle(new)
        latency.medians(in_full, in_new, fixture.scale.claims // 3)
        for number in range(fixture.scale.rounds):
            for database in databases:
                _top_up(database, fixture.scale.claims)
            milliseconds = latency.medians(in_full, in_new, fixture.scale.claims)
            figures = dict(zip(("among finished ones, ms", "in a new outbox, ms"), milliseconds, strict=True))
            log(f"  round {number + 1} of {fixture.scale.rounds}: {format_figures(figures)}")
            yield Round(values=(milliseconds[0] / milliseconds[1],), figures=figures)


def _outbox(fixture: Fixture, finished: int) -> Database:
    """Create a database with an endpoint for each organisation and a number of finished deliveries."""
    database = fixture.database(organizations=ENDPOINTS)
    with app_context(database):
        for inn in database.inns:
            outboxes.subscribe(outboxes.UNUSED_URL, inn=inn)
    if finished:
        fill_finished(database, finished)
    return database


def _top_up(database: Database, batches: int) -> None:
    with app_context(database):
        outboxes.credit_through_inbox(database.inns, batches * BATCH)

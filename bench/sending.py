"""How the cases about events are measured: deliveries, credits that are announced, a worker's turn among finished ones.

Beside cases.py, and in the same way.
"""

from collections.abc import Iterator
from dataclasses import replace

from bench import outboxes, singles
from bench.cases import credited, listed
from bench.databases import Database, execute
from bench.deliveries import Bare, Deliveries
from bench.finished import fill_finished
from bench.inside import inside, opened
from bench.load import Reading
from bench.measures import Credits, Round, in_turn, told
from bench.receiver import Receiver, receiving
from bench.servers import working
from bench.stage import Stage
from bench.truth import hold, say
from bench.turns import PLACES, turn

ENDPOINTS = 100
"""How many organisations there are in the outboxes that are compared, each with an endpoint of its own."""

SPARE_TURNS = 300
"""How many turns' worth of deliveries is still due after the last turn of a round."""


def against_bare(stage: Stage) -> Iterator[Round]:
    """Compare the deliveries of one worker with the same requests from a bare loop, to the same receiver."""
    receiver = stage.stack.enter_context(receiving())
    database = stage.database()
    secret = outboxes.subscribed(database, receiver.url)
    deliveries = Deliveries(database=database, receiver=receiver, secret=secret)
    # The bare loop sends what this one sent.
    deliveries(stage.scale.warm_seconds)
    bare = Bare(deliveries=deliveries, file=stage.folder / "received.json")
    return in_turn(stage, ("deliveries", deliveries), ("bare requests loop", bare))


def with_endpoint(stage: Stage) -> Iterator[Round]:
    """Compare credits that are announced to an endpoint with those that nobody hears of; no worker runs.

    What is reached with a worker beside them that delivers, and the receiver too, is told besides.
    """
    receiver = stage.stack.enter_context(receiving())
    announced, unheard = credited(stage), credited(stage)
    outboxes.subscribed(announced.database, receiver.url)
    measured, reference = "credits with an endpoint", "credits without one"
    pairs = in_turn(stage, (measured, _Announced(announced)), (reference, unheard))
    for number, found in enumerate(pairs):
        beside = told(stage, number, "credits with a worker beside", _with_worker(stage, announced, receiver))
        share = beside["credits with a worker beside"] / found.figures[reference]
        say(f"  with a worker beside: {share:.2f} of those without an endpoint")
        yield replace(found, figures=found.figures | beside | {"share with a worker beside": round(share, 4)})


class _Announced:
    """Credits each of which must have its delivery."""

    def __init__(self, credits: Credits) -> None:
        self._credits = credits

    def __call__(self, seconds: int) -> Reading:
        reading = self._credits(seconds)
        standing, there = outboxes.standing(self._credits.database), self._credits.database.credited()
        hold(standing.deliveries == there, f"{there} credits have {standing.deliveries} deliveries")
        return reading


def _with_worker(stage: Stage, credits: Credits, receiver: Receiver) -> Reading:
    with working(credits.database.url):
        receiver.wait_for_first()
        reading = credits(stage.scale.seconds)
    receiver.take()
    return reading


def among_finished(stage: Stage) -> Iterator[Round]:
    """Compare a worker's turns, without sending, in an outbox of many finished deliveries with those in a new one."""
    databases = [_outbox(stage, finished) for finished in (stage.scale.finished, 0)]
    for database in databases:
        _top_up(database, SPARE_TURNS + stage.scale.turns // 3)
        # The new one would otherwise be planned for as if it were empty.
        execute(database.url, "VACUUM ANALYZE")
    with opened(databases[0]) as full, opened(databases[1]) as new:
        among_finished, alone = turn(full), turn(new)
        singles.medians(among_finished, alone, stage.scale.turns // 3)
        for number in range(stage.scale.rounds):
            for database in databases:
                _top_up(database, stage.scale.turns)
            milliseconds = singles.medians(among_finished, alone, stage.scale.turns)
            figures = dict(zip(("among finished ones, ms", "in a new outbox, ms"), milliseconds, strict=True))
            say(f"  round {number + 1} of {stage.scale.rounds}: {listed(figures)}")
            yield Round(values=(milliseconds[0] / milliseconds[1],), figures=figures)


def _outbox(stage: Stage, finished: int) -> Database:
    """Make a database in which each organisation has an endpoint, and so many deliveries are over."""
    database = stage.database(organizations=ENDPOINTS)
    with inside(database):
        for inn in database.inns:
            outboxes.subscribe(outboxes.NOWHERE, inn=inn)
    if finished:
        fill_finished(database, finished)
    return database


def _top_up(database: Database, turns: int) -> None:
    with inside(database):
        outboxes.credit_through_inbox(database.inns, turns * PLACES)

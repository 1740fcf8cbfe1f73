"""The rows of the table: what is measured, its reference, and its goal."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from bench import against, cases, event_cases, hanging
from bench.fixture import Fixture
from bench.measures import Round
from bench.servers import KOPECK, UNGROUPED

LOSS = 0.03
"""The share of another checkout's figure that may be lost."""


@dataclass(frozen=True, kw_only=True)
class Goal:
    """A row of the table. Its value must reach the threshold, or not exceed it. Texts may name sizes of the Scale."""

    name: str
    measured: str
    reference: str
    threshold: float
    at_least: bool = True
    unit: str = ""

    def met_by(self, value: float) -> bool:
        """Return whether a value reaches the goal."""
        return value >= self.threshold if self.at_least else value <= self.threshold


@dataclass(frozen=True, kw_only=True)
class Case:
    """Rows that are measured together."""

    goals: tuple[Goal, ...]
    rounds: Callable[[Fixture], Iterator[Round]]


def case(rounds: Callable[[Fixture], Iterator[Round]], *goals: Goal) -> Case:
    """Return a case of one row or more."""
    return Case(goals=goals, rounds=rounds)


CASES = (
    case(
        cases.spread,
        Goal(
            name="spread-128",
            measured="credits, PostgreSQL, 128 connections",
            reference="a bare Flask app: HMAC, schema, nothing stored",
            threshold=0.60,
        ),
        Goal(
            name="processor-web",
            measured="processor time of a credit in the web processes",
            reference="of an answer of the bare Flask app",
            threshold=1.5,
            at_least=False,
        ),
    ),
    case(
        partial(cases.against_ceiling, family="postgresql", connections=64),
        Goal(
            name="spread-64",
            measured="credits, PostgreSQL, 64 connections",
            reference="the ceiling: Kopeck without its database",
            threshold=0.60,
        ),
    ),
    case(
        cases.against_pgbench,
        Goal(
            name="pgbench",
            measured="credits, PostgreSQL",
            reference="pgbench: same statements, no HTTP",
            threshold=0.90,
        ),
        Goal(
            name="processor-database",
            measured="processor time of a credit in PostgreSQL",
            reference="of a transaction of pgbench",
            threshold=1.0,
            at_least=False,
        ),
    ),
    case(
        cases.one_organization,
        Goal(
            name="one-organization",
            measured="credits, all to one organisation",
            reference="credits, spread over 1,000",
            threshold=0.95,
        ),
    ),
    case(
        partial(cases.against_flask, family="sqlite", connections=64),
        Goal(
            name="sqlite",
            measured="credits, SQLite synchronous=FULL",
            reference="a bare Flask app",
            threshold=0.55,
        ),
    ),
    case(
        partial(cases.against_flask, family="mariadb", connections=64),
        Goal(
            name="mariadb",
            measured="credits, MariaDB",
            reference="a bare Flask app",
            threshold=0.50,
        ),
    ),
    case(
        partial(cases.against_plain, organizations=1000),
        Goal(
            name="plain-spread",
            measured="credits, PostgreSQL",
            reference="plain ORM credits",
            threshold=5,
        ),
    ),
    case(
        partial(cases.against_plain, organizations=1),
        Goal(
            name="plain-one",
            measured="credits, all to one organisation",
            reference="plain ORM credits, the same",
            threshold=8,
        ),
    ),
    case(
        cases.duplicates,
        Goal(
            name="duplicates",
            measured="duplicates only",
            reference="new credits",
            threshold=1.00,
        ),
    ),
    case(
        cases.tail_latency,
        Goal(
            name="tail",
            measured="p99 latency at half of the reached load",
            reference="median latency there",
            threshold=6,
            at_least=False,
        ),
    ),
    case(
        cases.among_millions,
        Goal(
            name="millions",
            measured="credits to a database of {payments:,} payments",
            reference="credits to an empty database",
            threshold=0.95,
        ),
    ),
    case(
        cases.balances,
        Goal(
            name="balances",
            measured="balance reads",
            reference="a bare Flask view that reads the row",
            threshold=0.80,
        ),
    ),
    case(
        cases.deep_pages,
        Goal(
            name="deep-page",
            measured="a page deep in a log of {deep_log:,} rows",
            reference="its first page",
            threshold=1.5,
            at_least=False,
        ),
    ),
    case(
        cases.memory,
        Goal(
            name="memory-growth",
            measured="memory of a worker after {resident_last:,} credits",
            reference="the same after {resident_first:,}",
            threshold=1.05,
            at_least=False,
        ),
        Goal(
            name="memory-size",
            measured="memory of workers after {resident_last:,} credits",
            reference="RSS of the larger one",
            threshold=120,
            at_least=False,
            unit="MB",
        ),
    ),
    case(
        cases.added_latency,
        Goal(
            name="added-latency",
            measured="one credit at a time, group commit",
            reference="a transaction each",
            threshold=1.0,
            at_least=False,
            unit="ms",
        ),
    ),
    case(
        event_cases.against_bare,
        Goal(
            name="deliveries",
            measured="deliveries, one worker to one endpoint",
            reference="a bare requests loop, as many threads",
            threshold=0.90,
        ),
        Goal(
            name="processor-worker",
            measured="processor time of a delivery in the worker",
            reference="of a request of the bare loop",
            threshold=1.0,
            at_least=False,
        ),
    ),
    case(
        event_cases.with_endpoint,
        Goal(
            name="subscribed",
            measured="credits, with an endpoint",
            reference="credits, without an endpoint",
            threshold=0.75,
        ),
    ),
    case(
        event_cases.among_finished,
        Goal(
            name="claim-million",
            measured="claim + settle, {finished:,} finished",
            reference="the same, none finished",
            threshold=1.5,
            at_least=False,
        ),
    ),
    case(
        hanging.beside_hanging,
        Goal(
            name="hanging",
            measured="p95 delay beside 300 endpoints that hang",
            reference="none: seconds",
            threshold=2,
            at_least=False,
            unit="s",
        ),
        Goal(
            name="hanging-ratio",
            measured="p95 delay beside 300 endpoints that hang",
            reference="the same without them",
            threshold=3,
            at_least=False,
        ),
    ),
)


def alternative(name: str, measured: str, *flags: str, application: str = KOPECK) -> Case:
    """Return the row of a setting that was not chosen. It must not be better than the chosen one."""
    reference = "credits, under gunicorn.conf.py"

    def rounds(fixture: Fixture) -> Iterator[Round]:
        return cases.against_default(fixture, *flags, application=application)

    return case(rounds, Goal(name=name, measured=measured, reference=reference, threshold=1.05, at_least=False))


ALTERNATIVES = (
    alternative("gthread-8", "gthread, 2 workers of 8 threads", "--worker-class=gthread", "--threads=8"),
    alternative("gthread-32", "gthread, 2 workers of 32 threads", "--worker-class=gthread", "--threads=32"),
    alternative("one-worker", "one gevent worker", "--workers=1"),
    alternative("three-workers", "three gevent workers", "--workers=3"),
    alternative("ungrouped", "a transaction for each credit", application=UNGROUPED),
)
"""Rows that run only when --only names them."""


def no_loss(name: str, measured: str, *, latency: bool = False) -> Goal:
    """Return the goal of a comparison with another checkout: not to be worse, apart from LOSS."""
    threshold = 1 / (1 - LOSS) if latency else 1 - LOSS
    return Goal(name=name, measured=measured, reference="the other checkout", threshold=threshold, at_least=not latency)


def against_before(name: str, measured: str, measure: Callable[..., Round], **options: Any) -> Case:
    """Return the row of a throughput."""
    return case(partial(against.rounds, measure=measure, **options), no_loss(name, measured))


def latency_before(name: str, measured: str, measure: Callable[..., Round], **options: Any) -> Case:
    """Return the row of a latency."""
    return case(partial(against.rounds, measure=measure, **options), no_loss(name, measured, latency=True))


AGAINST = (
    against_before("spread-64", "credits, PostgreSQL, 64 connections", against.new_credits),
    against_before("spread-128", "credits, PostgreSQL, 128 connections", against.new_credits, connections=128),
    against_before("one-organization", "credits, all to one organisation", against.new_credits, organizations=1),
    against_before("sqlite", "credits, SQLite", against.new_credits, family="sqlite"),
    against_before("mariadb", "credits, MariaDB", against.new_credits, family="mariadb"),
    against_before("subscribed", "credits, with an endpoint", against.new_credits, subscribed=True),
    against_before("duplicates", "duplicates only", against.duplicates),
    against_before("balances", "balance reads", against.balances),
    case(against.deliveries, no_loss("deliveries", "deliveries, one worker to one endpoint")),
    latency_before("half-load", "median latency at half of the load", against.half_load),
    latency_before("one-credit", "one credit at a time", against.single, call=against.single_credit),
    latency_before("one-page", "one page of a log at a time", against.single, call=against.single_page),
)
"""Rows of `--against`."""

NAMES = tuple(dict.fromkeys(goal.name for case in (*CASES, *ALTERNATIVES, *AGAINST) for goal in case.goals))

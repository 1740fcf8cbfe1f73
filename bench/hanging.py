"""How late a healthy endpoint hears of a credit: alone, and beside endpoints that hang."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from flask.testing import FlaskClient
from sqlalchemy import NullPool, create_engine, text

import signing
from bench import outboxes
from bench.checks import check, log
from bench.databases import Database
from bench.fixture import Fixture
from bench.in_process import app_context, application
from bench.load import SECRET, WEBHOOK, credit_body
from bench.measures import Round, in_turn
from bench.receiver import receiving
from bench.servers import worker
from bench.silent_receiver import hanging

ENDPOINTS = 300
"""Number of endpoints that hang."""

SECONDS = 5
"""How long a measurement takes, for each second of others: time-outs of 15 seconds must happen within it."""

CREDITS_A_SECOND = 10
WAIT_SECONDS = 60
POLL_SECONDS = 0.2

DELAYS = text("""
SELECT count(*) AS deliveries, count(*) FILTER (WHERE attempt.status_code = 200) AS delivered,
    percentile_cont(0.95) WITHIN GROUP (ORDER BY
        EXTRACT(EPOCH FROM attempt.started_at - delivery.created_at) + attempt.duration_ms / 1000.0) AS p95
FROM deliveries delivery JOIN endpoints ON endpoints.id = delivery.endpoint_id
LEFT JOIN delivery_attempts attempt ON attempt.delivery_id = delivery.id AND attempt.number = 1
WHERE endpoints.url = :url AND delivery.created_at >= :since
""")


@dataclass(frozen=True, kw_only=True)
class Side:
    """A database whose first organisation has an endpoint that is well; those of the second hang, if it has any."""

    database: Database
    url: str

    def measure(self, seconds: int) -> float:
        """Credit steadily to both while a worker runs; return the p95 of the delay in seconds."""
        with application(self.database) as app, worker(self.database.url):
            client, begun = app.test_client(), time.time()
            _credit(client, self.database.inns[0], 0)
            # What a process needs to start is not measured.
            self._p95(1, begun)
            since = time.time()
            for number in range(seconds * CREDITS_A_SECOND):
                next_at = since + (number + 1) / CREDITS_A_SECOND
                _credit(client, self.database.inns[0], number)
                if not number % CREDITS_A_SECOND:
                    _credit(client, self.database.inns[1], number)
                time.sleep(max(0, next_at - time.time()))
            return self._p95(seconds * CREDITS_A_SECOND, since)

    def _p95(self, count: int, since: float) -> float:
        """Wait until the endpoint that is well has heard of everything."""
        ends_at = time.monotonic() + WAIT_SECONDS
        engine = create_engine(self.database.url, poolclass=NullPool)
        query = DELAYS.bindparams(url=self.url, since=_moment(since))
        while True:
            with engine.connect() as connection:
                row = connection.execute(query).one()
            if row.deliveries == row.delivered == count:
                return float(row.p95)
            check(time.monotonic() < ends_at, f"{row.delivered} of {count} events were delivered at the first attempt")
            time.sleep(POLL_SECONDS)


def beside_hanging(fixture: Fixture) -> Iterator[Round]:
    """Compare the delay of an endpoint beside others that hang with that of one without; every round begins anew."""
    receiver = fixture.stack.enter_context(receiving())
    silent = fixture.stack.enter_context(hanging())
    for number in range(fixture.scale.rounds):
        figures: dict[str, float] = {}
        for name, count in in_turn(number, [("beside them", ENDPOINTS), ("without them", 0)]):
            side = Side(database=fixture.database(organizations=2), url=receiver.url)
            _subscribe(side, silent, count)
            figures[f"{name}, p95 s"] = round(side.measure(fixture.scale.seconds * SECONDS), 3)
            receiver.take_all()
            log(f"  round {number + 1} of {fixture.scale.rounds}: {name}: {figures[f'{name}, p95 s']:.3f} s")
        beside, without = figures["beside them, p95 s"], figures["without them, p95 s"]
        yield Round(values=(beside, beside / without), figures=figures)


def _subscribe(side: Side, silent: str, count: int) -> None:
    with app_context(side.database):
        for number in range(count):
            outboxes.subscribe(f"{silent}/{number}", inn=side.database.inns[1])
        # The last one: it stands behind all the others.
        outboxes.subscribe(side.url, inn=side.database.inns[0])


def _credit(client: FlaskClient, inn: str, number: int) -> None:
    body = credit_body(inn, number)
    headers = {"X-Signature": signing.sign(body, SECRET)}
    answer = client.post(WEBHOOK, data=body, headers=headers, content_type="application/json")
    check(answer.status_code == 200, f"a credit was answered {answer.status_code}")


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)

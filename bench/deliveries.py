"""Deliveries by one worker, and the same requests from a bare loop. One receiver counts both."""

import json
import random
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from standardwebhooks import Webhook

from bench import outboxes, processor
from bench.checks import check
from bench.databases import Database
from bench.in_process import app_context
from bench.load import Reading
from bench.processor import WORKER, Used
from bench.receiver import ReceivedRequest, Receiver
from bench.servers import worker
from config import ROOT

DELIVERIES_A_SECOND = 1_000
"""Number of deliveries for each second of a measurement. The measurement itself may take longer."""

POLL_SECONDS = 0.2
TIMEOUT_SECONDS = 120
SAMPLE = 50


@dataclass(kw_only=True)
class Deliveries:
    """Deliveries by one worker. All of them are due before it starts."""

    database: Database
    receiver: Receiver
    secret: str
    received: list[ReceivedRequest] = field(default_factory=list)
    """The requests of the last measurement."""

    def __call__(self, seconds: int) -> Reading:
        """Queue deliveries, then let a worker send them. Measure from the first received request to the last."""
        count = seconds * DELIVERIES_A_SECOND
        with app_context(self.database):
            outboxes.credit_through_inbox(self.database.inns, count)
        check(outboxes.delivery_counts(self.database).due == count, "not every credit has its delivery")
        with worker(self.database.url) as pid:
            # What it costs to start is not the point.
            self.receiver.wait_for_first()
            with processor.watch({WORKER: pid}) as used:
                before = self.receiver.summary()[0]
                self._wait_until_delivered(count)
            received, seconds_taken = self.receiver.summary()
        self.received = self.receiver.take_all()
        self._check(count)
        return used.by(Reading(answers=received, rate=(received - 1) / seconds_taken), answers=received - before)

    def _wait_until_delivered(self, count: int) -> None:
        deadline = time.monotonic() + TIMEOUT_SECONDS
        # Queries during the measurement would cost time, so the database is asked only after the last request.
        while self.receiver.summary()[0] < count or outboxes.delivery_counts(self.database).due:
            check(time.monotonic() < deadline, f"{self.receiver.summary()[0]} of {count} were delivered")
            time.sleep(POLL_SECONDS)

    def _check(self, count: int) -> None:
        event_ids = {request.headers["webhook-id"] for request in self.received}
        check(len(event_ids) == count, f"{len(event_ids)} of {count} events were received")
        check(outboxes.event_count(self.database, event_ids) == count, "a request was received that is not an event")
        counts = outboxes.delivery_counts(self.database)
        once = counts.deliveries == counts.delivered == counts.attempts
        check(once, f"not every delivery was delivered by one attempt: {counts}")
        for request in random.sample(self.received, min(SAMPLE, count)):
            # Raises when the signature is wrong.
            Webhook(self.secret).verify(request.body, request.headers)


@dataclass(kw_only=True)
class Bare:
    """The same requests, sent by bare.py."""

    deliveries: Deliveries
    file: Path

    def __call__(self, seconds: int) -> Reading:
        """Send as many requests as the worker did, from as many threads."""
        count, receiver = seconds * DELIVERIES_A_SECOND, self.deliveries.receiver
        self.file.write_text(
            json.dumps([(each.headers, each.body.decode("latin-1")) for each in self.deliveries.received])
        )
        command = [sys.executable, "-m", "bench.bare", receiver.url, str(self.file), str(count)]
        ran = subprocess.run(  # noqa: S603 - our own arguments
            command, cwd=ROOT, env={}, capture_output=True, text=True, check=False, timeout=TIMEOUT_SECONDS
        )
        received, seconds_taken = receiver.summary()
        receiver.take_all()
        check(ran.returncode == 0 and received == count, f"{received} of {count} were sent: {ran.stderr[-2000:]}")
        used = Used(seconds={WORKER: float(ran.stdout)})
        return used.by(Reading(answers=received, rate=(received - 1) / seconds_taken))

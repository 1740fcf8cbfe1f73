"""Deliveries by one worker, and the same requests from a bare loop, to one receiver that counts both."""

import json
import random
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from standardwebhooks import Webhook

from bench import outboxes
from bench.databases import Database
from bench.inside import inside
from bench.load import Reading
from bench.receiver import ReceivedRequest, Receiver
from bench.servers import working
from bench.truth import hold
from config import ROOT

DELIVERIES_A_SECOND = 1_000
"""How many are sent for each second that a measurement is asked to take; it takes what it takes."""

LOOK_SECONDS = 0.2
PATIENCE_SECONDS = 120
SAMPLE = 50


@dataclass(kw_only=True)
class Deliveries:
    """What one worker delivers of what was due before it started."""

    database: Database
    receiver: Receiver
    secret: str
    received: list[ReceivedRequest] = field(default_factory=list)
    """What was delivered last."""

    def __call__(self, seconds: int) -> Reading:
        """Have deliveries piled up, and a worker send them; from the first that is received to the last."""
        count = seconds * DELIVERIES_A_SECOND
        with inside(self.database):
            outboxes.credit_through_inbox(self.database.inns, count)
        hold(outboxes.standing(self.database).open == count, "not every credit has its delivery")
        with working(self.database.url):
            self._wait(count)
            received, took = self.receiver.tally()
        self.received = self.receiver.take()
        self._check(count)
        return Reading(answers=received, rate=(received - 1) / took)

    def _wait(self, count: int) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        # Of the database nothing is asked before the last was received.
        while self.receiver.tally()[0] < count or outboxes.standing(self.database).open:
            hold(time.monotonic() < deadline, f"{self.receiver.tally()[0]} of {count} were delivered")
            time.sleep(LOOK_SECONDS)

    def _check(self, count: int) -> None:
        event_ids = {request.headers["webhook-id"] for request in self.received}
        hold(len(event_ids) == count, f"{len(event_ids)} of {count} events were received")
        hold(outboxes.known(self.database, event_ids) == count, "something was received that is no event")
        standing = outboxes.standing(self.database)
        once = standing.deliveries == standing.delivered == standing.attempts
        hold(once, f"not every delivery was delivered by one attempt: {standing}")
        for request in random.sample(self.received, min(SAMPLE, count)):
            # Raises when the signature does not hold.
            Webhook(self.secret).verify(request.body, request.headers)


@dataclass(kw_only=True)
class Bare:
    """The requests that a worker sent last, sent again by bare.py."""

    deliveries: Deliveries
    file: Path

    def __call__(self, seconds: int) -> Reading:
        """Send as many as the worker does in as many seconds, from as many threads."""
        count, receiver = seconds * DELIVERIES_A_SECOND, self.deliveries.receiver
        self.file.write_text(
            json.dumps([(each.headers, each.body.decode("latin-1")) for each in self.deliveries.received])
        )
        command = [sys.executable, "-m", "bench.bare", receiver.url, str(self.file), str(count)]
        ran = subprocess.run(  # noqa: S603 - our own words
            command, cwd=ROOT, env={}, capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS
        )
        received, took = receiver.tally()
        receiver.take()
        hold(ran.returncode == 0 and received == count, f"{received} of {count} were sent: {ran.stderr[-2000:]}")
        return Reading(answers=received, rate=(received - 1) / took)

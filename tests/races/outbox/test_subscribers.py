"""Credits while endpoints come and go: whoever was there has a delivery of each, and nobody has two."""

import itertools
import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from flask import Flask
from sqlalchemy import and_, select

from database.session import look_up
from models import BalanceLog
from outbox import endpoints
from tests.callers import Bank
from tests.factories import make_org
from tests.outboxes import DELIVERIES, open_endpoint, together
from tests.races.outbox.helpers import INNS
from tests.waiting import wait_until


@dataclass
class Presence:
    """When an endpoint may have been there, was there, may have gone, and was gone."""

    id: int
    coming: int
    there: int
    inn: str | None
    leaving: int = 0
    gone: int = 0

    def expects(self, inn: str, begun: int, ended: int) -> int | None:
        """Return how many deliveries a credit must have; None when it may be either way."""
        if self.inn not in (None, inn) or begun > self.gone or ended < self.coming:
            return 0
        return 1 if begun > self.there and ended < self.leaving else None


@dataclass
class Traffic:
    """Banks that pay all the while, and endpoints that come and go: who did what between which two moments."""

    app: Flask
    now: Callable[[], datetime]
    sent: list[tuple[str, str, int, int]] = field(default_factory=list)
    presences: list[Presence] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def send(self) -> None:
        bank, rng = Bank(self.app.test_client()), random.Random()
        while not self.over.is_set():
            inn, begun = rng.choice(INNS), time.monotonic_ns()
            answer = bank.send(operation_id=str(uuid.uuid4()), payer_inn=inn)
            assert (answer.status_code, answer.json["status"]) == (200, "credited")
            self.sent.append((answer.json["payment_id"], inn, begun, time.monotonic_ns()))

    def come_and_go(self, inn: str | None) -> None:
        begun = time.monotonic_ns()
        presence = Presence(open_endpoint(inn=inn), begun, time.monotonic_ns(), inn)
        count = len(self.sent)
        # At least one credit that began when the endpoint was there: those that are under way now may be six.
        wait_until(lambda: any(sent > presence.there and inn in (None, of) for _, of, sent, _ in self.sent[count:]))
        presence.leaving = time.monotonic_ns()
        endpoints.disable(presence.id, now=self.now())
        presence.gone = time.monotonic_ns()
        self.presences.append(presence)

    def visit(self) -> None:
        try:
            for _ in range(12):
                self.come_and_go(None)
                self.come_and_go(INNS[0])
        finally:
            self.over.set()


def test_move_that_was_credited_while_an_endpoint_was_there_has_one_delivery_for_it(app, context, clock, check_ledger):
    for inn in INNS:
        make_org(inn)
    traffic = Traffic(app, clock)

    together(app, *[traffic.send] * 6, traffic.visit)

    same = and_(BalanceLog.organization_id == DELIVERIES.c.organization_id, BalanceLog.version == DELIVERIES.c.version)
    rows = look_up(select(DELIVERIES.c.endpoint_id, BalanceLog.payment_id).join(BalanceLog, same))
    received = Counter((row.endpoint_id, str(row.payment_id)) for row in rows)
    assert set(received.values()) == {1}
    certain = 0
    for presence, (payment_id, inn, begun, ended) in itertools.product(traffic.presences, traffic.sent):
        expected = presence.expects(inn, begun, ended)
        certain += expected == 1
        assert expected in (None, received[presence.id, payment_id])
    assert certain >= len(traffic.presences)
    check_ledger()

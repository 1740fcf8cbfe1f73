"""A dispatcher whose database is slow, or away for a moment."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import event, exc

import limits
from context import cipher, clock
from database.extension import db
from http_client.client import Client
from outbox.dispatcher import Dispatcher
from tests.outboxes import check_attempts, open_endpoint, pay, read_attempts, read_deliveries
from tests.races.outbox.helpers import the_delivery
from tests.waiting import PATIENCE_SECONDS
from worker import jobs


@contextmanager
def listening(moment: str, listener: Callable[..., None]) -> Iterator[None]:
    """Have a listener called whenever the database comes to this moment."""
    event.listen(db.engine, moment, listener)
    try:
        yield
    finally:
        event.remove(db.engine, moment, listener)


class Outage:
    """A database that is away once, right after a commit."""

    def __init__(self) -> None:
        self.is_next = False

    def on_commit(self, _connection: object) -> None:
        self.is_next = True

    def on_statement(self, *_: object) -> None:
        if self.is_next:
            self.is_next = False
            raise exc.OperationalError("", {}, Exception("gone"))


def test_attempt_is_written_down_once_although_giving_back_others_failed(context, receiver):
    """The database goes away between the two: what was settled before must not be settled again."""
    open_endpoint(receiver.url)
    dispatcher, outage = jobs.new_dispatcher(), Outage()
    pay(1)
    # Once it is known to be quick, more is claimed than is sent at once.
    while dispatcher.step() or not dispatcher.is_idle():
        dispatcher.wait(0.1)
    receiver.answer = lambda _: (410, {}, b"gone")
    pay(12)
    claimed = dispatcher.step()
    for _ in range(claimed):
        # Whoever answers 410 is sent no more: the others come back untried, some of them together.
        dispatcher.wait(1)
    with (
        listening("commit", outage.on_commit),
        listening("before_cursor_execute", outage.on_statement),
        pytest.raises(exc.OperationalError),
    ):
        dispatcher.step()
    sent = len(receiver.received) - 1
    attempts_before, leases_before = read_attempts(), [row.lease for row in read_deliveries()]
    dispatcher.close()

    assert sum(lease is not None for lease in leases_before) == claimed - sent > 0
    assert {row.lease for row in read_deliveries()} == {None}
    assert read_attempts() == attempts_before
    assert sum(row.attempt_count for row in read_deliveries()) == sent + 1 == len(receiver.received)
    check_attempts()


@pytest.mark.parametrize(("took", "begun"), [(1, 1), (limits.LEASE_SECONDS - limits.DELIVERY_SECONDS, 0)])
def test_delivery_is_begun_unless_its_lease_could_run_out_meanwhile(context, receiver, took, begun):
    open_endpoint(receiver.url)
    pay(1)
    seconds = 0.0

    def be_slow(_connection: object) -> None:
        nonlocal seconds
        seconds = took

    dispatcher = Dispatcher(cipher(), Client(loopback_allowed=True), clock=clock(), monotonic=lambda: seconds)
    with listening("commit", be_slow):
        assert dispatcher.step() == 1
    dispatcher.wait(PATIENCE_SECONDS)
    dispatcher.close()

    assert len(receiver.received) == begun
    assert (the_delivery().attempt_count, the_delivery().lease) == (begun, None)

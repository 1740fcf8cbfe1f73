"""A dispatcher whose database is slow, or away for a moment."""

from datetime import datetime
from types import SimpleNamespace

import pytest
from sqlalchemy import exc

import limits
from context import cipher
from outbox import claims
from outbox import dispatcher as dispatcher_module
from outbox.delivery import ClaimedDelivery
from tests.factories import START
from tests.outboxes import PATIENCE_SECONDS, came, check_attempts, open_endpoint, pay, read_deliveries
from tests.races.outbox.helpers import the_delivery
from worker import jobs


def test_attempt_is_written_down_once_although_giving_back_others_failed(context, receiver, monkeypatch):
    """The database went away between the two: what was settled before must not be settled again."""
    open_endpoint(receiver.url)
    pay(2)
    release, refusals = claims.release, iter([exc.OperationalError("", {}, Exception("gone"))])

    def release_later(deliveries: list[ClaimedDelivery], *, now: datetime) -> None:
        for refusal in refusals:
            raise refusal
        release(deliveries, now=now)

    monkeypatch.setattr(claims, "release", release_later)
    dispatcher = jobs.new_dispatcher()
    tried, untried = claims.claim(cipher(), capacity=lambda _: 2, now=START)
    dispatcher._unsettled = [(tried, came(200)), (untried, None)]
    with pytest.raises(exc.OperationalError):
        dispatcher._settle()
    dispatcher.close()

    assert [(row.status, row.attempt_count, row.lease) for row in read_deliveries()] == [
        ("delivered", 1, None),
        ("pending", 0, None),
    ]
    check_attempts()


@pytest.mark.parametrize(("took", "begun"), [(1, 1), (limits.LEASE_SECONDS - limits.DELIVERY_SECONDS, 0)])
def test_delivery_is_begun_unless_its_lease_could_run_out_meanwhile(context, receiver, monkeypatch, took, begun):
    open_endpoint(receiver.url)
    pay(1)
    claim, seconds = claims.claim, [0.0]

    def claim_slowly(*args: object, **kwargs: object) -> list[ClaimedDelivery]:
        deliveries = claim(*args, **kwargs)
        seconds[0] += took
        return deliveries

    monkeypatch.setattr(claims, "claim", claim_slowly)
    monkeypatch.setattr(dispatcher_module, "time", SimpleNamespace(monotonic=lambda: seconds[0]))
    dispatcher = jobs.new_dispatcher()
    dispatcher.step()
    dispatcher.wait(PATIENCE_SECONDS)
    dispatcher.close()

    assert len(receiver.received) == begun
    assert (the_delivery().attempt_count, the_delivery().lease) == (begun, None)

"""The jobs of a worker: deliver, credit, replay; each may run any number of times at once, on any machine.

Called by worker.py, by tasks.py and by the CLI, inside the app. Holds no loop that never ends.
"""

import delivery
import outbox
import replays
import services
from context import clock, now, settings, vault
from courier import Courier
from delivery import Attempt
from limits import TICK_SECONDS
from transport import Client


def new_courier() -> Courier:
    """Return a courier for the running app."""
    return Courier(vault(), _client(), clock=clock())


def deliver() -> int:
    """Send whatever is due, until nothing is; return how many deliveries moved on."""
    courier, moved = new_courier(), 0
    try:
        while (step := courier.step()) or not courier.is_idle():
            moved += step
            if not step:
                courier.rest(TICK_SECONDS)
    finally:
        courier.close()
    return moved


def deliver_one(delivery_id: int) -> Attempt | None:
    """Try one delivery now and return what came of it; None when another worker has it or it is not due."""
    parcel = outbox.claim_one(vault(), delivery_id, now=now())
    if parcel is None:
        return None
    client = _client()
    try:
        attempt = delivery.send(client, parcel, clock=clock())
    finally:
        client.close()
    outbox.settle([(parcel, attempt)], now=now())
    return attempt


def credit() -> int:
    """Credit what waits in the inbox, until nothing does; return how many webhooks were taken up."""
    return sum(iter(credit_some, 0))


def replay() -> int:
    """Queue what replays ask for, until they are finished; return how many moves were looked at."""
    return sum(iter(replay_some, 0))


def credit_some() -> int:
    """Credit one batch of the inbox; return how many webhooks were taken up."""
    return services.credit_waiting(unknown_inn=settings().unknown_inn, now=now())


def replay_some() -> int:
    """Queue one batch of a replay; return how many moves were looked at."""
    return replays.continue_oldest(now=now())


def _client() -> Client:
    return Client(loopback_allowed=settings().loopback_endpoints)

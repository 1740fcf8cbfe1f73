"""The jobs of a worker: deliver, credit, replay; each may run any number of times at once, on any machine.

Called by worker.loop, by worker.tasks and by the CLI, inside the app.
"""

import math
import time
from collections.abc import Callable

import services
from context import cipher, clock, now, settings, wall_clock
from database import checks
from http_client.client import Client
from http_client.connection import Withdrawn
from limits import TICK_SECONDS
from outbox import claims, replays, results, stored_secrets
from outbox.channels import webhook
from outbox.delivery import Attempt
from outbox.dispatcher import Dispatcher
from outbox.endpoint_queues import known_scores
from outbox.looks import Looks


def new_dispatcher() -> Dispatcher:
    """Return a dispatcher for the running app."""
    return Dispatcher(cipher(), _client(), clock=clock(), scores=known_scores())


def look_at_start() -> int:
    """Tell a person what is wrong with the database or the keys; return how many endpoints cannot be signed for."""
    checks.report(clock=wall_clock)
    return report_unreadable_secrets()


def report_unreadable_secrets() -> int:
    """Tell a person which endpoints cannot be signed for with these settings, and return how many."""
    return len(stored_secrets.report(cipher(), now=now()))


def deliver(seconds: float = math.inf) -> int:
    """Send what is due, until nothing is or the time is up; return how many steps that took."""
    dispatcher = new_dispatcher()
    try:
        steps = _run_until_idle(lambda: _send_some(dispatcher), seconds)
        dispatcher.drain()
        return steps
    finally:
        dispatcher.close()


def deliver_one(delivery_id: int, client: Client | None = None) -> Attempt | None:
    """Try one delivery now and return what came of it; None when another worker has it or it is not due."""
    delivery = claims.claim_one(cipher(), delivery_id, now=now())
    if delivery is None:
        report_unreadable_secrets()
        return None
    client, looks = client or _client(), Looks()
    try:
        attempt = webhook.send(client, delivery, clock=clock(), is_current=looks.is_current)
    except Withdrawn:
        claims.release([delivery], now=now())
        return None
    finally:
        client.close()
    results.settle([(delivery, attempt)], now=now())
    return attempt


def credit(seconds: float = math.inf) -> int:
    """Credit what waits in the inbox, until nothing does or the time is up; return how many webhooks were taken up."""
    return _run_until_idle(credit_some, seconds)


def replay(seconds: float = math.inf) -> int:
    """Queue what replays ask for, until that is done or the time is up; return how many moves were looked at."""
    return _run_until_idle(replay_some, seconds)


def credit_some() -> int:
    """Credit one batch of the inbox; return how many webhooks were taken up."""
    return services.process_inbox(now=now())


def replay_some() -> int:
    """Queue one batch of a replay; return how many moves were looked at."""
    return replays.continue_oldest(now=now())


def _client() -> Client:
    return Client(
        loopback_allowed=settings().loopback_endpoints,
        https_only=settings().production,
        networks=settings().endpoint_networks,
        ca_bundle=settings().ca_bundle,
        proxy=settings().outbound_proxy_url,
    )


def _send_some(dispatcher: Dispatcher) -> int:
    moved = dispatcher.step()
    if moved or dispatcher.is_idle():
        return moved
    dispatcher.wait(TICK_SECONDS)
    return 1


def _run_until_idle(step: Callable[[], int], seconds: float) -> int:
    """Repeat a step until it finds nothing; under steady load that never comes, hence the limit."""
    ends_at, found = time.monotonic() + seconds, 0
    while time.monotonic() < ends_at and (more := step()):
        found += more
    return found

"""What was claimed before a secret was taken back, or an endpoint was changed, does not go out any more."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import text
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

import limits
from context import cipher, clock
from database.extension import db
from database.session import call_after_commit, shared_transaction, transaction
from enums import DeliveryStatus
from http_client.client import Client
from outbox import endpoints
from outbox.dispatcher import Dispatcher
from tests.factories import START
from tests.outboxes import check_attempts, open_endpoint, pay, read_deliveries
from tests.receivers import Answer, ReceivedRequest, Receiver
from tests.waiting import wait_until
from worker import jobs

CLAIMED = limits.CLAIM_ROUNDS * limits.ENDPOINT_SENDERS_MAX


class Gate:
    """What a sender is held up at until the test lets it on: a name that is being resolved, or an answer."""

    def __init__(self) -> None:
        self.waiting = 0
        self.closed = False
        self._open = threading.Event()
        self._lock = threading.Lock()

    def resolve(self, host: str, port: int) -> list[str]:
        self.pass_through()
        return ["127.0.0.1"]

    def answer(self, _request: ReceivedRequest) -> Answer:
        self.pass_through()
        return 200, {}, b"ok"

    def pass_through(self) -> None:
        if self.closed:
            with self._lock:
                self.waiting += 1
            self._open.wait()

    def open(self) -> None:
        self.closed = False
        self._open.set()


class Seconds:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open()


@pytest.fixture
def endpoint_id(context, receiver) -> int:
    return open_endpoint(receiver.url.replace("127.0.0.1", "localhost"))


@pytest.fixture
def seconds() -> Seconds:
    return Seconds()


@pytest.fixture
def dispatcher(context, gate, endpoint_id, seconds) -> Iterator[Dispatcher]:
    client = Client(loopback_allowed=True, resolve=gate.resolve, idle_connections_max=0)
    dispatcher = Dispatcher(cipher(), client, clock=clock(), monotonic=seconds)
    yield dispatcher
    gate.open()
    dispatcher.close()


def finish(dispatcher: Dispatcher) -> None:
    """Let a dispatcher work until it has nothing more to do."""

    def is_done() -> bool:
        return not dispatcher.step() and dispatcher.is_idle()

    wait_until(is_done)


def claim_many(dispatcher: Dispatcher, gate: Gate) -> None:
    """Have a quick endpoint's deliveries claimed: as many as it has senders are held up, the rest waits in memory."""
    pay(1)
    finish(dispatcher)
    gate.closed = True
    pay(CLAIMED)
    dispatcher.step()
    wait_until(lambda: gate.waiting == limits.ENDPOINT_SENDERS_MAX, lambda: gate.waiting)


def disable(endpoint_id: int) -> None:
    endpoints.disable(endpoint_id, now=START)


def delete(endpoint_id: int) -> None:
    endpoints.remove(endpoint_id, now=START)


def rotate(endpoint_id: int) -> None:
    endpoints.rotate(cipher(), endpoint_id, overlap_seconds=0, now=START)


@pytest.mark.parametrize("revoke", [disable, delete, rotate])
def test_nothing_goes_out_after_the_secret_was_taken_back(dispatcher, gate, endpoint_id, receiver, seconds, revoke):
    """Held up between the claim and the first byte: the name of the host is being resolved."""
    claim_many(dispatcher, gate)
    revoke(endpoint_id)
    seconds.now += 2 * limits.LOOK_SECONDS
    gate.open()
    finish(dispatcher)

    if revoke is rotate:
        assert {row.status for row in read_deliveries()} == {DeliveryStatus.DELIVERED}
        assert len({request.headers["webhook-signature"] for request in receiver.received}) == CLAIMED + 1
    else:
        assert len(receiver.received) == 1
        statuses = sorted(row.status for row in read_deliveries())
        assert statuses == [DeliveryStatus.DELIVERED] + [DeliveryStatus.PAUSED] * CLAIMED
    assert {row.lease for row in read_deliveries()} == {None}
    assert sum(row.attempt_count for row in read_deliveries()) == len(receiver.received)
    check_attempts()


def test_what_goes_out_after_a_rotation_is_signed_with_the_new_secret(
    dispatcher, gate, endpoint_id, receiver, clock, seconds
):
    clock.moment = datetime.now(UTC)
    claim_many(dispatcher, gate)
    old_count = len(receiver.received)
    revealed = endpoints.rotate(cipher(), endpoint_id, overlap_seconds=0, now=clock())
    seconds.now += 2 * limits.LOOK_SECONDS
    gate.open()
    finish(dispatcher)

    late = receiver.received[old_count:]
    assert len(late) == CLAIMED
    for request in late:
        Webhook(revealed.secret).verify(request.body, request.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(revealed.secret).verify(receiver.received[0].body, receiver.received[0].headers)


@pytest.mark.parametrize("revoke", [disable, delete])
def test_what_waits_behind_a_slow_answer_does_not_go_out(dispatcher, gate, endpoint_id, receiver, seconds, revoke):
    held = Gate()
    pay(1)
    finish(dispatcher)
    receiver.answer, held.closed = held.answer, True
    pay(CLAIMED)
    dispatcher.step()
    wait_until(lambda: held.waiting == limits.ENDPOINT_SENDERS_MAX)
    revoke(endpoint_id)
    seconds.now += 2 * limits.LOOK_SECONDS
    held.open()
    finish(dispatcher)

    assert len(receiver.received) == 1 + limits.ENDPOINT_SENDERS_MAX


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE endpoints SET url = '{other}'",
        "UPDATE endpoints SET scheme = 'x-signature'",
        "UPDATE endpoints SET url = '{other}', scheme = 'acquiremock'",
    ],
)
def test_what_was_claimed_goes_where_and_how_the_table_says_when_it_is_sent(
    dispatcher, gate, endpoint_id, receiver, seconds, change
):
    with Receiver() as other:
        claim_many(dispatcher, gate)
        with db.engine.begin() as connection:
            connection.execute(text(change.format(other=other.url)))
        seconds.now += 2 * limits.LOOK_SECONDS
        gate.open()
        finish(dispatcher)

        late = (other if "other" in change else receiver).received[-CLAIMED:]
        assert len(receiver.received) + len(other.received) == CLAIMED + 1
        assert len(late) == CLAIMED
        assert all(("x-signature" in request.headers) == ("scheme" in change) for request in late)


def test_rotation_with_an_overlap_leaves_what_is_under_way_alone(dispatcher, gate, endpoint_id, receiver, seconds):
    """Both secrets are good: what was claimed is signed anew with both."""
    claim_many(dispatcher, gate)
    endpoints.rotate(cipher(), endpoint_id, overlap_seconds=60, now=START)
    seconds.now += 2 * limits.LOOK_SECONDS
    gate.open()
    finish(dispatcher)

    assert len(receiver.received) == CLAIMED + 1
    assert {row.attempt_count for row in read_deliveries()} == {1}


def test_ping_from_the_shell_looks_again_too(context, endpoint_id, receiver, gate):
    delivery_id = endpoints.ping(endpoint_id, now=START)
    client = Client(loopback_allowed=True, resolve=gate.resolve)
    gate.closed = True
    result = []

    def ping() -> None:
        with context.app_context():
            result.append(jobs.deliver_one(delivery_id, client))

    thread = threading.Thread(target=ping)
    thread.start()
    wait_until(lambda: gate.waiting == 1)
    disable(endpoint_id)
    gate.open()
    thread.join()

    assert (result, receiver.received) == ([None], [])
    assert {row.lease for row in read_deliveries()} == {None}


@contextmanager
def looks_counted() -> Iterator[list[str]]:
    """Give the queries by which senders look at an endpoint again; a claim reads its organisation, too."""
    queries: list[str] = []

    def note(*args: Any) -> None:
        if "endpoints.secrets" in args[2] and "endpoints.organization_id" not in args[2]:
            queries.append(args[2])

    db.event.listen(db.engine, "before_cursor_execute", note)
    try:
        yield queries
    finally:
        db.event.remove(db.engine, "before_cursor_execute", note)


def test_many_sends_share_one_look(dispatcher, gate, endpoint_id, receiver, seconds):
    """What the claim has seen is too old for all of them: one sender looks, and the others go by what it sees."""
    with looks_counted() as queries:
        claim_many(dispatcher, gate)
        assert len(queries) == 0
        seconds.now += 2 * limits.LOOK_SECONDS
        gate.open()
        finish(dispatcher)

    assert len(receiver.received) == CLAIMED + 1
    assert len(queries) == 1


def test_sends_right_after_a_claim_need_no_look(dispatcher, endpoint_id, receiver):
    """The claim has just read the endpoint."""
    with looks_counted() as queries:
        pay(100)
        finish(dispatcher)

    assert len(receiver.received) == 100
    assert queries == []


def test_wait_for_workers_begins_after_the_commit_also_of_a_shared_transaction(context, endpoint_id):
    """Several use cases may share one; before its commit a worker would still see the old secret."""
    seen = []

    def look() -> None:
        with db.engine.connect() as connection:
            seen.append(connection.scalar(text("SELECT disabled_because FROM endpoints")))

    with shared_transaction() as session:
        disable(endpoint_id)
        call_after_commit(session, look)
        assert seen == []

    def fail() -> None:
        with transaction() as session:
            call_after_commit(session, look)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()

    assert seen == ["manual"]

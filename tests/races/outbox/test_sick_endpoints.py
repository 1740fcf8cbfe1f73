"""Endpoints that hang, and those that do not: the sick share a part of the senders, and never starve."""

from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import update

from context import cipher, clock
from database.session import transaction
from http_client.client import Client
from limits import DELIVERY_SECONDS, QUICK_SECONDS, SENDERS_MAX, SICK_SENDERS_MAX, UNPROVEN_SENDERS_MAX
from models import Endpoint
from outbox.dispatcher import Dispatcher
from tests.factories import INN, OTHER_INN, START, make_org
from tests.outboxes import open_endpoint, pay, read_deliveries, together
from tests.receivers import HangingReceiver, Receiver
from tests.waiting import wait_until

QUICK_SENDERS_MAX = SENDERS_MAX - UNPROVEN_SENDERS_MAX


class Seconds:
    """A dispatcher's own time, which stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def hanging() -> Iterator[HangingReceiver]:
    with HangingReceiver() as receiver:
        yield receiver


@pytest.fixture
def seconds() -> Seconds:
    return Seconds()


@pytest.fixture
def new_dispatcher(context, hanging, seconds) -> Iterator[Callable[[], Dispatcher]]:
    made = []

    def new() -> Dispatcher:
        made.append(Dispatcher(cipher(), Client(loopback_allowed=True), clock=clock(), monotonic=seconds))
        return made[-1]

    yield new
    hanging.let_go()
    for dispatcher in made:
        dispatcher.close()


def step_until(dispatcher: Dispatcher, condition: Callable[[], object]) -> None:
    """Let a dispatcher work until something has come true."""

    def step() -> object:
        dispatcher.step()
        return condition()

    wait_until(step, lambda: f"{Counter(row.status for row in read_deliveries())}")


def work(dispatcher: Dispatcher) -> None:
    """Let a dispatcher claim all that it wants to claim now."""
    while dispatcher.step():
        pass


def prove(dispatcher: Dispatcher, receiver: Receiver, inn: str = OTHER_INN) -> None:
    """Have an endpoint for one organisation show that it is quick."""
    make_org(inn)
    open_endpoint(receiver.url, inn=inn)
    pay(1, inn=inn)
    step_until(dispatcher, lambda: len(receiver.received) == 1 and dispatcher.is_idle())


def open_many(hanging: HangingReceiver, count: int, *, failing: bool = False) -> None:
    """Register endpoints that hang, and have one thing to tell each of them."""
    make_org(INN)
    for number in range(count):
        open_endpoint(hanging.url(number), inn=INN)
    if failing:
        with transaction() as session:
            session.execute(update(Endpoint).where(Endpoint.url.like("%/%")).values(failing_since=START))
    pay(1, inn=INN)


def test_unproven_endpoints_that_hang_leave_the_quick_one_its_senders(new_dispatcher, hanging, receiver):
    dispatcher = new_dispatcher()
    prove(dispatcher, receiver)
    open_many(hanging, UNPROVEN_SENDERS_MAX + 20)

    work(dispatcher)
    wait_until(lambda: len(hanging.paths) == UNPROVEN_SENDERS_MAX, lambda: len(hanging.paths))
    pay(30, inn=OTHER_INN)
    step_until(dispatcher, lambda: len(receiver.received) == 31)

    assert len(hanging.paths) == UNPROVEN_SENDERS_MAX


def test_after_a_restart_those_that_fail_leave_room_for_those_that_are_not_known(new_dispatcher, hanging, receiver):
    """A worker that has just begun knows of an endpoint only what the table says."""
    open_many(hanging, SICK_SENDERS_MAX + 20, failing=True)
    dispatcher = new_dispatcher()

    work(dispatcher)
    wait_until(lambda: len(hanging.paths) == SICK_SENDERS_MAX, lambda: len(hanging.paths))
    make_org(OTHER_INN)
    open_endpoint(receiver.url, inn=OTHER_INN)
    pay(30, inn=OTHER_INN)
    step_until(dispatcher, lambda: len(receiver.received) == 30)

    assert len(hanging.paths) == SICK_SENDERS_MAX


def test_endpoint_that_hangs_is_sick_before_its_attempt_has_ended(new_dispatcher, hanging, receiver, seconds):
    """Those that were begun as unproven leave the part of the unproven when they have not answered quickly."""
    open_many(hanging, SICK_SENDERS_MAX)
    dispatcher = new_dispatcher()
    work(dispatcher)
    wait_until(lambda: len(hanging.paths) == SICK_SENDERS_MAX, lambda: len(hanging.paths))
    open_endpoint(hanging.url("unproven"), inn=INN)
    open_endpoint(hanging.url("sick"), inn=INN)
    with transaction() as session:
        session.execute(update(Endpoint).where(Endpoint.url.endswith("/sick")).values(failing_since=START))
    pay(1, inn=INN)
    seconds.now += 2 * QUICK_SECONDS

    work(dispatcher)
    wait_until(lambda: len(hanging.paths) > SICK_SENDERS_MAX, lambda: len(hanging.paths))

    assert hanging.paths[SICK_SENDERS_MAX:] == ["unproven"]


@pytest.mark.parametrize("failing", [False, True])
def test_each_that_hangs_has_its_attempt_before_any_has_a_second(new_dispatcher, hanging, failing):
    count = UNPROVEN_SENDERS_MAX + 20
    open_many(hanging, count, failing=failing)
    pay(1, inn=INN)
    dispatcher = new_dispatcher()

    def step() -> bool:
        hanging.let_go()
        return len(hanging.paths) >= count

    step_until(dispatcher, step)

    assert len(set(hanging.paths[:count])) == count


def test_long_backlog_of_the_sick_does_not_grow_their_part(new_dispatcher, hanging, receiver):
    """Nothing is claimed for them that no sender takes at once: its lease would run out."""
    open_many(hanging, 5)
    pay(50, inn=INN)
    dispatcher = new_dispatcher()

    work(dispatcher)
    wait_until(lambda: len(hanging.paths) == 5, lambda: len(hanging.paths))

    assert sum(row.lease is not None for row in read_deliveries()) == 5


def test_many_new_endpoints_that_are_well_are_all_served_beside_those_that_hang(new_dispatcher, hanging, receiver):
    open_many(hanging, SICK_SENDERS_MAX, failing=True)
    dispatcher = new_dispatcher()
    work(dispatcher)
    make_org(OTHER_INN)
    for number in range(UNPROVEN_SENDERS_MAX - SICK_SENDERS_MAX + 50):
        open_endpoint(f"{receiver.url}/{number}", inn=OTHER_INN)
    pay(2, inn=OTHER_INN)

    expected = 2 * (UNPROVEN_SENDERS_MAX - SICK_SENDERS_MAX + 50)
    step_until(dispatcher, lambda: len(receiver.received) == expected)

    assert len(hanging.paths) == SICK_SENDERS_MAX


def test_drain_serves_the_quick_while_it_waits_for_those_that_hang(new_dispatcher, hanging, receiver, context, seconds):
    """The end of a Celery task: others have their turn, and events must not wait for the hanging ones."""
    dispatcher = new_dispatcher()
    prove(dispatcher, receiver)
    open_many(hanging, 3)
    work(dispatcher)
    wait_until(lambda: len(hanging.paths) == 3)
    seconds.now += 2 * QUICK_SECONDS
    pay(1, inn=INN)
    pay(5, inn=OTHER_INN)

    def watch() -> None:
        wait_until(lambda: len(receiver.received) == 6)
        hanging.let_go()

    together(context, dispatcher.drain, watch)

    assert len(hanging.paths) == 3


def test_drain_takes_up_nothing_new_when_it_could_not_wait_for_it(new_dispatcher, hanging, context, seconds):
    dispatcher = new_dispatcher()
    open_many(hanging, 1)
    work(dispatcher)
    wait_until(lambda: len(hanging.paths) == 1)
    dispatcher._drained_from = seconds.now
    seconds.now += DELIVERY_SECONDS + QUICK_SECONDS
    make_org(OTHER_INN)
    open_endpoint(hanging.url("late"), inn=OTHER_INN)
    pay(1, inn=OTHER_INN)

    work(dispatcher)

    assert sum(row.lease is not None for row in read_deliveries()) == 1

"""Many workers serve an ordered endpoint that fails at random: no move comes before the one before it."""

import json
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

from tests.factories import make_org
from tests.outboxes import check_attempts, count_leased, next_due, open_endpoint, pay, read_deliveries, together
from tests.races.outbox.helpers import INNS
from tests.receivers import Answer, ReceivedRequest, Receiver
from tests.waiting import wait_until
from worker import jobs


@dataclass
class UnreliableReceiver:
    """A receiver that fails at random and notes what it has taken, and what came too early."""

    failures: Counter[str] = field(default_factory=Counter)
    taken: dict[str, set[int]] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, request: ReceivedRequest) -> Answer:
        body = json.loads(request.body)
        inn, version = body["data"]["organization"], body["data"]["version"]
        with self.lock:
            taken = self.taken.setdefault(inn, set())
            if version > 1 and version - 1 not in taken:
                self.findings.append(f"{inn}: {version} came before {version - 1} was taken")
            if random.random() < 0.3 and self.failures[body["id"]] < 3:
                self.failures[body["id"]] += 1
                return 500, {}, b"not now"
        # Slower than the dispatchers look, so that they meet what is under way.
        time.sleep(random.uniform(0, 0.02))
        with self.lock:
            taken.add(version)
        return 200, {}, b"ok"


def test_ordered_endpoint_hears_of_a_move_only_after_it_has_taken_the_one_before(app, context, clock):
    unreliable = UnreliableReceiver()
    events_each = 12
    for inn in INNS:
        make_org(inn)
    with Receiver(unreliable.answer) as receiver:
        open_endpoint(receiver.url, ordered=True)
        for inn in random.sample(INNS, 3) * events_each:
            pay(1, inn=inn)
        over = threading.Event()

        def run_dispatcher() -> None:
            dispatcher = jobs.new_dispatcher()
            try:
                while not over.is_set():
                    if not dispatcher.step():
                        dispatcher.wait(0.01)
            finally:
                dispatcher.close()

        def move_clock() -> None:
            def moved_to_the_end() -> bool:
                due_at = next_due()
                if due_at is not None and due_at > clock() and not count_leased():
                    clock.moment = due_at
                return due_at is None

            try:
                wait_until(moved_to_the_end, why=read_deliveries)
            finally:
                over.set()

        together(app, *[run_dispatcher] * 4, move_clock)

    assert unreliable.findings == []
    assert unreliable.taken == {inn: set(range(1, events_each + 1)) for inn in INNS}
    assert {row.status for row in read_deliveries()} == {"delivered"}
    assert sum(unreliable.failures.values()) > 0
    check_attempts()
    # Exactly once, because nobody vanished: one request for each failure and one more.
    assert len(receiver.received) == 3 * events_each + sum(unreliable.failures.values())

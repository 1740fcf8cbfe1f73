"""A bank that pays through outages: it repeats one operation until it hears a 2xx, and keeps books of its own.

It is not polite: it pauses briefly whatever Retry-After says, hangs up before the answer, does not listen to it,
sends again what was settled long ago, and gives some operations up.
"""

import http.client
import json
import random
import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import signing
from tests.callers import WEBHOOK
from tests.factories import SECRET, make_body

PAYERS = 12
ANSWER_SECONDS = 30
PATIENCE_SECONDS = 120
"""How long everything sent may take to be acknowledged once the trouble is over, before the test gives up."""

BUSY_INN = "7707083893"
OTHER_INNS = ("7736050003", "1234567894", "2312000000", "500100732259", "123456789047")
SHARES = {"busy": 50, "other": 46, "new": 4}
"""Of a hundred operations, how many are for the busy organisation, for another, and for one that nobody knows yet."""

HABITS = {"listen": 78, "hang up": 10, "not listen": 10, "give up": 2}
"""What the bank does with the first answer to an operation, of a hundred."""

REPEAT_SHARE = 0.1
RECENT = 30
"""Repeats are of the newest operations, so that some meet the original while it is under way."""


@dataclass
class Operation:
    """What the bank knows about one payment."""

    id: str
    inn: str
    amount: int
    body: bytes
    sent: int = 0
    acknowledged: bool = False
    credited: int = 0
    payment_id: str | None = None


@dataclass
class Books:
    """The ledger outside: what was sent, what was acknowledged, and every answer that should not have been."""

    operations: dict[str, Operation] = field(default_factory=dict)
    newest: deque[Operation] = field(default_factory=lambda: deque(maxlen=RECENT))
    counts: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def open(self) -> Operation:
        """Write down a new operation before it is sent."""
        kind = random.choices(list(SHARES), SHARES.values())[0]
        inns = {"busy": BUSY_INN, "other": random.choice(OTHER_INNS), "new": f"{random.randrange(10**12):012}"}
        id_, amount = str(uuid.uuid4()), random.randint(1, 10**6)
        body = make_body(operation_id=id_, amount=amount, payer_inn=inns[kind])
        operation = Operation(id=id_, inn=inns[kind], amount=amount, body=body)
        with self.lock:
            self.operations[id_] = operation
            self.newest.append(operation)
            self.counts["operations"] += 1
        return operation

    def recent(self) -> Operation:
        """Choose one of the newest operations to send once more."""
        with self.lock:
            return random.choice(self.newest)

    def send(self, operation: Operation) -> None:
        """Count a sending, before anybody can have answered it."""
        with self.lock:
            self.counts["repeats"] += operation.sent > 0
            operation.sent += 1

    def fail(self) -> None:
        """Count a connection that brought no answer."""
        with self.lock:
            self.counts["connection errors"] += 1

    def record_answer(self, operation: Operation, status: int, headers: Mapping[str, str], body: bytes) -> bool:
        """Write down an answer and check it; return whether it acknowledges the operation."""
        with self.lock:
            if status == 503:
                self.counts["refusals"] += 1
                problem = _problem_with_refusal(headers, body)
            elif status == 200:
                problem = self._problem_with_acknowledgement(operation, body)
            else:
                problem = "is neither a 2xx nor a 503"
            if problem:
                self.findings.append(f"operation {operation.id}: {problem}: {status} {body[:300]!r}")
            return status == 200

    def _problem_with_acknowledgement(self, operation: Operation, body: bytes) -> str | None:
        answer = json.loads(body)
        self.counts["acknowledged"] += not operation.acknowledged
        operation.acknowledged = True
        operation.credited += answer["status"] == "credited"
        known, operation.payment_id = operation.payment_id, answer["payment_id"]
        if answer["operation_id"] != operation.id:
            return "the answer is about another operation"
        if answer["status"] not in ("credited", "duplicate"):
            return "it was sent with one meaning, and understood with another"
        if operation.credited > 1:
            return "it was credited twice"
        if known not in (None, operation.payment_id) or operation.payment_id is None:
            return f"it became payment {known} before"
        return None


def _problem_with_refusal(headers: Mapping[str, str], body: bytes) -> str | None:
    kind = headers.get("Content-Type")
    if kind != "application/problem+json" or not headers.get("Retry-After", "").isdigit():
        return f"the refusal is {kind} and says to come back after {headers.get('Retry-After')}"
    problem = json.loads(body)["type"]
    return None if problem.startswith("urn:kopeck:problem:") else f"the refusal is called {problem}"


class Bank:
    """Payers that go on until they are told to stop, and then finish what they have begun."""

    def __init__(self, books: Books, port: int) -> None:
        self.books = books
        self.port = port
        self.stopped = threading.Event()

    @contextmanager
    def paying(self) -> Iterator[None]:
        """Pay while the caller does what it wants to; return when everything begun is acknowledged or given up."""
        self.stopped.clear()
        self.deadline = float("inf")
        payers = [threading.Thread(target=self._pay_on, name=f"payer {number}") for number in range(PAYERS)]
        for payer in payers:
            payer.start()
        try:
            yield
        except BaseException:
            self.deadline = 0
            raise
        finally:
            self.deadline = min(self.deadline, time.monotonic() + PATIENCE_SECONDS)
            self.stopped.set()
            for payer in payers:
                payer.join()

    def wait_for(self, count: str, more: int) -> None:
        """Wait until so many more of something have been counted, or until something was wrong."""
        goal = self.books.counts[count] + more
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.books.counts[count] < goal and not self.books.findings:
            if time.monotonic() > deadline:
                raise AssertionError(f"waited for {more} more {count} in vain: {dict(self.books.counts)}")
            time.sleep(0.02)

    def troubles(self) -> int:
        """Return how often the bank was refused or got no answer so far."""
        return self.books.counts["refusals"] + self.books.counts["connection errors"]

    def _pay_on(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_SECONDS)
        try:
            while not self.stopped.is_set():
                self._pay(connection, self.books.open(), random.choices(list(HABITS), HABITS.values())[0])
                if random.random() < REPEAT_SHARE:
                    self._pay(connection, self.books.recent(), "listen")
        except BaseException as error:
            self.books.findings.append(f"a payer crashed: {error!r}")
            raise
        finally:
            connection.close()

    def _pay(self, connection: http.client.HTTPConnection, operation: Operation, habit: str) -> None:
        if habit in ("hang up", "give up"):
            self._send(connection, operation, leave=True)
            if habit == "give up":
                return
        while not self._send(connection, operation):
            if time.monotonic() > self.deadline:
                self.books.findings.append(f"operation {operation.id}: never acknowledged")
                return
            time.sleep(random.uniform(0.02, 0.2))
        if habit == "not listen":
            self._pay(connection, operation, "listen")

    def _send(self, connection: http.client.HTTPConnection, operation: Operation, *, leave: bool = False) -> bool:
        headers = {"Content-Type": "application/json", "X-Signature": signing.sign(operation.body, SECRET)}
        self.books.send(operation)
        try:
            connection.request("POST", WEBHOOK, operation.body, headers)
            if leave:
                connection.close()
                return False
            response = connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException):
            self.books.fail()
            connection.close()
            return False
        return self.books.record_answer(operation, response.status, response.headers, body)

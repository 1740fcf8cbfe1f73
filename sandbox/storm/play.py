"""Plays a plan over many connections, repeats what is not acknowledged, and records all answers."""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import signing
from sandbox.storm.connection import BankConnection, Reply
from sandbox.storm.plan import Expect, Manner, Plan, Signed, Step

CONNECTIONS = 16
PATIENCE_SECONDS = 30.0
ATTEMPTS_AT_REFUSALS = 5
"""How often a request that must be refused is sent if the answer is a 5xx or missing."""

PAUSE_SECONDS, PAUSE_SECONDS_MAX = 0.05, 1.0
RETRY_STATUSES = (408, 425, 429)

SHIFTED_SECONDS = {Signed.STALE: -3600, Signed.EARLY: 3600}
"""Standard Webhooks signatures of another time. They need a secret that is base64, as that scheme defines it."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One answer of the shop: to which step, whether copies were in flight or had come before, and when."""

    step: int
    reply: Reply | None
    is_concurrent: bool = False
    is_repeat: bool = False
    seconds: float = 0.0


@dataclass
class Record:
    """What the bank knows about one operation; `outcomes` counts the statuses that the shop named."""

    sent: int = 0
    in_flight: int = 0
    batches: int = 0
    unanswered: int = 0
    acknowledged: bool = False
    acknowledged_as: int = 0
    refused: int | None = None
    outcomes: Counter[str] = field(default_factory=Counter)
    settled: threading.Event = field(default_factory=threading.Event)


@dataclass
class Results:
    """The requests and answers: by operation, by step, and as counts.

    `replies` holds the last reply to each copy, and nothing of a step that was left out; `answers` holds all of them.
    """

    operations: list[Record]
    replies: dict[int, list[Reply | None]] = field(default_factory=dict)
    answers: list[Answer] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    ended_early: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def record_sent(self, step: Step, copies: int) -> "Batch":
        """Count requests before they can be answered."""
        with self.lock:
            self.counts["sent"] += copies
            if step.operation is None or step.claim is not None:
                return Batch()
            record = self.operations[step.operation]
            batch = Batch(
                # The shop may still be busy with a request whose answer nobody waits for.
                is_concurrent=copies > 1 or record.in_flight > 0 or record.unanswered > 0,
                is_repeat=record.sent > 0,
                number=record.batches + 1,
            )
            record.sent += copies
            record.in_flight += copies
            record.batches += 1
            return batch

    def record_replies(self, number: int, step: Step, replies: list[Reply | None], batch: "Batch") -> None:
        """Record the answers to the copies of a request; None where there was none."""
        seconds = time.monotonic() - batch.started_at
        with self.lock:
            is_concurrent = batch.is_concurrent
            if step.operation is not None and step.claim is None:
                record = self.operations[step.operation]
                record.in_flight -= len(replies)
                is_concurrent |= record.batches > batch.number
                record.unanswered = 0
            for reply in replies:
                self._record_reply(step, reply)
                self.answers.append(
                    Answer(
                        step=number,
                        reply=reply,
                        is_concurrent=is_concurrent,
                        is_repeat=batch.is_repeat,
                        seconds=seconds,
                    )
                )

    def record_abandoned(self, step: Step, *, is_whole: bool) -> None:
        """Record that a request was sent and its answer not awaited."""
        with self.lock:
            if step.operation is not None:
                record = self.operations[step.operation]
                record.in_flight -= 1
                record.unanswered += is_whole

    def record_step(self, number: int, step: Step, replies: list[Reply | None] | None) -> None:
        """Record the end of a step; without replies it was left out."""
        with self.lock:
            self.counts["steps"] += 1
            if replies is None:
                self.counts["left out"] += 1
                self.left_out[step.kind] += 1
            else:
                self.replies[number] = replies
                self.counts[step.kind] += 1

    def _record_reply(self, step: Step, reply: Reply | None) -> None:
        self.counts[f"{reply.status // 100}xx" if reply else "no answer"] += 1
        if reply is None or step.operation is None or step.claim is not None:
            return
        record = self.operations[step.operation]
        if reply.outcome:
            record.outcomes[reply.outcome] += reply.is_ack
        if step.expect == Expect.ACKNOWLEDGED:
            if reply.is_ack and not record.acknowledged:
                record.acknowledged, record.acknowledged_as = True, len(self.answers) + 1
            if 400 <= reply.status < 500 and reply.status not in RETRY_STATUSES:
                record.refused = reply.status


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Copies of one request that were sent at the same moment."""

    is_concurrent: bool = False
    is_repeat: bool = False
    number: int = 0
    started_at: float = field(default_factory=time.monotonic)


class Play:
    """One run of a plan; progress() may be called from other threads."""

    def __init__(
        self,
        plan: Plan,
        *,
        url: str,
        secret: str | None,
        connections: int = CONNECTIONS,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        self.plan = plan
        self.results = Results([Record() for _ in plan.operations])
        self._url = url
        self._secret = secret
        self._connections = connections
        self._patience = patience
        self._todo = iter(enumerate(plan.steps))
        self._stopped = threading.Event()
        self._problems: list[BaseException] = []

    def run(self, on_step: Callable[[int], None] = lambda _: None) -> Results:
        """Play the whole day; `on_step` is called from this thread with the number of new steps."""
        threads = [threading.Thread(target=self._work, daemon=True) for _ in range(self._connections)]
        for thread in threads:
            thread.start()
        reported = 0
        try:
            for thread in threads:
                while thread.is_alive():
                    thread.join(0.1)
                    done = self.results.counts["steps"]
                    on_step(done - reported)
                    reported = done
            on_step(self.results.counts["steps"] - reported)
        finally:
            self._stopped.set()
        if self._problems:
            raise self._problems[0]
        return self.results

    def stop(self) -> None:
        """Start no further step."""
        self.results.ended_early = True
        self._stopped.set()

    def progress(self) -> Mapping[str, int]:
        """Return the current counts."""
        with self.results.lock:
            return dict(self.results.counts)

    def _work(self) -> None:
        connections: list[BankConnection] = []
        try:
            while not self._stopped.is_set():
                with self.results.lock:
                    number, step = next(self._todo, (None, None))
                if number is None or step is None:
                    return
                self._run_step(number, step, connections)
        except BaseException as problem:
            self._problems.append(problem)
            self._stopped.set()
            raise
        finally:
            for connection in connections:
                connection.close()

    def _run_step(self, number: int, step: Step, connections: list[BankConnection]) -> None:
        replies: list[Reply | None] | None = None
        try:
            if self._must_send(step):
                connections.extend(BankConnection(self._url) for _ in range(step.copies - len(connections)))
                replies = self._send(number, step, connections)
        finally:
            if step.expect == Expect.ACKNOWLEDGED and step.operation is not None:
                self.results.operations[step.operation].settled.set()
            self.results.record_step(number, step, replies)

    def _must_send(self, step: Step) -> bool:
        if not self._can_sign(step):
            return False
        if step.after is not None:
            record = self.results.operations[step.after]
            while not record.settled.wait(0.1):
                if self._stopped.is_set():
                    return False
            # While money is held, its id is not used: the shop may believe another step with a known payer.
            return record.acknowledged and not (step.claim and record.outcomes["held"])
        return True

    def _can_sign(self, step: Step) -> bool:
        if self._secret is None:
            return step.signed == Signed.RIGHTLY
        return step.signed not in SHIFTED_SECONDS or _is_standard_secret(self._secret)

    def _send(self, number: int, step: Step, connections: list[BankConnection]) -> list[Reply | None]:
        if step.manner != Manner.SLOW:
            self._stopped.wait(step.pause_ms / 1000)
        if step.expect == Expect.NOTHING:
            self._abandon(step, connections[0])
            return []
        replies = self._send_copies(number, step, connections[: step.copies])
        return [self._until_settled(number, step, reply, connections[0]) for reply in replies]

    def _send_copies(self, number: int, step: Step, connections: list[BankConnection]) -> list[Reply | None]:
        """Send each copy on its own connection; the last bytes are sent at the same moment."""
        headers = self._headers(step)
        batch = self.results.record_sent(step, len(connections))
        for connection in connections:
            connection.begin(step.body, headers, held_back=len(step.body) // 2 if step.manner == Manner.SLOW else 1)
        if step.manner == Manner.SLOW:
            self._stopped.wait(step.pause_ms / 1000)
        for connection in connections:
            connection.finish()
        replies = [connection.answer() for connection in connections]
        self.results.record_replies(number, step, replies, batch)
        return replies

    def _abandon(self, step: Step, connection: BankConnection) -> None:
        """Close the connection before the answer, or within the body."""
        self.results.record_sent(step, 1)
        connection.begin(step.body, self._headers(step), held_back=len(step.body) // 2)
        if step.manner != Manner.CUT:
            connection.finish()
        connection.close(reset=step.manner == Manner.RESET)
        self.results.record_abandoned(step, is_whole=step.manner != Manner.CUT)

    def _until_settled(self, number: int, step: Step, reply: Reply | None, connection: BankConnection) -> Reply | None:
        """Repeat until a 2xx; a step that must be refused is repeated only a few times."""
        deadline, pause, attempts = time.monotonic() + self._patience, PAUSE_SECONDS, 1
        while _must_repeat(reply) and time.monotonic() < deadline and not self._stopped.is_set():
            if step.expect != Expect.ACKNOWLEDGED and attempts == ATTEMPTS_AT_REFUSALS:
                break
            with self.results.lock:
                self.results.counts["repeated"] += 1
            self._stopped.wait(pause)
            pause, attempts = min(2 * pause, PAUSE_SECONDS_MAX), attempts + 1
            reply = self._send_copies(number, step, [connection])[0]
        return reply

    def _headers(self, step: Step) -> dict[str, str]:
        headers = {"Content-Type": "application/json"}
        if self._secret is not None and step.signed != Signed.NOT:
            headers |= _signature(step, self._secret)
        return headers


def _signature(step: Step, secret: str) -> dict[str, str]:
    if step.signed in SHIFTED_SECONDS:
        return _standard_headers(step, secret, int(time.time()) + SHIFTED_SECONDS[step.signed])
    if step.signed == Signed.WRONG_SECRET:
        return {"X-Signature": signing.sign(step.body, f"not {secret}")}
    if step.signed == Signed.OTHER_BYTES:
        # A shop that parses before it verifies would accept this signature.
        text = json.dumps(json.loads(step.body), sort_keys=True, separators=(",", ":"))
        return {"X-Signature": signing.sign(text.encode(), secret)}
    whole = signing.sign(step.body, secret)
    return {"X-Signature": whole[: len(whole) // 2] if step.signed == Signed.TRUNCATED else whole}


def _is_standard_secret(secret: str) -> bool:
    try:
        signing.sign_standard(b"", secret, message_id="", timestamp=0)
    except ValueError:
        return False
    return True


def _standard_headers(step: Step, secret: str, timestamp: int) -> dict[str, str]:
    id_ = step.claim.operation_ids[0] if step.claim else ""
    signature = signing.sign_standard(step.body, secret, message_id=id_, timestamp=timestamp)
    return {"webhook-id": id_, "webhook-timestamp": str(timestamp), "webhook-signature": signature}


def _must_repeat(reply: Reply | None) -> bool:
    return reply is None or reply.status >= 500 or reply.status in RETRY_STATUSES

"""Plays a day over many connections, repeats what is not acknowledged, and keeps the bank's own books of it.

Called by run.py. Reads no balance and passes no judgement: report.py does.
"""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import signing
from sandbox.storm.plan import Expect, Manner, Plan, Signed, Step
from sandbox.storm.wire import Line, Reply

CONNECTIONS = 16
PATIENCE_SECONDS = 30.0
TRIES_AT_REFUSALS = 5
"""How often the bank asks again when a step that must be refused gets no answer, or an error of the shop's own."""

PAUSE_SECONDS, PAUSE_SECONDS_MAX = 0.05, 1.0
COME_AGAIN = (408, 425, 429)


@dataclass
class Record:
    """What the bank knows about one operation."""

    sent: int = 0
    acknowledged: bool = False
    refused: int | None = None
    words: Counter[str] = field(default_factory=Counter)
    settled: threading.Event = field(default_factory=threading.Event)


@dataclass
class Books:
    """What was sent and answered: by operation, by step, and counted."""

    operations: list[Record]
    replies: dict[int, list[Reply | None]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    ended_early: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def send(self, step: Step, copies: int) -> None:
        """Count a sending before anybody can have answered it."""
        with self.lock:
            self.counts["sent"] += copies
            if step.operation is not None and step.claim is None:
                self.operations[step.operation].sent += copies

    def hear(self, step: Step, reply: Reply | None) -> None:
        """Write down an answer, or that none came."""
        with self.lock:
            self.counts[f"{reply.status // 100}xx" if reply else "no answer"] += 1
            if reply is None or step.operation is None or step.claim is not None:
                return
            record = self.operations[step.operation]
            if reply.word:
                record.words[reply.word] += reply.is_ack
            if step.expect == Expect.ACKNOWLEDGED:
                record.acknowledged |= reply.is_ack
                if 400 <= reply.status < 500 and reply.status not in COME_AGAIN:
                    record.refused = reply.status

    def close(self, number: int, step: Step, replies: list[Reply | None]) -> None:
        """Write down how a step ended."""
        with self.lock:
            self.replies[number] = replies
            self.counts["steps"] += 1
            self.counts[step.kind] += 1


class Play:
    """One playing of a plan; run() returns when it is over, progress() may be asked meanwhile by anybody."""

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
        self.books = Books([Record() for _ in plan.operations])
        self._url = url
        self._secret = secret
        self._connections = connections
        self._patience = patience
        self._todo = iter(enumerate(plan.steps))
        self._stopped = threading.Event()
        self._problems: list[BaseException] = []

    def run(self, on_step: Callable[[int], None] = lambda _: None) -> Books:
        """Play the whole day; `on_step` is called now and then, from this thread, with the steps done since."""
        threads = [threading.Thread(target=self._work, daemon=True) for _ in range(self._connections)]
        for thread in threads:
            thread.start()
        told = 0
        try:
            for thread in threads:
                while thread.is_alive():
                    thread.join(0.1)
                    done = self.books.counts["steps"]
                    on_step(done - told)
                    told = done
            on_step(self.books.counts["steps"] - told)
        finally:
            self._stopped.set()
        if self._problems:
            raise self._problems[0]
        return self.books

    def stop(self) -> None:
        """Begin no further step."""
        self.books.ended_early = True
        self._stopped.set()

    def progress(self) -> Mapping[str, int]:
        """Return the counts as they are now."""
        with self.books.lock:
            return dict(self.books.counts)

    def _work(self) -> None:
        lines: list[Line] = []
        try:
            while not self._stopped.is_set():
                with self.books.lock:
                    number, step = next(self._todo, (None, None))
                if number is None or step is None:
                    return
                self._take(number, step, lines)
        except BaseException as problem:
            self._problems.append(problem)
            self._stopped.set()
            raise
        finally:
            for line in lines:
                line.close()

    def _take(self, number: int, step: Step, lines: list[Line]) -> None:
        replies: list[Reply | None] = []
        try:
            if self._is_to_be_sent(step):
                lines.extend(Line(self._url) for _ in range(step.copies - len(lines)))
                replies = self._send(step, lines)
            else:
                with self.books.lock:
                    self.books.counts["left out"] += 1
        finally:
            if step.expect == Expect.ACKNOWLEDGED and step.operation is not None:
                self.books.operations[step.operation].settled.set()
            self.books.close(number, step, replies)

    def _is_to_be_sent(self, step: Step) -> bool:
        if self._secret is None and step.signed != Signed.RIGHTLY:
            return False
        if step.after is not None:
            record = self.books.operations[step.after]
            while not record.settled.wait(0.1):
                if self._stopped.is_set():
                    return False
            # While money is only held, its id is not used: whoever comes with a known payer may be believed.
            return record.acknowledged and not (step.claim and record.words["held"])
        return True

    def _send(self, step: Step, lines: list[Line]) -> list[Reply | None]:
        if step.manner != Manner.SLOW:
            self._stopped.wait(step.pause_ms / 1000)
        if step.expect == Expect.NOTHING:
            self._vanish(step, lines[0])
            return []
        replies = self._volley(step, lines[: step.copies])
        return [self._until_settled(step, reply, lines[0]) for reply in replies]

    def _volley(self, step: Step, lines: list[Line]) -> list[Reply | None]:
        """Send copies on a connection each; the last byte of all goes out at one moment."""
        headers = self._headers(step)
        self.books.send(step, len(lines))
        for line in lines:
            line.begin(step.body, headers, held_back=len(step.body) // 2 if step.manner == Manner.SLOW else 1)
        if step.manner == Manner.SLOW:
            self._stopped.wait(step.pause_ms / 1000)
        for line in lines:
            line.finish()
        replies = [line.answer() for line in lines]
        for reply in replies:
            self.books.hear(step, reply)
        return replies

    def _vanish(self, step: Step, line: Line) -> None:
        """Be gone before the answer, or before the shop has the whole body."""
        self.books.send(step, 1)
        line.begin(step.body, self._headers(step), held_back=len(step.body) // 2)
        if step.manner != Manner.CUT:
            line.finish()
        line.close(reset=step.manner == Manner.RESET)

    def _until_settled(self, step: Step, reply: Reply | None, line: Line) -> Reply | None:
        """Repeat until a 2xx; what must not be counted is asked again only when the shop gave no answer of its own."""
        deadline, pause, tries = time.monotonic() + self._patience, PAUSE_SECONDS, 1
        while _asks_again(reply) and time.monotonic() < deadline and not self._stopped.is_set():
            if step.expect != Expect.ACKNOWLEDGED and tries == TRIES_AT_REFUSALS:
                break
            with self.books.lock:
                self.books.counts["repeated"] += 1
            self._stopped.wait(pause)
            pause, tries = min(2 * pause, PAUSE_SECONDS_MAX), tries + 1
            reply = self._volley(step, [line])[0]
        return reply

    def _headers(self, step: Step) -> dict[str, str]:
        headers = {"Content-Type": "application/json"}
        if self._secret is not None and step.signed != Signed.NOT:
            headers["X-Signature"] = _signature(step, self._secret)
        return headers


def _signature(step: Step, secret: str) -> str:
    if step.signed == Signed.WRONG_SECRET:
        return signing.sign(step.body, f"not {secret}")
    if step.signed == Signed.OTHER_BYTES:
        # What a sender signs that forgets that JSON has many spellings; a shop that parses before it verifies agrees.
        return signing.sign(json.dumps(json.loads(step.body), sort_keys=True, separators=(",", ":")).encode(), secret)
    whole = signing.sign(step.body, secret)
    return whole[: len(whole) // 2] if step.signed == Signed.TRUNCATED else whole


def _asks_again(reply: Reply | None) -> bool:
    return reply is None or reply.status >= 500 or reply.status in COME_AGAIN

"""Requests signed beforehand, and wrk that sends them: the generator itself only reads a file."""

import json
import random
import subprocess
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import signing
from bench.truth import hold

SECRET = "a-secret-that-is-only-for-the-bench-0123456789"  # noqa: S105 - of a server that lives for a minute
SECRETS_KEY = "what-locks-the-secrets-of-endpoints-0123456789"
WEBHOOK = "/api/v1/webhook/bank/"
DOCUMENT_DATE = "2024-04-27T21:00:00Z"
SCRIPT = Path(__file__).with_name("requests.lua")

REQUESTS_A_SECOND = 8_000
"""How many requests are signed for each second of a measurement; when they run out, wrk stops with an error."""

TIMEOUT_SECONDS = 10
"""How long an answer may take before wrk counts an error."""

PATIENCE_SECONDS = 60


@dataclass(frozen=True, kw_only=True)
class Requests:
    """A file of raw HTTP requests, each of the same length; `again` when they may be sent more than once."""

    path: Path
    record_bytes: int
    count: int
    again: bool = False


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What one measurement showed; what a tool does not tell is None."""

    answers: int
    rate: float
    median_ms: float | None = None
    p99_ms: float | None = None


Measure = Callable[[int], Reading]
"""A measurement of so many seconds; raises Untrue when its check fails."""


def credit_body(inn: str, number: int) -> bytes:
    """Return a bank's announcement, always of the same length."""
    return (
        f'{{"operation_id": "{uuid.uuid4()}", "amount": {100_000 + number % 900_000}, "payer_inn": "{inn}", '
        f'"document_number": "PAY-{number:08}", "document_date": "{DOCUMENT_DATE}"}}'
    ).encode()


def credit_request(inn: str, number: int) -> bytes:
    """Return a signed webhook as raw HTTP, its operation new."""
    body = credit_body(inn, number)
    head = (
        f"POST {WEBHOOK} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"X-Signature: {signing.sign(body, SECRET)}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def sign_credits(path: Path, inns: Sequence[str], count: int) -> Requests:
    """Write signed webhooks with distinct operations, each for one of these organisations at random."""
    payers = random.choices(inns, k=count)  # noqa: S311 - not a secret
    return _write(path, [credit_request(inn, number) for number, inn in enumerate(payers)])


def balance_reads(path: Path, inns: Sequence[str]) -> Requests:
    """Write one read of each organisation's balance, to be sent again and again, in random order."""
    shuffled = random.sample(inns, k=len(inns))
    paths = [f"/api/v1/organizations/{inn}/balance/" for inn in shuffled]
    return _write(path, [f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() for path in paths], again=True)


def send(requests: Requests, port: int, *, connections: int, seconds: int, rate: float = 0) -> Reading:
    """Send for so many seconds, as fast as answers come or at a rate; raise Untrue unless each answer is a good one."""
    again = "again" if requests.again else "once"
    command = [
        *("wrk", "--threads=1", f"--connections={connections}", f"--duration={seconds}s"),
        *(f"--timeout={TIMEOUT_SECONDS}s", "--latency", f"--script={SCRIPT}", f"http://127.0.0.1:{port}", "--"),
        *(str(requests.path), str(requests.record_bytes), str(requests.count), again, str(rate)),
    ]
    ran = subprocess.run(  # noqa: S603 - our own words
        command, capture_output=True, text=True, check=False, timeout=seconds + PATIENCE_SECONDS
    )
    hold(ran.returncode == 0, f"wrk: {ran.stderr.strip() or ran.stdout.strip()}")
    told = json.loads(ran.stdout.splitlines()[-1])
    hold(not any(told["errors"].values()), f"not every request was answered well: {told['errors']}")
    hold(told["answers"] > 0, "nothing was answered")
    return Reading(
        answers=told["answers"],
        rate=told["answers"] / told["microseconds"] * 1_000_000,
        median_ms=told["median"] / 1000,
        p99_ms=told["p99"] / 1000,
    )


def _write(path: Path, records: Sequence[bytes], *, again: bool = False) -> Requests:
    lengths = {len(record) for record in records}
    if len(lengths) != 1:
        raise ValueError("records of one file must have one length")
    path.write_bytes(b"".join(records))
    return Requests(path=path, record_bytes=lengths.pop(), count=len(records), again=again)

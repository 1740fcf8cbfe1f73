"""Requests that are signed beforehand, and wrk, which reads them from a file and sends them."""

import json
import random
import subprocess
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import signing
from bench.checks import check

SECRET = "1946c99d1e434e9748cb554a1b79ae8af187668f136740b1b2081436013b47bf"  # noqa: S105 - only for the servers of the bench
SECRETS_KEY = "791e750c38dcf0e7ab0678f22ae4adea0cfab0d343bc2bb7c353a3d2be346d2e"
WEBHOOK = "/api/v1/webhook/bank/"
DOCUMENT_DATE = "2024-04-27T21:00:00Z"
SCRIPT = Path(__file__).with_name("requests.lua")

REQUESTS_A_SECOND = 10_000
"""Number of requests that are signed for each second of a measurement. When they run out, wrk stops with an error."""

TIMEOUT_SECONDS = 10
"""Timeout of one answer. After it, wrk counts an error."""

GRACE_SECONDS = 60


@dataclass(frozen=True, kw_only=True)
class Requests:
    """A file of raw HTTP requests, all of the same length. `repeatable` ones may be sent more than once."""

    path: Path
    record_bytes: int
    count: int
    repeatable: bool = False


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The result of one measurement. Latencies that the tool does not measure are None."""

    answers: int
    rate: float
    median_ms: float | None = None
    p99_ms: float | None = None
    processor: Mapping[str, float] = field(default_factory=dict)
    """Microseconds an answer that processes have used, by a name for them, where they were watched."""


Measure = Callable[[int], Reading]
"""A measurement of so many seconds. Raises CheckFailed when its check fails."""


def credit_body(inn: str, number: int) -> bytes:
    """Return the body of a bank's webhook. Its length is always the same."""
    return (
        f'{{"operation_id": "{uuid.uuid4()}", "amount": {100_000 + number % 900_000}, "payer_inn": "{inn}", '
        f'"document_number": "PAY-{number:08}", "document_date": "{DOCUMENT_DATE}"}}'
    ).encode()


def credit_request(inn: str, number: int) -> bytes:
    """Return a signed webhook with a new operation as raw HTTP."""
    body = credit_body(inn, number)
    head = (
        f"POST {WEBHOOK} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"X-Signature: {signing.sign(body, SECRET)}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def sign_credits(path: Path, inns: Sequence[str], count: int) -> Requests:
    """Write signed webhooks with distinct operations for random organisations."""
    payers = random.choices(inns, k=count)  # noqa: S311 - not a secret
    return _write(path, [credit_request(inn, number) for number, inn in enumerate(payers)])


def balance_reads(path: Path, inns: Sequence[str], api_key: str) -> Requests:
    """Write one balance read for each organisation, in random order. They may be repeated."""
    shuffled = random.sample(inns, k=len(inns))
    heads = [f"GET /api/v1/organizations/{inn}/balance/ HTTP/1.1\r\nHost: localhost" for inn in shuffled]
    return _write(
        path, [f"{head}\r\nAuthorization: Bearer {api_key}\r\n\r\n".encode() for head in heads], repeatable=True
    )


def send(requests: Requests, port: int, *, connections: int, seconds: int, rate: float = 0) -> Reading:
    """Send for so many seconds, at a rate or as fast as answers come. Raise CheckFailed unless all answers are 2xx."""
    mode = "repeat" if requests.repeatable else "once"
    command = [
        *("wrk", "--threads=1", f"--connections={connections}", f"--duration={seconds}s"),
        *(f"--timeout={TIMEOUT_SECONDS}s", "--latency", f"--script={SCRIPT}", f"http://127.0.0.1:{port}", "--"),
        *(str(requests.path), str(requests.record_bytes), str(requests.count), mode, str(rate)),
    ]
    ran = subprocess.run(  # noqa: S603 - our own arguments
        command, capture_output=True, text=True, check=False, timeout=seconds + GRACE_SECONDS
    )
    check(ran.returncode == 0, f"wrk: {ran.stderr.strip() or ran.stdout.strip()}")
    summary = json.loads(ran.stdout.splitlines()[-1])
    check(not any(summary["errors"].values()), f"not every answer was 2xx: {summary['errors']}")
    check(summary["answers"] > 0, "nothing was answered")
    return Reading(
        answers=summary["answers"],
        rate=summary["answers"] / summary["microseconds"] * 1_000_000,
        median_ms=summary["median"] / 1000,
        p99_ms=summary["p99"] / 1000,
    )


def _write(path: Path, records: Sequence[bytes], *, repeatable: bool = False) -> Requests:
    lengths = {len(record) for record in records}
    if len(lengths) != 1:
        raise ValueError("records of one file must have one length")
    path.write_bytes(b"".join(records))
    return Requests(path=path, record_bytes=lengths.pop(), count=len(records), repeatable=repeatable)

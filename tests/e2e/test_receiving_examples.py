"""The examples of docs/events.md, run as they are printed, on deliveries made by channels.webhook.build_request()."""

import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from config import ROOT
from enums import Scheme
from outbox import endpoint_keys
from outbox.channels import webhook
from outbox.delivery import ClaimedDelivery, EndpointSnapshot
from outbox.endpoint_keys import Key

LANGUAGES = {"sh": ["sh"], "python": [sys.executable], "javascript": ["node"]}
NEEDS = {"sh": ("sh", "openssl", "od"), "python": (), "javascript": ("node",)}
WITH_SECRET = "`standard`, with the secret"
WITH_PUBLIC_KEY = "`standard`, with the public key"
FLAT = "`x-signature` and `acquiremock`"
SCHEMES = [Scheme.X_SIGNATURE, Scheme.ACQUIREMOCK]
HOUR = timedelta(hours=1)
VARIABLES = {
    "WEBHOOK_ID": "webhook-id",
    "WEBHOOK_TIMESTAMP": "webhook-timestamp",
    "WEBHOOK_SIGNATURE": "webhook-signature",
    "X_SIGNATURE": "X-Signature",
}


@dataclass(frozen=True)
class Example:
    """One example of the page, in a file."""

    language: str
    file: Path

    def accepts(self, body: bytes, headers: Mapping[str, str], **secret: str) -> bool:
        kept = self.file.with_suffix(".body")
        kept.write_bytes(body)
        given = {variable: headers[name] for variable, name in VARIABLES.items() if name in headers}
        result = subprocess.run(
            [*LANGUAGES[self.language], self.file],
            env={"PATH": "/usr/local/bin:/usr/bin:/bin", "BODY_FILE": str(kept), **given, **secret},
            cwd=self.file.parent,
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode in (0, 1), result.stderr
        # To refuse is no accident: an example that broke down on a delivery that is whole would pass for a careful one.
        assert not result.stderr, result.stderr
        return result.returncode == 0


def printed(section: str, language: str) -> str:
    page = (ROOT / "docs/events.md").read_text()
    (text,) = re.findall(rf"^### {re.escape(section)}\n(.*?)(?=^##|\Z)", page, re.DOTALL | re.MULTILINE)
    (code,) = re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
    return code


def example(section: str, language: str, folder: Path) -> Example:
    missing = [program for program in NEEDS[language] if shutil.which(program) is None]
    if missing:
        pytest.skip(f"{missing[0]} is not here: the {language} example of docs/events.md was not run")
    file = folder / "example"
    file.write_text(printed(section, language))
    return Example(language, file)


@pytest.fixture(params=LANGUAGES)
def standard(request, tmp_path) -> Example:
    return example(WITH_SECRET, request.param, tmp_path)


@pytest.fixture(params=LANGUAGES)
def flat(request, tmp_path) -> Example:
    return example(FLAT, request.param, tmp_path)


@pytest.fixture
def asymmetric(tmp_path) -> Example:
    return example(WITH_PUBLIC_KEY, "python", tmp_path)


def make_delivery(scheme: Scheme, *keys: Key) -> ClaimedDelivery:
    return ClaimedDelivery(
        delivery_id=1,
        lease=uuid.uuid4(),
        cause="schedule",
        endpoint=EndpointSnapshot(id=2, url="https://receiver.example/events", scheme=scheme, keys=keys),
        event_id=uuid.uuid4(),
        event_type="balance.credited",
        occurred_at=datetime.now(UTC),
        data='{"payment_id": "p-1", "amount": 145000, "document_number": "ПЛ-328 \\n%s \\\\ *", "version": 7}',
    )


def sent(scheme: Scheme, *keys: Key, age_seconds: int = 0) -> tuple[bytes, dict[str, str]]:
    return webhook.build_request(make_delivery(scheme, *keys), now=datetime.now(UTC) - timedelta(seconds=age_seconds))


def ending(key: Key, after: timedelta) -> Key:
    return replace(key, until=datetime.now(UTC) + after)


def changed(body: bytes) -> bytes:
    return body.replace(b"145000", b"145001")


def test_standard_example_accepts_what_was_sent_and_nothing_else(standard):
    key, other = endpoint_keys.new_key(Scheme.STANDARD), endpoint_keys.new_key(Scheme.STANDARD)
    body, headers = sent(Scheme.STANDARD, key)

    assert standard.accepts(body, headers, SECRET=key.secret)
    assert standard.accepts(body, headers, SECRET=key.secret.removeprefix("whsec_"))
    assert not standard.accepts(changed(body), headers, SECRET=key.secret)
    assert not standard.accepts(body + b"\n", headers, SECRET=key.secret)
    assert not standard.accepts(body, headers, SECRET=other.secret)
    assert not standard.accepts(body, {**headers, "webhook-id": str(uuid.uuid4())}, SECRET=key.secret)
    for forged in ("", "v1,", "*", "v1,* v1a", headers["webhook-signature"].replace("v1,", "v2,")):
        assert not standard.accepts(body, {**headers, "webhook-signature": forged}, SECRET=key.secret)


@pytest.mark.parametrize(("age_seconds", "accepted"), [(290, True), (-290, True), (310, False), (-310, False)])
def test_standard_examples_refuse_what_is_old(standard, age_seconds, accepted):
    key = endpoint_keys.new_key(Scheme.STANDARD)
    body, headers = sent(Scheme.STANDARD, key, age_seconds=age_seconds)

    assert standard.accepts(body, headers, SECRET=key.secret) is accepted
    fresh = {**headers, "webhook-timestamp": str(int(datetime.now(UTC).timestamp()) - 1)}
    assert not standard.accepts(body, fresh, SECRET=key.secret)


def test_standard_examples_accept_either_secret_during_rotation(standard):
    new, old = endpoint_keys.new_key(Scheme.STANDARD), endpoint_keys.new_key(Scheme.STANDARD)
    during = sent(Scheme.STANDARD, new, ending(old, HOUR))
    after = sent(Scheme.STANDARD, new, ending(old, -HOUR))

    assert [standard.accepts(*during, SECRET=key.secret) for key in (new, old)] == [True, True]
    assert [standard.accepts(*after, SECRET=key.secret) for key in (new, old)] == [True, False]


def test_standard_examples_without_a_secret_accept_nothing(standard):
    """An HMAC with an empty key is one that anybody can make."""
    body, headers = sent(Scheme.STANDARD, Key(secret="", private_key=None, until=None))

    assert not standard.accepts(body, headers, SECRET="")
    assert not standard.accepts(body, headers, SECRET="whsec_")


def test_public_key_example_accepts_what_was_sent_and_nothing_else(asymmetric):
    key, other = endpoint_keys.new_key(Scheme.STANDARD), endpoint_keys.new_key(Scheme.STANDARD)
    body, headers = sent(Scheme.STANDARD, key)
    stale = sent(Scheme.STANDARD, key, age_seconds=310)
    public_key = endpoint_keys.public_key(key)

    assert asymmetric.accepts(body, headers, PUBLIC_KEY=public_key)
    assert not asymmetric.accepts(changed(body), headers, PUBLIC_KEY=public_key)
    assert not asymmetric.accepts(body, headers, PUBLIC_KEY=endpoint_keys.public_key(other))
    assert not asymmetric.accepts(*stale, PUBLIC_KEY=public_key)
    for forged in ("", "v1a,", "v1a,AAAA", headers["webhook-signature"].split(" ")[0]):
        assert not asymmetric.accepts(body, {**headers, "webhook-signature": forged}, PUBLIC_KEY=public_key)


def test_public_key_example_accepts_either_key_during_rotation(asymmetric):
    new, old = endpoint_keys.new_key(Scheme.STANDARD), endpoint_keys.new_key(Scheme.STANDARD)
    during = sent(Scheme.STANDARD, new, ending(old, HOUR))
    after = sent(Scheme.STANDARD, new, ending(old, -HOUR))

    assert [asymmetric.accepts(*during, PUBLIC_KEY=endpoint_keys.public_key(key)) for key in (new, old)] == [True, True]
    assert [asymmetric.accepts(*after, PUBLIC_KEY=endpoint_keys.public_key(key)) for key in (new, old)] == [True, False]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_flat_examples_accept_what_was_sent_and_nothing_else(flat, scheme):
    key, other = endpoint_keys.new_key(scheme), endpoint_keys.new_key(scheme)
    body, headers = sent(scheme, key)

    assert flat.accepts(body, headers, SECRET=key.secret)
    assert not flat.accepts(changed(body), headers, SECRET=key.secret)
    assert not flat.accepts(body + b"\n", headers, SECRET=key.secret)
    assert not flat.accepts(body, headers, SECRET=other.secret)
    for forged in ("", "*", "0" * 64):
        assert not flat.accepts(body, {**headers, "X-Signature": forged}, SECRET=key.secret)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_flat_examples_with_both_secrets_get_over_a_rotation(flat, scheme):
    new, old = endpoint_keys.new_key(scheme), endpoint_keys.new_key(scheme)
    both = f"{new.secret},{old.secret}"
    during, after = (sent(scheme, new, ending(old, span)) for span in (HOUR, -HOUR))

    assert [flat.accepts(*during, SECRET=secret) for secret in (both, new.secret, old.secret)] == [True, False, True]
    assert [flat.accepts(*after, SECRET=secret) for secret in (both, new.secret, old.secret)] == [True, True, False]


def test_flat_examples_without_a_secret_accept_nothing(flat):
    body, headers = sent(Scheme.X_SIGNATURE, Key(secret="", private_key=None, until=None))

    assert not flat.accepts(body, headers, SECRET="")
    assert not flat.accepts(body, headers, SECRET=",")


def test_receiver_to_try_it_with_answers_200_and_prints_the_body(tmp_path):
    (code,) = re.findall(r"\n## A receiver .*?```python\n(.*?)```", (ROOT / "docs/events.md").read_text(), re.DOTALL)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    file, log = tmp_path / "receiver.py", tmp_path / "log"
    file.write_text(code.replace("9000", str(port)))

    with (
        log.open("wb") as output,
        subprocess.Popen([sys.executable, "-u", file], stdout=output, stderr=output) as receiver,
    ):
        try:
            answer = first_answer(f"http://127.0.0.1:{port}/hook", b'{"type":"ping"}')
        finally:
            receiver.kill()

    assert answer == (200, b"")
    assert '{"type":"ping"}\n' in log.read_text()


def first_answer(url: str, body: bytes) -> tuple[int, bytes]:
    """POST to a server that is just starting."""
    for _ in range(100):
        with suppress(urllib.error.URLError), urllib.request.urlopen(url, body) as answer:
            return answer.status, answer.read()
        time.sleep(0.1)
    raise AssertionError("nothing listens")


def test_every_example_of_the_page_is_run_here():
    fences = re.findall(r"```(\w+)\n", (ROOT / "docs/events.md").read_text())

    assert sorted(set(fences) - {"json"}) == sorted(LANGUAGES)
    assert len([fence for fence in fences if fence != "json"]) == 8

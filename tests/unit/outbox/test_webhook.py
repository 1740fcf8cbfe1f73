"""What goes on the wire, read by verifiers that are not ours, and what is made of each answer."""

import base64
import hashlib
import hmac
import json
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
import standardwebhooks
import svix.webhooks
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.datastructures import Headers

import signing
from banks.base import Message
from banks.plain import PlainBank
from enums import Scheme
from errors import SignatureRejected
from http_client.connection import Answer, Unreachable
from outbox import endpoint_keys
from outbox.channels.webhook import build_request, send
from outbox.delivery import Attempt, ClaimedDelivery, EndpointSnapshot
from outbox.endpoint_keys import Key

NOW = datetime(2026, 3, 1, 12, 0, 0, 700_000, tzinfo=UTC)
EVENT = uuid.UUID("0190f8a0-0000-7000-8000-000000000001")
PAYMENT = "0190f8a0-0000-7000-8000-000000000002"
CREDITED = {
    "organization": "1234567890",
    "payment_id": PAYMENT,
    "operation_id": "ccf0a86d-041b-4991-bcf7-e2352f7b8a4a",
    "amount": 145000,
    "delta": 145000,
    "balance_before": 2**63 - 1 - 145000,
    "balance_after": 2**63 - 1,
    "version": 7,
    "currency": "RUB",
    "payer_inn": "1234567890",
    "document_number": 'ПЛ-328 «é» \U0001f4b8 /\\"\u2028',
    "document_date": "2024-04-27T21:00:00Z",
    "source": "plain",
}
FACTS_SECRET = "test-secret-0123456789abcdef0123456789"
FACTS = (
    '{"amount": 25000.0, "card_mask": "**** 4444", "payment_id": "550e8400-e29b-41d4-a716-446655440000", '
    '"reference": "ORDER-123", "status": "paid", "timestamp": "2025-01-15T10:30:00.000000"}'
)


def make_delivery(scheme: Scheme = Scheme.STANDARD, *keys: Key, **overrides) -> ClaimedDelivery:
    delivery = ClaimedDelivery(
        delivery_id=1,
        lease=uuid.uuid4(),
        cause="schedule",
        endpoint=EndpointSnapshot(
            id=2, url="https://receiver.example/events", scheme=scheme, keys=keys or (endpoint_keys.new_key(scheme),)
        ),
        event_id=EVENT,
        event_type="balance.credited",
        occurred_at=datetime(2026, 3, 1, 11, 59, 58, tzinfo=UTC),
        data=json.dumps(CREDITED),
    )
    return replace(delivery, **overrides)


def old(key: Key, until: datetime) -> Key:
    return replace(key, until=until)


def accepted(key: Key, body: bytes, headers: Mapping[str, str]) -> list[bool]:
    """Ask each library whether a delivery holds; they look at the real clock."""
    answers = []
    for verifier, error in (
        (standardwebhooks.Webhook, standardwebhooks.WebhookVerificationError),
        (svix.webhooks.Webhook, svix.webhooks.WebhookVerificationError),
    ):
        try:
            verifier(key.secret).verify(body, dict(headers))
            answers.append(True)
        except error:
            answers.append(False)
    return answers


def holds(public_key: str, body: bytes, headers: Mapping[str, str]) -> bool:
    """Verify v1a as a stranger would who has read the specification only."""
    assert public_key.startswith("whpk_")
    public = Ed25519PublicKey.from_public_bytes(base64.b64decode(public_key[len("whpk_") :]))
    signed = headers["webhook-id"].encode() + b"." + headers["webhook-timestamp"].encode() + b"." + body
    for part in headers["webhook-signature"].split(" "):
        version, text = part.split(",")
        try:
            if version == "v1a":
                public.verify(base64.b64decode(text), signed)
                return True
        except InvalidSignature:
            continue
    return False


def raw_body_accepts(secret: str, body: bytes, signature: str) -> bool:
    return hmac.compare_digest(hmac.new(secret.encode(), body, hashlib.sha256).hexdigest(), signature)


def rewritten_body_accepts(secret: str, body: bytes, signature: str) -> bool:
    """Verify as receivers do that have only the parsed body: they write it again and hope for the same bytes."""
    return raw_body_accepts(secret, json.dumps(json.loads(body), sort_keys=True).encode(), signature)


def test_standard_body_and_headers():
    body, headers = build_request(make_delivery(data='{"endpoint": 5, "name": "Ы"}', event_type="ping"), now=NOW)

    assert body.decode() == (
        f'{{"id":"{EVENT}","type":"ping","timestamp":"2026-03-01T11:59:58Z","data":{{"endpoint":5,"name":"Ы"}}}}'
    )
    assert list(headers) == ["Content-Type", "webhook-id", "webhook-timestamp", "webhook-signature"]
    assert headers["Content-Type"] == "application/json"
    assert headers["webhook-id"] == str(EVENT)
    assert headers["webhook-timestamp"] == str(int(NOW.timestamp()))
    assert re.fullmatch(r"v1,[A-Za-z0-9+/]{43}= v1a,[A-Za-z0-9+/]{86}==", headers["webhook-signature"])


@pytest.mark.parametrize("scheme", Scheme)
def test_everything_that_happened_arrives(scheme):
    body, _ = build_request(make_delivery(scheme), now=NOW)
    members = json.loads(body)
    envelope = {"id": str(EVENT), "type": "balance.credited", "timestamp": "2026-03-01T11:59:58Z"}

    assert members == ({**envelope, "data": CREDITED} if scheme is Scheme.STANDARD else {**envelope, **CREDITED})


@pytest.mark.parametrize("scheme", [Scheme.X_SIGNATURE, Scheme.ACQUIREMOCK])
def test_flat_body_names_who_was_credited_under_the_id_that_is_handed_on(scheme):
    other = "0190f8a0-0000-7000-8000-00000000000f"
    data = {**CREDITED, "organization": "7707083893", "forward_id": other}
    body, _ = build_request(make_delivery(scheme, data=json.dumps(data)), now=NOW)
    members = json.loads(body)

    assert (members["payer_inn"], members["announced_payer_inn"]) == ("7707083893", CREDITED["payer_inn"])
    assert (members["operation_id"], members["announced_operation_id"]) == (other, CREDITED["operation_id"])
    assert "forward_id" not in members


@pytest.mark.parametrize("scheme", Scheme)
def test_a_repeat_has_the_same_id_and_body_and_another_time(scheme):
    delivery = make_delivery(scheme)
    (body, first), (again, second) = (build_request(delivery, now=NOW + timedelta(hours=hours)) for hours in (0, 5))

    assert body == again
    assert first["webhook-id"] == second["webhook-id"]
    assert int(second["webhook-timestamp"]) - int(first["webhook-timestamp"]) == 5 * 3600


def test_standard_delivery_holds_for_the_libraries_and_a_changed_byte_does_not():
    delivery = make_delivery()
    (key,) = delivery.endpoint.keys
    body, headers = build_request(delivery, now=datetime.now(UTC))

    assert accepted(key, body, headers) == [True, True]
    assert holds(endpoint_keys.public_key(key), body, headers)
    changed = body.replace(b"145000", b"145001", 1)
    assert accepted(key, changed, headers) == [False, False]
    assert not holds(endpoint_keys.public_key(key), changed, headers)
    for name, other in (("webhook-id", str(uuid.uuid4())), ("webhook-timestamp", str(int(NOW.timestamp()) + 1))):
        assert accepted(key, body, {**headers, name: other}) == [False, False]
        assert not holds(endpoint_keys.public_key(key), body, {**headers, name: other})


def test_standard_delivery_holds_with_both_keys_until_the_old_one_has_had_its_time():
    now = datetime.now(UTC)
    new, before = endpoint_keys.new_key(Scheme.STANDARD), endpoint_keys.new_key(Scheme.STANDARD)
    during = build_request(make_delivery(Scheme.STANDARD, new, old(before, now + timedelta(seconds=1))), now=now)
    after = build_request(make_delivery(Scheme.STANDARD, new, old(before, now)), now=now)

    assert [part.split(",")[0] for part in during[1]["webhook-signature"].split(" ")] == ["v1", "v1", "v1a", "v1a"]
    for key in (new, before):
        assert accepted(key, *during) == [True, True]
        assert holds(endpoint_keys.public_key(key), *during)
    assert accepted(new, *after) == [True, True]
    assert holds(endpoint_keys.public_key(new), *after)
    assert accepted(before, *after) == [False, False]
    assert not holds(endpoint_keys.public_key(before), *after)


def test_standard_key_without_a_private_key_signs_v1_only():
    key = replace(endpoint_keys.new_key(Scheme.STANDARD), private_key=None)
    body, headers = build_request(make_delivery(Scheme.STANDARD, key), now=datetime.now(UTC))

    assert accepted(key, body, headers) == [True, True]
    assert "v1a" not in headers["webhook-signature"]


HOUR = timedelta(hours=1)


@pytest.mark.parametrize("scheme", [Scheme.X_SIGNATURE, Scheme.ACQUIREMOCK])
@pytest.mark.parametrize(
    ("untils", "signer"),
    [
        ([None], 0),
        ([None, HOUR], 1),
        ([None, timedelta(microseconds=1)], 1),
        ([None, timedelta(0)], 0),
        ([None, -HOUR], 0),
        ([None, 2 * HOUR, HOUR], 2),
        ([None, 2 * HOUR, -HOUR], 1),
        ([None, -HOUR, HOUR], 2),
        ([None, -HOUR, -HOUR], 0),
    ],
    ids=str,
)
def test_the_oldest_current_key_signs_alone(scheme, untils, signer):
    keys = [old(endpoint_keys.new_key(scheme), None if until is None else NOW + until) for until in untils]
    body, headers = build_request(make_delivery(scheme, *keys), now=NOW)

    assert [raw_body_accepts(key.secret, body, headers["X-Signature"]) for key in keys] == [
        place == signer for place in range(len(keys))
    ]


def test_x_signature_body_is_flat_and_compact_and_signed_as_it_is():
    delivery = make_delivery(Scheme.X_SIGNATURE, data='{"endpoint": 5, "name": "Ы"}', event_type="ping")
    body, headers = build_request(delivery, now=NOW)

    assert body.decode() == (
        f'{{"id":"{EVENT}","type":"ping","timestamp":"2026-03-01T11:59:58Z","endpoint":5,"name":"Ы"}}'
    )
    assert list(headers) == ["Content-Type", "webhook-id", "webhook-timestamp", "X-Signature"]
    assert raw_body_accepts(delivery.endpoint.keys[0].secret, body, headers["X-Signature"])
    assert not raw_body_accepts(delivery.endpoint.keys[0].secret, body + b" ", headers["X-Signature"])


@pytest.mark.parametrize("scheme", [Scheme.X_SIGNATURE, Scheme.ACQUIREMOCK])
def test_another_kopeck_takes_the_delivery_for_a_bank_webhook(scheme):
    data = {**CREDITED, "document_number": "ПЛ-328"}
    delivery = make_delivery(scheme, data=json.dumps(data))
    body, headers = build_request(delivery, now=NOW)
    message = Message(headers=Headers(headers), content_type=headers["Content-Type"], body=body)
    bank = PlainBank()

    assert bank.authenticate(message, secrets=[delivery.endpoint.keys[0].secret], now=NOW).scheme == "x-signature"
    announcement = bank.announcement(message)
    assert (str(announcement.operation_id), announcement.amount) == (CREDITED["operation_id"], 145000)
    assert (announcement.payer_inn, announcement.document_number) == ("1234567890", "ПЛ-328")
    assert announcement.document_date == datetime(2024, 4, 27, 21, tzinfo=UTC)
    with pytest.raises(SignatureRejected):
        bank.authenticate(message, secrets=[signing.new_secret()], now=NOW)


def test_another_kopeck_authenticates_a_standard_delivery():
    delivery = make_delivery()
    body, headers = build_request(delivery, now=NOW)

    assert signing.verify(Headers(headers), body, secrets=[delivery.endpoint.keys[0].secret], now=NOW).key_position == 0


def test_acquiremock_body_is_sorted_spaced_and_ascii():
    delivery = make_delivery(Scheme.ACQUIREMOCK, data=f'{{"payment_id":"{PAYMENT}","name":"Ы","z":{{"b":1,"a":2}}}}')
    body, headers = build_request(delivery, now=NOW)

    assert body == (
        f'{{"id": "{EVENT}", "name": "\\u042b", "payment_id": "{PAYMENT}", "timestamp": "2026-03-01T11:59:58Z", '
        f'"type": "balance.credited", "z": {{"a": 2, "b": 1}}}}'
    ).encode("ascii")
    assert headers["X-Payment-ID"] == PAYMENT
    assert list(headers) == ["Content-Type", "webhook-id", "webhook-timestamp", "X-Signature", "X-Payment-ID"]


def test_acquiremock_delivery_without_a_payment_names_none():
    assert "X-Payment-ID" not in build_request(make_delivery(Scheme.ACQUIREMOCK, data='{"endpoint": 5}'), now=NOW)[1]
    assert "X-Payment-ID" not in build_request(make_delivery(Scheme.X_SIGNATURE), now=NOW)[1]


def test_acquiremock_delivery_holds_for_both_kinds_of_receivers():
    delivery = make_delivery(Scheme.ACQUIREMOCK)
    body, headers = build_request(delivery, now=NOW)
    secret, signature = delivery.endpoint.keys[0].secret, headers["X-Signature"]

    for verifier in (raw_body_accepts, rewritten_body_accepts):
        assert verifier(secret, body, signature)
        assert not verifier(secret, body.replace(b"145000", b"145001", 1), signature)
        assert not verifier(signing.new_secret(), body, signature)


def test_acquiremock_vector():
    assert signing.sign(FACTS.encode(), FACTS_SECRET) == (
        "64ac93839ec379f80776639f0c992c95ef3a0a66677d29c356b6efc83cac1f5f"
    )
    assert rewritten_body_accepts(FACTS_SECRET, FACTS.encode(), signing.sign(FACTS.encode(), FACTS_SECRET))


texts = st.text(st.characters(exclude_categories=["Cs"]))
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | texts,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(texts, below, max_size=3),
    max_leaves=5,
)
NAMES = {"id", "type", "timestamp"}
KEYS = {scheme: endpoint_keys.new_key(scheme) for scheme in Scheme}


@given(st.dictionaries(texts.filter(lambda name: name not in NAMES), values, max_size=5), st.sampled_from(Scheme))
def test_whatever_is_stored_survives_and_holds(data, scheme):
    key = KEYS[scheme]
    body, headers = build_request(make_delivery(scheme, key, data=json.dumps(data)), now=datetime.now(UTC))
    members = json.loads(body)

    assert data == (
        members["data"] if scheme is Scheme.STANDARD else {n: members[n] for n in members if n not in NAMES}
    )
    if scheme is Scheme.STANDARD:
        assert accepted(key, body, headers) == [True, True]
    else:
        assert raw_body_accepts(key.secret, body, headers["X-Signature"])
    if scheme is Scheme.ACQUIREMOCK:
        assert rewritten_body_accepts(key.secret, body, headers["X-Signature"])


@pytest.mark.parametrize("scheme", [Scheme.X_SIGNATURE, Scheme.ACQUIREMOCK])
@pytest.mark.parametrize("name", sorted(NAMES))
def test_data_that_would_hide_a_member_is_refused(scheme, name):
    with pytest.raises(ValueError, match="repeats a member"):
        build_request(make_delivery(scheme, data=json.dumps({name: 1})), now=NOW)


def test_standard_data_may_have_any_member():
    body, _ = build_request(make_delivery(data='{"id": 1}'), now=NOW)

    assert json.loads(body)["data"] == {"id": 1}


@pytest.mark.parametrize("scheme", Scheme)
@pytest.mark.parametrize("data", ["[]", "1", "null", '"text"', "", "{", '{"a": NaN}', '{"a": 1e999}'])
def test_data_that_is_no_object_is_refused(scheme, data):
    with pytest.raises(ValueError):  # noqa: PT011 - whatever json says
        build_request(make_delivery(scheme, data=data), now=NOW)


@pytest.mark.parametrize("scheme", Scheme)
def test_no_current_key_signs_nothing(scheme):
    delivery = make_delivery(scheme)
    for keys in ((), (old(endpoint_keys.new_key(scheme), NOW),)):
        with pytest.raises(ValueError, match="no key"):
            build_request(replace(delivery, endpoint=replace(delivery.endpoint, keys=keys)), now=NOW)


@pytest.mark.parametrize("scheme", Scheme)
def test_repr_shows_no_secret(scheme):
    delivery = make_delivery(scheme)
    for secret in (delivery.endpoint.keys[0].secret, delivery.endpoint.keys[0].private_key):
        assert secret is None or secret not in repr(delivery)


def make_answer(**overrides) -> Answer:
    return Answer(**{"status": 200, "reason": "OK", "body": b"", "headers": Headers(), **overrides})


class FakeClient:
    """Answers what it is sent to and keeps what it was sent."""

    def __init__(self, outcome: Answer | Unreachable) -> None:
        self.outcome = outcome
        self.sent: list[tuple[str, bytes, Mapping[str, str]]] = []

    def post(self, url: str, body: bytes, headers: Mapping[str, str], *, is_wanted: object) -> Answer:
        self.sent.append((url, body, headers))
        if isinstance(self.outcome, Unreachable):
            raise self.outcome
        return self.outcome


def ticking(*milliseconds: int) -> Callable[[], datetime]:
    moments = iter([NOW + timedelta(milliseconds=number) for number in milliseconds])
    return lambda: next(moments)


def attempt(**answer) -> Attempt:
    return send(FakeClient(make_answer(**answer)), make_delivery(), clock=ticking(0, 0))


def test_send_posts_the_request_and_returns_what_came_back():
    delivery = make_delivery()
    client = FakeClient(make_answer(status=204, reason="No Content", body=b"thanks"))
    sent = send(client, delivery, clock=ticking(0, 1234))

    assert client.sent == [(delivery.endpoint.url, *build_request(delivery, now=NOW))]
    assert sent == Attempt(
        started_at=NOW, duration_ms=1234, status=204, excerpt="thanks", error=None, retry_after_seconds=None
    )


def test_send_tells_why_no_answer_came():
    sent = send(FakeClient(Unreachable("Nothing answers.")), make_delivery(), clock=ticking(0, 15000))

    assert sent == Attempt(
        started_at=NOW, duration_ms=15000, status=None, excerpt="", error="Nothing answers.", retry_after_seconds=None
    )


@pytest.mark.parametrize("status", [100, 200, 299, 301, 404, 410, 429, 500, 503, 999])
def test_no_status_raises(status):
    assert (attempt(status=status).status, attempt(status=status).error) == (status, None)


def test_a_clock_that_is_set_back_takes_no_time():
    assert send(FakeClient(make_answer()), make_delivery(), clock=ticking(0, -5000)).duration_ms == 0


@pytest.mark.parametrize(
    ("body", "excerpt"),
    [
        (b"", ""),
        ("нет\tденег\n".encode(), "нет\tденег\n"),
        (b"one\r\ntwo", "one\ntwo"),
        (b"a\x00b\x1b[31m\x7f\rc", "a�b�[31m��c"),
        ("a\x9bb".encode(), "a�b"),
        (b"\xff\xfe", "��"),
        ("ы".encode()[:1], "�"),
        (b"\xed\xa0\x80", "���"),
        (b"x" * 2049, "x" * 2048),
        ("ы".encode() * 3000, "ы" * 2048),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_excerpt_is_text_that_a_database_can_hold(body, excerpt):
    assert attempt(body=body).excerpt == excerpt


@given(st.binary(max_size=3000))
def test_no_body_raises(body):
    excerpt = attempt(body=body).excerpt

    assert len(excerpt) <= 2048
    assert all(character in "\n\t" or character.isprintable() or ord(character) > 0x9F for character in excerpt)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120),
        (" 120 ", 120),
        ("0", 0),
        ("007", 7),
        ("-5", 0),
        ("999999999", 999999999),
        (format_datetime(NOW.replace(microsecond=0) + timedelta(seconds=90), usegmt=True), 90),
        (format_datetime(NOW - timedelta(hours=1), usegmt=True), 0),
        ("Sunday, 01-Mar-26 12:01:00 GMT", 60),
        ("Sun Mar  1 12:01:00 2026", 60),
        ("", None),
        ("soon", None),
        ("1.5", None),
        ("1e3", None),
        ("+5", None),
        ("٥", None),
        ("9" * 5000, None),
        ("Sun, 01 Mar 99999999999999999999 12:00:00 GMT", None),
        ("Sun, 01 Mar 2026 12:00:00 +99999999999999", None),
        ("Sun, 99 Mar 2026 12:00:00 GMT", None),
    ],
)
def test_retry_after_is_seconds_from_now(header, seconds):
    assert attempt(status=503, headers=Headers({"retry-after": header})).retry_after_seconds == seconds


def test_retry_after_counts_from_the_answer():
    client = FakeClient(make_answer(status=429, headers={"Retry-After": format_datetime(NOW + timedelta(seconds=60))}))

    # The date has whole seconds, so 0.7 s of the first minute are gone already, and ten seconds more on the way.
    assert send(client, make_delivery(), clock=ticking(0, 10_000)).retry_after_seconds == 50


@given(st.text(max_size=60) | st.from_regex(r"[A-Z][a-z]{2}, [0-9]{1,3} Mar [0-9]{1,9} [0-9:]{5,9} [+-][0-9]{4,12}"))
def test_no_retry_after_raises(header):
    seconds = attempt(headers={"Retry-After": header}).retry_after_seconds

    assert seconds is None or seconds >= 0

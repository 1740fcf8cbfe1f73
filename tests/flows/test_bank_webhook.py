"""A signed webhook from the bank: credited once, whatever is repeated, and refused when it is not the bank's."""

import base64
import hashlib
import json
import uuid
from datetime import timedelta

import pytest
from flask.testing import FlaskClient
from standardwebhooks.webhooks import Webhook

import signing
from limits import BODY_BYTES_MAX
from tests.callers import WEBHOOK, Bank
from tests.factories import INN, KEY_ID, OLD_SECRET, SECRET, make_body

SAMPLE = (
    b'{"operation_id": "ccf0a86d-041b-4991-bcf7-e2352f7b8a4a", "amount": 145000, "payer_inn": "1234567890", '
    b'"document_number": "PAY-328", "document_date": "2024-04-27T21:00:00Z"}'
)


def test_sample_webhook_credits_the_payer(bank, client, check_ledger):
    answer = bank.push(SAMPLE)

    assert answer.status_code == 200
    assert answer.json["status"] == "credited"
    assert answer.json["operation_id"] == "ccf0a86d-041b-4991-bcf7-e2352f7b8a4a"
    balance = client.get(f"/api/v1/organizations/{INN}/balance/")
    assert balance.json == {"inn": INN, "balance": 145000, "currency": "RUB", "version": 1}
    check_ledger()


def test_payment_keeps_the_body_as_received_and_the_key_that_signed_it(bank, client, database):
    bank.push(SAMPLE)

    (payment,) = client.get(f"/api/v1/organizations/{INN}/payments/").json["items"]
    assert payment["body_sha256"] == hashlib.sha256(SAMPLE).hexdigest()
    assert payment["key_id"] == KEY_ID
    assert payment["document_date"] == "2024-04-27T21:00:00Z"
    assert payment["received_at"] == "2026-03-01T12:00:00Z"
    assert SAMPLE in [bytes(cell) for row in database.rows()["payments"] for cell in row if isinstance(cell, bytes)]


def test_repeated_credit_moves_balance_once(bank, client, check_ledger):
    first = bank.push(SAMPLE)
    second = bank.push(SAMPLE)

    assert second.status_code == 200
    assert second.json == {**first.json, "status": "duplicate"}
    assert client.get(f"/api/v1/organizations/{INN}/balance/").json["balance"] == 145000
    check_ledger()


@pytest.mark.parametrize(
    "spelling",
    [
        "CCF0A86D-041B-4991-BCF7-E2352F7B8A4A",
        "{ccf0a86d-041b-4991-bcf7-e2352f7b8a4a}",
        "ccf0a86d041b4991bcf7e2352f7b8a4a",
    ],
)
def test_other_spelling_of_an_operation_is_the_same_operation(bank, check_ledger, spelling):
    bank.push(SAMPLE)

    assert bank.push(SAMPLE.replace(b"ccf0a86d-041b-4991-bcf7-e2352f7b8a4a", spelling.encode())).json["status"] == (
        "duplicate"
    )
    check_ledger()


@pytest.mark.parametrize(
    "change",
    [
        {"amount": 145001},
        {"payer_inn": "7707083893"},
        {"document_number": "PAY-329"},
        {"document_date": "2024-04-27T21:00:01Z"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_used_operation_with_other_facts_changes_nothing_and_is_an_incident(bank, operator, database, change):
    operation_id = str(uuid.uuid4())
    credited = bank.send(operation_id=operation_id)
    before = database.rows()

    answer = bank.send(operation_id=operation_id, **change)

    assert (answer.status_code, answer.json["status"]) == (200, "conflict")
    assert answer.json["payment_id"] == credited.json["payment_id"]
    after = database.rows()
    assert {**before, "incidents": None} == {**after, "incidents": None}
    incident = operator.get(f"/incidents/{answer.json['incident_id']}/").json
    assert incident["kind"] == "conflict"
    (changed,) = change
    assert incident["facts"]["announced"][changed] == change[changed]
    assert incident["facts"]["recorded"][changed] != change[changed]


def test_same_moment_in_another_zone_is_a_duplicate(bank):
    operation_id = str(uuid.uuid4())
    bank.send(operation_id=operation_id, document_date="2024-04-27T21:00:00Z")

    again = bank.send(operation_id=operation_id, document_date="2024-04-28T00:00:00+03:00")

    assert again.json["status"] == "duplicate"


def test_same_conflict_again_is_counted_not_repeated(bank, operator):
    operation_id = str(uuid.uuid4())
    bank.send(operation_id=operation_id)
    first = bank.send(operation_id=operation_id, amount=1)
    second = bank.send(operation_id=operation_id, amount=1)

    assert first.json == second.json
    assert operator.get(f"/incidents/{first.json['incident_id']}/").json["seen_count"] == 2


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/webhook/bank/",
        "/api/v1/webhook/bank",
        "/api/webhook/bank/",
        "/api/webhook/bank",
        "/api/v1/webhook/bank/plain/",
        "/api/v1/webhook/bank/plain",
    ],
)
def test_every_address_of_the_door_credits(bank, path):
    assert bank.send(to=path).json["status"] == "credited"


def test_unknown_bank_is_not_found(bank):
    answer = bank.send(to="/api/v1/webhook/bank/nobody/")

    assert answer.status_code == 404
    assert answer.json["type"] == "urn:kopeck:problem:bank-unknown"


def test_unknown_members_are_accepted_and_kept(bank, database):
    body = make_body(purpose="за услуги", nested={"a": [1, 2.5, None]})

    assert bank.push(body).json["status"] == "credited"
    assert body in [bytes(cell) for row in database.rows()["payments"] for cell in row if isinstance(cell, bytes)]


@pytest.mark.parametrize("secret", [SECRET, OLD_SECRET])
def test_every_current_secret_is_accepted(client, secret):
    assert Bank(client, secret).send().status_code == 200


@pytest.mark.parametrize("dress", [str.lower, str.upper, lambda digits: f"sha256={digits}"])
def test_signature_may_be_upper_case_or_have_its_algorithm_in_front(bank, dress):
    body = make_body()

    assert bank.push(body, signature=dress(signing.sign(body, SECRET))).status_code == 200


def _bad_signatures() -> dict[str, str]:
    good = signing.sign(SAMPLE, SECRET)
    reserialised = json.dumps(json.loads(SAMPLE), separators=(",", ":")).encode()
    return {
        "empty": "",
        "wrong": ("0" if good[0] != "0" else "1") + good[1:],
        "truncated": good[:-1],
        "too long": good + "0",
        "not hex": "z" * 64,
        "other secret": signing.sign(SAMPLE, "another-secret-that-nobody-here-knows-0123"),
        "re-serialised body": signing.sign(reserialised, SECRET),
        "other algorithm": f"sha1={good[:40]}",
        "two in one": f"{good},{good}",
        "full-width digits": "\uff11" * 64,
    }


@pytest.mark.parametrize("name", _bad_signatures())
def test_bad_signature_is_refused_before_anything_is_read(bank, database, name):
    signature = _bad_signatures()[name].encode().decode("latin-1")

    answer = bank.push(SAMPLE, signature=signature)

    assert answer.status_code == 401
    assert answer.content_type == "application/problem+json"
    assert answer.json["type"] == "urn:kopeck:problem:signature-rejected"
    assert all(rows == [] for rows in database.rows().values())


def test_missing_signature_is_refused(client: FlaskClient, database):
    answer = client.post(WEBHOOK, data=SAMPLE, content_type="application/json")

    assert answer.status_code == 401
    assert "WWW-Authenticate" in answer.headers
    assert all(rows == [] for rows in database.rows().values())


def test_body_of_one_byte_over_the_limit_is_refused_before_it_is_hashed(bank):
    padding = BODY_BYTES_MAX - len(make_body(filler=""))
    fits = make_body(filler="x" * padding)
    assert len(fits) == BODY_BYTES_MAX

    assert bank.push(fits).status_code == 200
    assert bank.push(fits + b" ", signature="not even looked at").status_code == 413


def test_standard_webhooks_with_an_unknown_secret_are_refused(make_app, clock):
    ours = base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
    client = make_app(BANK_WEBHOOK_SECRETS=f"{SECRET},{ours}").test_client()
    headers, body = _standard(base64.b64encode(b"a key that this server was not given").decode(), clock.moment)

    assert client.post(WEBHOOK, data=body, headers=headers).status_code == 401


def test_sender_is_not_blamed_where_no_secret_of_ours_fits_its_scheme(make_app, clock, caplog):
    client = make_app(BANK_WEBHOOK_SECRETS="no base64 at all, and none here either").test_client()
    headers, body = _standard(base64.b64encode(b"a key that this server was not given").decode(), clock.moment)

    answer = client.post(WEBHOOK, data=body, headers=headers)

    assert (answer.status_code, answer.json["type"]) == (503, "urn:kopeck:problem:secret-unusable")
    assert int(answer.headers["Retry-After"]) > 0
    assert "BANK_WEBHOOK_SECRETS holds no secret in base64" in caplog.text
    assert "none here either" not in caplog.text


@pytest.mark.parametrize("prefix", ["", "whsec_"])
@pytest.mark.parametrize(("age_seconds", "status"), [(0, 200), (299, 200), (301, 401), (-299, 200), (-301, 401)])
def test_standard_webhooks_are_held_to_five_minutes_both_ways(make_app, clock, prefix, age_seconds, status):
    secret = prefix + base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
    client = make_app(BANK_WEBHOOK_SECRETS=f"{SECRET},{secret}").test_client()
    headers, body = _standard(secret, clock.moment - timedelta(seconds=age_seconds))

    assert client.post(WEBHOOK, data=body, headers=headers).status_code == status


def test_standard_webhooks_signature_covers_its_id(make_app, clock):
    secret = base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
    client = make_app(BANK_WEBHOOK_SECRETS=secret).test_client()
    headers, body = _standard(secret, clock.moment)

    assert client.post(WEBHOOK, data=body, headers={**headers, "webhook-id": "msg_other"}).status_code == 401


def _standard(secret: str, moment) -> tuple[dict[str, str], bytes]:
    """Sign with the reference library, not with our own code."""
    body = make_body()
    signature = Webhook(secret).sign("msg_1", moment, body.decode())
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": signature,
        "Content-Type": "application/json",
    }
    return headers, body


def test_unknown_inn_is_created_by_default(bank, client, check_ledger):
    assert bank.send(payer_inn="7707083893").json["status"] == "credited"
    assert client.get("/api/v1/organizations/7707083893/").json["name"] == ""
    check_ledger()


def test_balance_that_would_pass_bigint_is_held_and_nothing_is_lost(bank, client, operator, check_ledger):
    bank.send(amount=2**63 - 1)

    answer = bank.send(amount=1)

    assert (answer.status_code, answer.json["status"]) == (202, "held")
    assert client.get(f"/api/v1/organizations/{INN}/balance/").json["balance"] == 2**63 - 1
    assert operator.get(f"/incidents/{answer.json['incident_id']}/").json["kind"] == "balance_limit"
    check_ledger()

"""Authentic bodies that cannot be used: 400 with a pointer to each field, kept as an incident, nothing else changed."""

import base64
import json

import pytest

from tests.factories import make_announcement, make_body

INTEGERS = ("145000", "145000.0", "1.45e5", "145000.00", "14500000e-2")


def raw(**members: str) -> bytes:
    """Write the sample with some members as this very JSON text."""
    texts = {
        "operation_id": '"ccf0a86d-041b-4991-bcf7-e2352f7b8a4a"',
        "amount": "145000",
        "payer_inn": '"1234567890"',
        "document_number": '"PAY-328"',
        "document_date": '"2024-04-27T21:00:00Z"',
        **members,
    }
    return ("{" + ", ".join(f'"{name}": {text}' for name, text in texts.items()) + "}").encode()


FIELDS = {
    "amount": [
        *("145000.5", '"145000"', "true", "false", "null", "0", "0.0", "-1", "-0.5", "0.1", "1e-3"),
        *("9223372036854775808", "1e19", "1" + "0" * 40, "1e40", "1e400", "1e999999", "-1e400", "[]", "{}", '""'),
        *("9223372036854775807.5", "1e-999999"),
    ],
    "payer_inn": [
        *('"123456789"', '"12345678901"', '"1234567890123"', '"12345 6789"', '" 1234567890"', '"1234567890 "'),
        *(
            '"123456789a"',
            '"１２３４５６７８９０"',
            '"²²²²²²²²²²"',
            "1234567890",
            '"1234567890\\n"',
            '""',
            "null",
            "[]",
        ),
    ],
    "operation_id": [
        *('"ccf0a86d-041b-4991-bcf7-e2352f7b8a4"', '"{ccf0a86d-041b-4991-bcf7-e2352f7b8a4a"', '"not a uuid"', '""'),
        *('"urn:uuid:ccf0a86d-041b-4991-bcf7-e2352f7b8a4a"', '"ccf0a86d_041b_4991_bcf7_e2352f7b8a4a"', "1", "null"),
        '"c-c-f-0-a86d041b4991bcf7e2352f7b8a4a"',
    ],
    "document_number": ['""', '"a\\u0000b"', '"a\\nb"', '"\\ud800"', f'"{"x" * 51}"', "328", "null", '["PAY-328"]'],
    "document_date": [
        *('"2024-04-27T21:00:00"', '"2024-04-27"', '"0001-01-01T00:00:00Z"', '"0001-01-01T00:00:00+23:59"'),
        *('"9999-12-31T23:59:59Z"', '"9999-12-31T23:59:59-23:59"', '"2016-12-31T23:59:60Z"', '"2024-02-30T00:00:00Z"'),
        *('"2024-W17-6T21:00:00Z"', '"20240427T210000Z"', '"2024-04-27T21:00:00+24:00"', "1714251600", "null", '""'),
        '"２024-04-27T21:00:00Z"',
    ],
    "currency": ['"USD"', '"rub"', "643", "null"],
}
FIELD_CASES = [(field, text) for field, texts in FIELDS.items() for text in texts]


@pytest.mark.parametrize(("field", "text"), FIELD_CASES, ids=[f"{field}={text[:40]}" for field, text in FIELD_CASES])
def test_field_that_cannot_be_used_is_pointed_at_and_kept(bank, operator, database, field, text):
    body = raw(**{field: text})

    answer = bank.push(body)

    assert answer.status_code == 400
    assert answer.content_type == "application/problem+json"
    assert [error["pointer"] for error in answer.json["errors"]] == [f"#/{field}"]
    _assert_kept_and_nothing_else(database, operator, body)


@pytest.mark.parametrize("field", make_announcement())
def test_missing_field_is_pointed_at(bank, operator, database, field):
    announcement = make_announcement()
    del announcement[field]
    body = json.dumps(announcement).encode()

    answer = bank.push(body)

    assert answer.status_code == 400
    assert [error["pointer"] for error in answer.json["errors"]] == [f"#/{field}"]
    _assert_kept_and_nothing_else(database, operator, body)


def test_every_bad_field_is_named_at_once(bank):
    answer = bank.push(b"{}")

    assert len(answer.json["errors"]) == 5


WHOLE_BODIES = {
    "empty": b"",
    "not JSON": b"amount=145000",
    "array": b"[" + make_body() + b"]",
    "empty array": b"[]",
    "string": b'"145000"',
    "null": b"null",
    "number": b"1",
    "3,000 nested arrays": b"[" * 3000 + b"]" * 3000,
    "3,000 nested arrays in an extra member": raw(extra="[" * 3000 + "]" * 3000),
    "3,000 nested objects": b'{"a":' * 3000 + b"1" + b"}" * 3000,
    "51 nested": raw(extra="[" * 50 + "]" * 50),
    "invalid UTF-8": raw(document_number='"PAY-\xff"').decode().encode("latin-1"),
    "UTF-16": raw().decode().encode("utf-16"),
    "byte order mark": b"\xef\xbb\xbf" + raw(),
    "NaN": raw(amount="NaN"),
    "Infinity": raw(amount="-Infinity"),
    "NaN in an extra member": raw(extra="NaN"),
    "duplicate key": raw()[:-1] + b', "amount": 1}',
    "duplicate key deep in an extra member": raw(extra='{"a": {"b": 1, "b": 2}}'),
    "number beyond all bounds": raw(extra="1e99999999999999999999"),
    "number of 5,000 digits": raw(amount="1" * 5000),
    "cut off": raw()[:-1],
    "two documents": raw() + raw(),
    "raw NUL": raw(document_number='"PAY\x00"'),
    "trailing NUL": raw() + b"\x00",
}


@pytest.mark.parametrize("body", WHOLE_BODIES.values(), ids=WHOLE_BODIES)
def test_body_that_cannot_be_read_is_kept(bank, operator, database, body):
    answer = bank.push(body)

    assert answer.status_code == 400
    assert answer.content_type == "application/problem+json"
    assert [error["pointer"] for error in answer.json["errors"]] == ["#"]
    _assert_kept_and_nothing_else(database, operator, body)


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "", "application/xml", "text/json"]
)
def test_other_content_type_is_refused_and_kept(bank, operator, database, content_type):
    body = raw()

    answer = bank.push(body, content_type=content_type)

    assert answer.status_code == 415
    assert answer.content_type == "application/problem+json"
    _assert_kept_and_nothing_else(database, operator, body)


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "APPLICATION/JSON", "application/bank+json"]
)
def test_every_spelling_of_json_is_accepted(bank, content_type):
    assert bank.push(raw(), content_type=content_type).status_code == 200


def test_fifty_nested_are_accepted(bank):
    assert bank.push(raw(extra="[" * 49 + "]" * 49)).status_code == 200


@pytest.mark.parametrize("text", INTEGERS)
def test_whole_number_in_any_spelling_is_the_same_amount(bank, client, check_ledger, text):
    assert bank.push(raw(amount=text)).json["status"] == "credited"
    assert client.get("/api/v1/organizations/1234567890/balance/").json["balance"] == 145000
    check_ledger()


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("amount", "1"),
        ("amount", "9223372036854775807"),
        ("payer_inn", '"500100732259"'),
        ("payer_inn", '"0000000000"'),
        ("document_number", f'"{"№" * 50}"'),
        ("document_number", '"💰 ’; DROP TABLE payments; --"'),
        ("document_number", '"null"'),
        ("document_date", '"1900-01-01T00:00:00Z"'),
        ("document_date", '"2999-12-31T23:59:59.999999Z"'),
        ("document_date", '"2024-04-28T00:00:00.123456789+03:00"'),
        ("document_date", '"2024-04-27t21:00:00z"'),
        ("currency", '"RUR"'),
    ],
)
def test_value_at_the_edge_is_accepted_and_comes_back_whole(bank, client, check_ledger, field, text):
    answer = bank.push(raw(**{field: text}))

    assert (answer.status_code, answer.json["status"]) == (200, "credited")
    assert bank.push(raw(**{field: text})).json["status"] == "duplicate"
    check_ledger()


def test_unusable_body_never_comes_back_in_the_answer(bank):
    answer = bank.push(raw(amount='"<script>alert(1)</script>"', extra='"secret words"'))

    assert "script" not in answer.text
    assert "secret" not in answer.text


def test_same_unusable_body_again_is_counted_not_repeated(bank, operator):
    bank.push(raw(amount="0"))
    bank.push(raw(amount="0"))
    bank.push(raw(amount="-1"))

    items = operator.get("/incidents/").json["items"]
    assert [incident["seen_count"] for incident in items] == [1, 2]


def test_corrected_body_is_credited_after_an_unusable_one(bank, check_ledger):
    bank.push(raw(amount="0"))

    assert bank.push(raw()).json["status"] == "credited"
    check_ledger()


def _assert_kept_and_nothing_else(database, operator, body: bytes) -> None:
    tables = database.rows()
    assert [tables[name] for name in ("organizations", "payments", "balance_log")] == [[], [], []]
    (incident,) = operator.get("/incidents/").json["items"]
    assert incident["kind"] == "unusable_body"
    assert base64.b64decode(incident["body_base64"]) == body
    assert incident["facts"]["errors"]

"""Receipts: the bank's answer says what was credited, signed, and the same at every repeat."""

import hashlib

import signing
from ledger import receipts
from tests.callers import Bank
from tests.factories import make_body

KEY = signing.new_private_key()


def parts(line):
    return dict(part.split("=", 1) for part in line.split("; "))


def test_receipt_is_signed_and_the_same_at_every_repeat(make_app, database, clock):
    bank, body = Bank(make_app(SEAL_KEY=KEY).test_client()), make_body()

    first = bank.push(body)
    clock.move(seconds=60)
    Bank(make_app(SEAL_KEY=KEY).test_client()).send()
    again = Bank(make_app(SEAL_KEY=KEY).test_client()).push(body)

    assert (first.json["status"], again.json["status"]) == ("credited", "duplicate")
    line = first.headers[receipts.HEADER]
    assert again.headers[receipts.HEADER] == line
    said, signature = line.split("; signature=")
    assert signing.document_holds(said.encode(), signature, signing.public_key(KEY))
    found = parts(line)
    assert found["operation"] == first.json["operation_id"]
    assert found["payment"] == first.json["payment_id"]
    assert found["body"] == hashlib.sha256(body).hexdigest()
    assert found["at"] == "2026-03-01T12:00:00Z"
    with database.unguarded() as connection:
        assert (
            connection.exec_driver_sql("SELECT row_sha256 FROM balance_log WHERE version = 1").scalar() == found["row"]
        )


def test_other_spelling_of_the_body_gets_the_receipt_of_the_first(make_app):
    bank, body = Bank(make_app(SEAL_KEY=KEY).test_client()), make_body()

    first, again = bank.push(body), bank.push(body.replace(b": ", b" : "))

    assert again.json["status"] == "duplicate"
    assert again.headers[receipts.HEADER] == first.headers[receipts.HEADER]


def test_what_is_not_counted_gets_none(make_app):
    bank, body = Bank(make_app(SEAL_KEY=KEY, UNKNOWN_INN="hold").test_client()), make_body()

    assert bank.push(body).status_code == 202
    assert receipts.HEADER not in bank.push(body).headers


def test_without_a_key_there_is_none(bank):
    assert receipts.HEADER not in bank.send().headers

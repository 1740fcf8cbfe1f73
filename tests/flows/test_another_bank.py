"""Another bank is one file: the one printed in docs/adding-a-bank.md, run as it stands there."""

import json
import re

import pytest

import banks
import signing
from banks.base import Bank as BankFormat
from config import ROOT
from tests.factories import INN, SECRET

PATH = "/api/v1/webhook/bank/example/"
OWN_SECRET = "the-secret-of-the-example-bank-alone-0123456789"
BODY = {"id": "AB/77-№1", "sum": "1450.00", "payer": INN, "order": "15", "at": "2024-04-28T00:00:00+03:00"}


@pytest.fixture
def example_client(make_app):
    """An app that knows the bank of the page; it is taken out of the registry again."""
    (code,) = re.findall(
        r"^```python\n(.*?)^```", (ROOT / "docs" / "adding-a-bank.md").read_text(), re.DOTALL | re.MULTILINE
    )
    namespace: dict[str, object] = {}
    exec(code, namespace)
    bank = namespace["ExampleBank"]()
    assert isinstance(bank, BankFormat)
    banks.BANKS[bank.name] = bank
    yield make_app(BANK_WEBHOOK_SECRETS_EXAMPLE=OWN_SECRET).test_client()
    del banks.BANKS[bank.name]


def push(client, *, secret: str = OWN_SECRET, **members: object):
    body = json.dumps({**BODY, **members}, ensure_ascii=False).encode()
    headers = {"X-Signature": signing.sign(body, secret), "Content-Type": "application/json"}
    return client.post(PATH, data=body, headers=headers)


def test_its_webhook_is_credited_once(example_client, check_ledger):
    assert push(example_client).json["status"] == "credited"
    assert push(example_client).json["status"] == "duplicate"

    (payment,) = example_client.get(f"/api/v1/organizations/{INN}/payments/").json["items"]
    assert (payment["amount"], payment["source"], payment["external_id"]) == (145000, "example", "AB/77-№1")
    assert payment["document_date"] == "2024-04-27T21:00:00Z"
    check_ledger()


def test_it_cannot_be_spoken_for_with_the_secret_of_another(example_client):
    assert push(example_client, secret=SECRET).status_code == 401


@pytest.mark.parametrize("amount", ["1450", "1450.5", "-1.00", "0.00", "1,00", 1450.00, "1.00\n"])
def test_its_bad_amounts_are_pointed_at(example_client, operator, amount):
    answer = push(example_client, sum=amount)

    assert [error["pointer"] for error in answer.json["errors"]] == ["#/sum"]
    (incident,) = operator.get("/incidents/").json["items"]
    assert (incident["kind"], incident["source"]) == ("unusable_body", "example")


def test_same_operation_id_from_two_banks_is_a_conflict(example_client, bank, check_ledger):
    operation_id = push(example_client).json["operation_id"]

    answer = bank.send(operation_id=operation_id, document_number="15", document_date="2024-04-27T21:00:00Z")

    assert answer.json["status"] == "conflict"
    check_ledger()


def test_bank_without_a_secret_of_its_own_stops_the_start(example_client, make_app):
    with pytest.raises(SystemExit, match="BANK_WEBHOOK_SECRETS_EXAMPLE is missing"):
        make_app()


def test_dry_run_speaks_its_format_too(example_client):
    body = json.dumps(BODY).encode()
    headers = {"X-Signature": signing.sign(body, OWN_SECRET), "Content-Type": "application/json"}

    answer = example_client.post("/api/v1/webhooks/verify/?bank=example", data=body, headers=headers).json

    assert (answer["outcome"], answer["balance_after"]) == ("credited", 145000)

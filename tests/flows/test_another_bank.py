"""Another bank is one file: the one printed in docs/adding-a-bank.md, run as it stands there."""

import json
import re
import uuid
from datetime import UTC, datetime

import pytest

import banks
import signing
from banks.base import Announcement
from banks.base import Bank as BankFormat
from config import ROOT
from tests.callers import Bank
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


def test_same_operation_id_from_two_banks_is_credited_to_each(example_client, make_app, check_ledger):
    operation_id = push(example_client).json["operation_id"]

    answer = Bank(example_client).send(operation_id=operation_id)

    assert answer.json["status"] == "credited"
    check_ledger()


class TestBounds:
    """A bank of one file may allow what the ledger cannot keep; Kopeck looks itself, and keeps an incident."""

    @pytest.fixture
    def push_any(self, make_app):
        """Push what a bank makes of a body without looking at it."""

        class AnyBank(BankFormat):
            name = "any"

            def read(self, body, *, content_type):
                said = json.loads(body)
                zone = UTC if said.get("zone", True) else None
                return Announcement(
                    operation_id=uuid.UUID(said["id"]),
                    amount=said["amount"],
                    payer_inn=said["inn"],
                    document_number=said["number"],
                    document_date=datetime.fromisoformat(said["at"]).replace(tzinfo=zone),
                    external_id=said["external"],
                )

        banks.BANKS["any"] = AnyBank()
        client = make_app(BANK_WEBHOOK_SECRETS_ANY=OWN_SECRET).test_client()
        sample = {"id": str(uuid.uuid4()), "amount": 1, "inn": INN, "number": "1", "at": "1900-01-01", "external": "7"}

        def push_any(**changed: object):
            body = json.dumps({**sample, **changed}).encode()
            headers = {"X-Signature": signing.sign(body, OWN_SECRET), "Content-Type": "application/json"}
            return client.post("/api/v1/webhook/bank/any/", data=body, headers=headers)

        yield push_any
        del banks.BANKS["any"]

    @pytest.mark.parametrize(
        "changed",
        [
            {"amount": 0},
            {"amount": -1},
            {"amount": 2**63},
            {"amount": 1.5},
            {"amount": True},
            {"inn": "12"},
            {"inn": "١٢٣٤٥٦٧٨٩٠"},
            {"number": ""},
            {"number": "x" * 51},
            {"number": "a\x00"},
            {"number": "\ud800"},
            {"at": "1899-12-31T23:59:59"},
            {"at": "3000-01-01"},
            {"zone": False},
            {"external": "x" * 256},
            {"external": "\x00"},
        ],
        ids=str,
    )
    def test_what_the_ledger_cannot_keep_is_an_incident(self, push_any, operator, database, changed):
        answer = push_any(**changed)

        assert (answer.status_code, answer.json["type"]) == (400, "urn:kopeck:problem:unusable-body")
        (incident,) = operator.get("/incidents/").json["items"]
        assert (incident["kind"], incident["source"]) == ("unusable_body", "any")
        assert database.count("payments") == 0

    @pytest.mark.parametrize(
        "changed",
        [{}, {"amount": 2**63 - 1}, {"number": "№" * 50}, {"external": "x" * 255}, {"external": None}],
        ids=str,
    )
    def test_what_is_within_bounds_is_credited(self, push_any, changed):
        assert push_any(**changed).json["status"] == "credited"


def test_bank_without_a_secret_of_its_own_stops_the_start(example_client, make_app):
    with pytest.raises(SystemExit, match="BANK_WEBHOOK_SECRETS_EXAMPLE is missing"):
        make_app()


def test_dry_run_speaks_its_format_too(example_client):
    body = json.dumps(BODY).encode()
    headers = {"X-Signature": signing.sign(body, OWN_SECRET), "Content-Type": "application/json"}

    answer = example_client.post("/api/v1/webhooks/verify/?bank=example", data=body, headers=headers).json

    assert (answer["outcome"], answer["balance_after"]) == ("credited", 145000)

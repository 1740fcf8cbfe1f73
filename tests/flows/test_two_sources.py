"""Each bank numbers its operations itself: what one has booked takes nothing from another that uses the same id."""

import uuid
from collections.abc import Callable, Iterator

import pytest
from flask import Flask

from banks.base import Bank as BankFormat
from database.session import transaction
from enums import IncidentKind, PostingStatus
from ledger import incidents, posting
from ledger.entries import Credit
from rules import Facts
from tests import sources
from tests.callers import Bank
from tests.factories import INN, OTHER_INN, START, make_body, make_credit, make_org
from tests.listeners import credit
from tests.sources import SECOND_PATH, SECOND_SECRET, SECOND_SETTINGS, SecondBank

NEXT = "ccf0a86d-041b-4991-bcf7-e2352f7b8a4a"
MILLION = 100_000_000


@pytest.fixture
def with_second(make_app) -> Iterator[Callable[..., Flask]]:
    """Make apps that know both banks."""
    with sources.registered():
        yield lambda **settings: make_app(**SECOND_SETTINGS, **settings)


@pytest.fixture
def app(with_second) -> Flask:
    return with_second()


class Second(Bank):
    """The second bank, at its own address."""

    def push(self, body, *, to=SECOND_PATH, **options):
        return super().push(body, to=to, **options)

    def send(self, *, to=SECOND_PATH, **members):
        return super().send(to=to, **members)


@pytest.fixture
def second(client) -> Second:
    return Second(client, SECOND_SECRET)


def payments(operator, inn: str = INN) -> set[tuple[str, int]]:
    found = operator.get(f"/organizations/{inn}/payments/").json["items"]
    return {(payment["source"], payment["amount"]) for payment in found}


def test_holder_of_one_secret_cannot_use_up_the_next_id_of_another_bank(bank, second, operator, check_ledger):
    assert bank.send(operation_id=NEXT, amount=1, payer_inn=OTHER_INN).json["status"] == "credited"

    answer = second.send(operation_id=NEXT, amount=MILLION)

    assert (answer.status_code, answer.json["status"]) == (200, "credited")
    assert operator.get(f"/organizations/{INN}/balance/").json["balance"] == MILLION
    assert operator.get(f"/organizations/{OTHER_INN}/balance/").json["balance"] == 1
    assert operator.get("/incidents/").json["items"] == []
    check_ledger()


def test_each_bank_has_its_own_repeats_and_conflicts(bank, second, operator, check_ledger):
    body = make_body(operation_id=NEXT, amount=5)
    answers = [sender.push(body).json for sender in (bank, second, bank, second)]
    conflict = second.push(body.replace(b"145000", b"6").replace(b'"amount": 5', b'"amount": 6')).json

    assert [answer["status"] for answer in answers] == ["credited", "credited", "duplicate", "duplicate"]
    assert answers[0]["payment_id"] == answers[2]["payment_id"] != answers[1]["payment_id"] == answers[3]["payment_id"]
    assert (conflict["status"], conflict["payment_id"]) == ("conflict", answers[1]["payment_id"])
    (incident,) = operator.get("/incidents/").json["items"]
    assert (incident["source"], incident["facts"]["recorded"]["source"]) == ("second", "second")
    assert payments(operator) == {("plain", 5), ("second", 5)}
    check_ledger()


def test_dry_run_knows_whose_operation_it_is(bank, second, client):
    body = make_body(operation_id=NEXT)
    bank.push(body)

    of_second = second.push(body, to="/api/v1/webhooks/verify/?bank=second").json
    of_plain = bank.push(body, to="/api/v1/webhooks/verify/").json

    assert (of_second["outcome"], of_second["balance_after"]) == ("credited", 290000)
    assert (of_plain["outcome"], of_plain["balance_after"]) == ("duplicate", 145000)


def make_second_credit(**options: object) -> Credit:
    made = vars(make_credit(**options))
    return Credit(**{**made, "facts": Facts(*("second", *made["facts"][1:]))})


def test_one_transaction_holds_the_same_ids_of_several_sources(context, database, check_ledger):
    ids = [uuid.uuid4() for _ in range(20)]
    mine = [make_credit(operation_id=id_, amount=1) for id_ in ids]
    theirs = [make_second_credit(operation_id=id_, amount=2) for id_ in reversed(ids)]

    with transaction() as session:
        outcomes = posting.post(session, [*mine, *theirs, *mine, *theirs])

    assert [outcome.status for outcome in outcomes] == [PostingStatus.CREDITED] * 40 + [PostingStatus.DUPLICATE] * 40
    assert all(outcome.first.facts.source == "plain" for outcome in [*outcomes[:20], *outcomes[40:60]])
    assert database.count("payments") == 40


def test_posting_again_finds_each_source_its_own_payment(context, database):
    id_ = uuid.uuid4()
    pair = [make_credit(operation_id=id_, amount=1), make_second_credit(operation_id=id_, amount=2)]
    with transaction() as session:
        first = posting.post(session, pair)
    with transaction() as session:
        again = posting.post(session, [*reversed(pair), make_credit(operation_id=id_, amount=3)])

    assert [outcome.status for outcome in again] == ["duplicate", "duplicate", "conflict"]
    assert [outcome.first.id for outcome in again] == [
        first[1].first.id,
        *[first[0].first.id] * 2,
    ]


def test_one_batch_of_the_inbox_credits_both(with_second, operator, check_ledger):
    queued = with_second(BALANCE_UPDATES="queued")
    body = make_body(operation_id=NEXT, amount=5)
    Bank(queued.test_client()).push(body)
    Second(queued.test_client(), SECOND_SECRET).push(body)

    assert credit(queued) == 2

    assert payments(operator) == {("plain", 5), ("second", 5)}
    check_ledger()


def test_held_money_is_kept_and_seen_by_source(with_second, operator, check_ledger):
    holding = with_second(UNKNOWN_INN="hold").test_client()
    bank, second = Bank(holding), Second(holding, SECOND_SECRET)
    body = make_body(operation_id=NEXT)
    for sender in (bank, second, second):
        assert sender.push(body).status_code == 202

    theirs, mine = operator.get("/incidents/").json["items"]

    assert (mine["source"], mine["seen_count"], theirs["source"], theirs["seen_count"]) == ("plain", 1, "second", 2)
    # What is resolved uncredited opens again, though the other bank's operation of this id is credited.
    operator.post(f"/incidents/{theirs['id']}/resolve/", resolution="they take it back")
    operator.post("/organizations/", inn=OTHER_INN)
    assert operator.post(f"/incidents/{mine['id']}/assign/", inn=OTHER_INN).status_code == 200
    second.push(body)
    assert [incident["id"] for incident in operator.get("/incidents/").json["items"]] == [theirs["id"]]
    check_ledger()


def test_statements_name_the_source_beside_the_operation(bank, second, operator, app):
    for sender in (bank, second):
        sender.send(operation_id=NEXT)

    entries = operator.get(f"/organizations/{INN}/log/").json["items"]
    csv = operator.get(f"/organizations/{INN}/log/", format="csv").text.splitlines()
    printed = app.test_cli_runner().invoke(args=["ledger", "statement", INN]).output

    assert [(entry["operation_id"], entry["source"]) for entry in entries] == [(NEXT, "second"), (NEXT, "plain")]
    assert "source" in csv[0].split(",")
    assert ("second" in csv[1], "plain" in csv[2]) == (True, True)
    assert [line.split()[-2:] for line in printed.splitlines()[1:]] == [["second", NEXT], ["plain", NEXT]]


@pytest.mark.parametrize("name", ["a", "b", "a:b"])
def test_equal_ids_of_banks_without_uuids_are_apart(name):
    class Other(BankFormat):
        def read(self, body, *, content_type):
            raise NotImplementedError

    Other.name = name
    SecondBank().operation_uuid("1")
    assert Other().operation_uuid("7") != SecondBank().operation_uuid("7")
    assert Other().operation_uuid("7") == Other().operation_uuid("7")


class TestOlderConflict:
    """A conflict of two sources, as versions recorded it that took their operations for one."""

    @pytest.fixture
    def conflict(self, app, bank) -> int:
        """Book the plain bank's kopeck; return the number of the incident that held the second one's million."""
        bank.send(operation_id=NEXT, amount=1)
        body = make_body(operation_id=NEXT, amount=MILLION)
        announced = {
            "source": "second",
            "amount": MILLION,
            "payer_inn": INN,
            "document_number": "PAY-328",
            "document_date": "2024-04-27T21:00:00Z",
        }
        recorded = {**announced, "source": "plain", "amount": 1}
        facts = {"announced": announced, "external_id": None, "recorded": recorded, "payment_id": NEXT}
        with app.app_context(), transaction() as session:
            return incidents.record(
                session,
                IncidentKind.CONFLICT,
                source="second",
                operation_id=uuid.UUID(NEXT),
                facts=facts,
                body=body,
                key_id="k",
                now=START,
            )

    def test_its_money_can_be_assigned_once(self, conflict, second, operator, check_ledger):
        answer = operator.post(f"/incidents/{conflict}/assign/", inn=INN)
        again = operator.post(f"/incidents/{conflict}/assign/", inn=INN)

        assert (answer.status_code, answer.json["status"]) == (200, "credited")
        assert again.status_code == 409
        assert payments(operator) == {("plain", 1), ("second", MILLION)}
        # The bank may go on repeating it.
        assert second.send(operation_id=NEXT, amount=MILLION).json["status"] == "duplicate"
        check_ledger()

    def test_it_can_be_assigned_from_the_shell_too(self, conflict, app, operator, check_ledger):
        with app.app_context():
            make_org(OTHER_INN)

        result = app.test_cli_runner().invoke(args=["incidents", "assign", str(conflict), OTHER_INN])

        assert (result.exit_code, payments(operator, OTHER_INN)) == (0, {("second", MILLION)})
        check_ledger()

    def test_what_the_bank_has_repeated_since_is_not_credited_again(self, conflict, second, operator, check_ledger):
        assert second.send(operation_id=NEXT, amount=MILLION).json["status"] == "credited"

        answer = operator.post(f"/incidents/{conflict}/assign/", inn=INN)

        assert (answer.status_code, answer.json["type"]) == (409, "urn:kopeck:problem:incident-not-assignable")
        assert payments(operator) == {("plain", 1), ("second", MILLION)}
        check_ledger()

    def test_conflict_within_one_source_cannot_be_assigned(self, bank, operator, check_ledger):
        bank.send(operation_id=NEXT, amount=1)
        incident_id = bank.send(operation_id=NEXT, amount=2).json["incident_id"]

        answer = operator.post(f"/incidents/{incident_id}/assign/", inn=INN)

        assert (answer.status_code, answer.json["type"]) == (409, "urn:kopeck:problem:incident-not-assignable")
        assert operator.get(f"/incidents/{incident_id}/").json["resolved_at"] is None
        assert payments(operator) == {("plain", 1)}
        check_ledger()

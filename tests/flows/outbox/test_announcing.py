"""One credit, one event, and a delivery of it for every endpoint that listens."""

import json

from tests.callers import Bank
from tests.factories import INN, OTHER_INN, START, make_body, make_org
from tests.listeners import NOBODY, bodies, deliver, deliveries, members, subscribe


class TestAnnouncing:
    def test_one_credit_is_one_event_for_each_endpoint_that_listens(self, operator, bank, database, check_ledger):
        everybody = [subscribe(operator, NOBODY)["id"] for _ in range(2)]

        bank.send()

        assert members(deliveries(operator), "endpoint_id", "status", "attempt_count", "version") == [
            (everybody[0], "pending", 0, 1),
            (everybody[1], "pending", 0, 1),
        ]
        assert (database.count("events"), database.count("deliveries")) == (1, 2)
        check_ledger()

    def test_nothing_is_written_when_nobody_listens(self, operator, bank, database, context, check_ledger):
        make_org(OTHER_INN)
        subscribe(operator, NOBODY, organization=OTHER_INN)
        disabled = subscribe(operator, NOBODY)["id"]
        operator.post(f"/endpoints/{disabled}/disable/")

        assert bank.send(payer_inn=INN).json["status"] == "credited"

        assert (database.count("events"), database.count("deliveries")) == (0, 0)
        check_ledger()

    def test_duplicate_and_conflict_announce_nothing(self, operator, bank, database, check_ledger, endpoint_id):
        body = make_body(amount=1000)
        bank.push(body)

        assert bank.push(body).json["status"] == "duplicate"
        assert bank.push(body.replace(b"1000", b"2000")).json["status"] == "conflict"

        assert (database.count("events"), database.count("deliveries")) == (1, 1)
        check_ledger()

    def test_money_that_is_held_or_cannot_be_used_announces_nothing(
        self, make_app, operator, bank, database, check_ledger, endpoint_id
    ):
        holding = Bank(make_app(UNKNOWN_INN="hold").test_client())

        assert holding.send(payer_inn=OTHER_INN).json["status"] == "held"
        assert bank.send(amount=0).status_code == 400
        bank.send(amount=2**63 - 1)
        assert bank.send(amount=1).json["status"] == "held"

        assert (database.count("events"), database.count("deliveries")) == (1, 1)
        check_ledger()

    def test_money_that_a_person_assigned_is_announced_too(
        self, make_app, operator, app, receiver, context, check_ledger, endpoint_id
    ):
        held = Bank(make_app(UNKNOWN_INN="hold").test_client()).send(amount=7).json
        make_org(OTHER_INN)
        assert operator.post(f"/incidents/{held['incident_id']}/assign/", inn=OTHER_INN).status_code == 200

        deliver(app)

        (body,) = bodies(receiver)
        assert (body["data"]["organization"], body["data"]["payer_inn"], body["data"]["amount"]) == (OTHER_INN, INN, 7)
        assert body["data"]["operation_id"] == held["operation_id"]
        (listed,) = operator.get("/events/", organization=OTHER_INN).json["items"]
        assert listed == body
        check_ledger()

    def test_body_is_what_the_document_says(self, operator, bank, app, receiver, endpoint_id):
        operation_id = "ccf0a86d-041b-4991-bcf7-e2352f7b8a4a"
        credited = bank.send(operation_id=operation_id, document_number="ПЛ «7» \u2028").json

        deliver(app)

        (request,) = receiver.received
        assert request.headers["content-type"] == "application/json"
        body = json.loads(request.body)
        assert body == {
            "id": request.headers["webhook-id"],
            "type": "balance.credited",
            "timestamp": "2026-03-01T12:00:00Z",
            "data": {
                "organization": INN,
                "payment_id": credited["payment_id"],
                "operation_id": operation_id,
                "amount": 145000,
                "delta": 145000,
                "balance_before": 0,
                "balance_after": 145000,
                "version": 1,
                "currency": "RUB",
                "payer_inn": INN,
                "document_number": "ПЛ «7» \u2028",
                "document_date": "2024-04-27T21:00:00Z",
                "source": "plain",
            },
        }
        assert int(request.headers["webhook-timestamp"]) == START.timestamp()

    def test_versions_have_no_gap_and_balances_join_up(self, operator, bank, app, receiver, check_ledger, endpoint_id):
        for amount in (5, 1, 2**62, 7):
            bank.send(amount=amount)
        deliver(app)

        moves = sorted((body["data"] for body in bodies(receiver)), key=lambda data: data["version"])
        assert [data["version"] for data in moves] == [1, 2, 3, 4]
        assert [data["delta"] for data in moves] == [5, 1, 2**62, 7]
        afters = [data["balance_after"] for data in moves]
        assert [data["balance_before"] for data in moves] == [0, *afters[:-1]]
        assert afters == [5, 6, 2**62 + 6, 2**62 + 13]
        check_ledger()


class TestWhoHears:
    def test_endpoint_of_an_organisation_hears_of_that_one_alone(self, operator, bank, app, context, receiver):
        make_org(OTHER_INN)
        everything = subscribe(operator, receiver.url)
        mine = subscribe(operator, receiver.url, organization=OTHER_INN)

        bank.send(payer_inn=INN)
        bank.send(payer_inn=OTHER_INN)

        assert members(deliveries(operator), "endpoint_id", "organization") == [
            (everything["id"], INN),
            (everything["id"], OTHER_INN),
            (mine["id"], OTHER_INN),
        ]

    def test_filter_that_names_the_event_lets_it_through(self, operator, bank, app, receiver):
        subscribe(operator, receiver.url, event_types=["balance.credited"])

        bank.send()
        deliver(app)

        assert [body["type"] for body in bodies(receiver)] == ["balance.credited"]

    def test_endpoint_hears_of_nothing_that_came_before_it(self, operator, bank, database, receiver):
        bank.send()
        subscribe(operator, receiver.url)

        assert database.count("deliveries") == 0

"""An endpoint that wants order: no move before the one that came before it."""

import json

from tests.factories import INN, OTHER_INN
from tests.listeners import amounts, answering, bodies, deliver, deliveries, members, moment, subscribe
from tests.receivers import Answer, ReceivedRequest


class TestOrdered:
    def test_order_of_versions_is_kept_when_the_first_one_fails(self, operator, bank, app, clock, receiver):
        subscribe(operator, receiver.url, ordered=True)
        receiver.answer = answering(500)
        for amount in (1, 2, 3):
            bank.send(amount=amount)

        deliver(app)
        assert amounts(receiver) == [1]
        clock.move(seconds=6)
        deliver(app)

        assert amounts(receiver) == [1, 1, 2, 3]
        assert members(deliveries(operator), "version", "status", "attempt_count") == [
            (1, "delivered", 2),
            (2, "delivered", 1),
            (3, "delivered", 1),
        ]

    def test_one_organisation_does_not_hold_up_another(self, operator, bank, app, receiver):
        subscribe(operator, receiver.url, ordered=True)

        def answer(request: ReceivedRequest) -> Answer:
            return (500 if json.loads(request.body)["data"]["organization"] == INN else 200), {}, b""

        receiver.answer = answer
        for inn in (INN, INN, OTHER_INN, OTHER_INN):
            bank.send(payer_inn=inn)
        deliver(app)

        received = [(body["data"]["organization"], body["data"]["version"]) for body in bodies(receiver)]
        assert [version for inn, version in received if inn == INN] == [1]
        assert [version for inn, version in received if inn == OTHER_INN] == [1, 2]

    def test_one_that_is_exhausted_lets_the_next_one_go(self, operator, bank, app, clock, receiver):
        subscribe(operator, receiver.url, ordered=True)

        def answer(request: ReceivedRequest) -> Answer:
            return (500 if json.loads(request.body)["data"]["version"] == 1 else 200), {}, b""

        receiver.answer = answer
        bank.send()
        bank.send()
        deliver(app)
        while (due_at := deliveries(operator)[0]["due_at"]) is not None:
            assert len(receiver.received) == deliveries(operator)[0]["attempt_count"]
            clock.moment = moment(due_at)
            deliver(app)

        assert members(deliveries(operator), "version", "status", "attempt_count") == [
            (1, "exhausted", 10),
            (2, "delivered", 1),
        ]

    def test_ping_waits_for_no_organisation(self, operator, bank, app, receiver):
        endpoint_id = subscribe(operator, receiver.url, ordered=True)["id"]
        receiver.answer = answering(500)
        bank.send()
        deliver(app)

        operator.post(f"/endpoints/{endpoint_id}/ping/")
        deliver(app)

        assert bodies(receiver)[-1]["type"] == "ping"

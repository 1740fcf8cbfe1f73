"""A ping: an event that says nothing, for one endpoint alone."""

from tests.factories import INN
from tests.listeners import answering, bodies, deliver, deliveries, members, subscribe
from tests.receivers import Receiver


class TestPing:
    def test_ping_is_queued_delivered_and_to_be_looked_at(self, operator, app, receiver):
        endpoint_id = subscribe(operator, receiver.url, event_types=["balance.credited"])["id"]

        queued = operator.post(f"/endpoints/{endpoint_id}/ping/")
        deliver(app)

        assert queued.status_code == 202
        delivery = operator.get(f"/deliveries/{queued.json['id']}/").json
        (body,) = bodies(receiver)
        assert body == {
            "id": delivery["event_id"],
            "type": "ping",
            "timestamp": "2026-03-01T12:00:00Z",
            "data": {"endpoint": endpoint_id},
        }
        assert (delivery["event_type"], delivery["organization"], delivery["version"]) == ("ping", None, None)
        assert members(delivery["attempts"], "number", "cause", "status_code", "excerpt") == [(1, "manual", 200, "ok")]

    def test_ping_that_fails_is_tried_again_by_the_schedule_and_not_at_once(self, operator, app, clock, receiver):
        receiver.answer = answering(500)
        endpoint_id = subscribe(operator, receiver.url)["id"]
        operator.post(f"/endpoints/{endpoint_id}/ping/")

        deliver(app)
        deliver(app)
        assert len(receiver.received) == 1
        clock.move(seconds=6)
        deliver(app)

        (delivery,) = deliveries(operator)
        assert (delivery["status"], delivery["attempt_count"]) == ("delivered", 2)

    def test_ping_goes_to_its_own_endpoint_alone(self, operator, app, receiver):
        pinged = subscribe(operator, receiver.url)["id"]
        with Receiver() as another:
            subscribe(operator, another.url)
            operator.post(f"/endpoints/{pinged}/ping/")
            deliver(app)

            assert (len(receiver.received), len(another.received)) == (1, 0)

    def test_disabled_endpoint_is_not_pinged(self, operator, database, receiver):
        endpoint_id = subscribe(operator, receiver.url)["id"]
        operator.post(f"/endpoints/{endpoint_id}/disable/")

        answer = operator.post(f"/endpoints/{endpoint_id}/ping/")

        assert (answer.status_code, answer.json["type"]) == (409, "urn:kopeck:problem:endpoint-disabled")
        assert database.count("events") == 0

    def test_ping_is_in_no_list_of_an_organisation(self, operator, bank, app, receiver):
        endpoint_id = subscribe(operator, receiver.url)["id"]
        bank.send()
        operator.post(f"/endpoints/{endpoint_id}/ping/")
        deliver(app)

        assert len(deliveries(operator)) == 2
        assert len(deliveries(operator, organization=INN)) == 1
        assert len(operator.get("/events/", organization=INN).json["items"]) == 1

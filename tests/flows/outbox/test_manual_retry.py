"""A person asks for one more attempt, and the schedule goes on as if nobody had."""

from datetime import timedelta

import pytest

from tests.listeners import always, answering, bodies, deliver, moment, only_delivery, statuses
from tests.receivers import Answer, ReceivedRequest


class TestRetryByAPerson:
    @pytest.fixture
    def failed(self, operator, bank, app, receiver, endpoint_id):
        """A delivery that has failed once, and is due again in five seconds or so."""
        receiver.answer = answering(500)
        bank.send()
        deliver(app)
        return only_delivery(operator)

    def test_delivery_is_tried_at_once(self, operator, app, receiver, failed):
        answer = operator.post(f"/deliveries/{failed['id']}/retry/")
        deliver(app)

        assert (answer.status_code, answer.json) == (202, {"id": failed["id"]})
        delivery = only_delivery(operator)
        assert (delivery["status"], delivery["due_at"]) == ("delivered", None)
        assert statuses(delivery) == [(1, "schedule", 500), (2, "manual", 200)]

    def test_failure_does_not_shift_the_schedule_of_a_pending_delivery(self, operator, app, clock, receiver, failed):
        receiver.answer = answering(500, 500)
        clock.move(seconds=1)
        operator.post(f"/deliveries/{failed['id']}/retry/")
        deliver(app)
        assert only_delivery(operator)["due_at"] == failed["due_at"]

        clock.moment = moment(failed["due_at"])
        deliver(app)

        delivery = only_delivery(operator)
        assert statuses(delivery) == [(1, "schedule", 500), (2, "manual", 500), (3, "schedule", 500)]
        # The second failure of the schedule, not the third: 5 minutes, a tenth more or less.
        assert timedelta(seconds=270) <= moment(delivery["due_at"]) - clock() <= timedelta(seconds=330)

    def test_asking_to_wait_does_not_shift_the_schedule_when_a_person_asked(self, operator, app, receiver, failed):
        receiver.answer = always(429, {"Retry-After": "3600"})
        operator.post(f"/deliveries/{failed['id']}/retry/")
        deliver(app)

        assert only_delivery(operator)["due_at"] == failed["due_at"]

    def test_exhausted_delivery_stays_exhausted_when_it_fails_and_is_delivered_when_not(
        self, operator, app, clock, receiver, failed
    ):
        receiver.answer = always(500)
        while (due_at := only_delivery(operator)["due_at"]) is not None:
            clock.moment = moment(due_at)
            deliver(app)
        settled_at = only_delivery(operator)["settled_at"]
        clock.move(hours=1)

        operator.post(f"/deliveries/{failed['id']}/retry/")
        deliver(app)
        delivery = only_delivery(operator)
        assert (delivery["status"], delivery["due_at"], delivery["settled_at"]) == ("exhausted", None, settled_at)
        assert statuses(delivery)[-2:] == [(10, "schedule", 500), (11, "manual", 500)]
        clock.move(days=30)
        assert deliver(app) == 0

        receiver.answer = always(200)
        operator.post(f"/deliveries/{failed['id']}/retry/")
        deliver(app)
        assert only_delivery(operator)["status"] == "delivered"

    def test_delivered_stays_delivered_whatever_comes_back_now(self, operator, app, clock, receiver, failed):
        clock.moment = moment(failed["due_at"])
        deliver(app)
        settled_at = only_delivery(operator)["settled_at"]
        clock.move(hours=1)
        receiver.answer = always(500)

        assert operator.post(f"/deliveries/{failed['id']}/retry/").status_code == 202
        deliver(app)

        delivery = only_delivery(operator)
        assert (delivery["status"], delivery["due_at"], delivery["settled_at"]) == ("delivered", None, settled_at)
        assert statuses(delivery)[-1] == (3, "manual", 500)
        clock.move(days=30)
        assert deliver(app) == 0

    def test_event_that_comes_again_has_the_id_that_it_had(self, operator, app, receiver, failed):
        operator.post(f"/deliveries/{failed['id']}/retry/")
        deliver(app)
        operator.post(f"/deliveries/{failed['id']}/retry/")
        deliver(app)

        assert len(receiver.received) == 3
        assert {body["id"] for body in bodies(receiver)} == {failed["event_id"]}

    def test_delivery_that_is_being_tried_is_not_tried_beside_that(self, operator, app, receiver, failed):
        path, answers = f"/deliveries/{failed['id']}/retry/", []

        def answer(_request: ReceivedRequest) -> Answer:
            answers.append(operator.post(path))
            return 500, {}, b""

        receiver.answer = answer
        assert operator.post(path).status_code == 202
        deliver(app)

        (refused,) = answers
        assert (refused.status_code, refused.json["type"]) == (409, "urn:kopeck:problem:delivery-under-way")
        assert len(receiver.received) == 2
        assert operator.post(path).status_code == 202

    def test_delivery_to_a_disabled_endpoint_is_refused(self, operator, app, receiver, failed, endpoint_id):
        operator.post(f"/endpoints/{endpoint_id}/disable/")

        answer = operator.post(f"/deliveries/{failed['id']}/retry/")
        deliver(app)

        assert (answer.status_code, answer.json["type"]) == (409, "urn:kopeck:problem:endpoint-disabled")
        assert len(receiver.received) == 1

    def test_delivery_to_an_endpoint_that_was_deleted_is_refused(self, operator, failed, endpoint_id):
        operator.delete(f"/endpoints/{endpoint_id}/")

        assert operator.post(f"/deliveries/{failed['id']}/retry/").status_code == 409

    def test_unknown_delivery_is_not_found(self, operator):
        for answer in (operator.post("/deliveries/999/retry/"), operator.get("/deliveries/999/")):
            assert (answer.status_code, answer.json["type"]) == (404, "urn:kopeck:problem:delivery-unknown")

"""What becomes of events while an endpoint is disabled, and after it is enabled."""

from datetime import timedelta

from tests.listeners import answering, bodies, deliver, deliveries, members, moment, only_delivery, replay
from tests.receivers import ReceivedRequest


class TestDisable:
    def test_disabled_endpoint_hears_nothing_until_it_is_enabled(self, operator, bank, app, receiver, endpoint_id):
        bank.send(amount=1)

        disabled = operator.post(f"/endpoints/{endpoint_id}/disable/")
        deliver(app)

        assert disabled.status_code == 200
        assert (disabled.json["disabled_at"], disabled.json["disabled_because"]) == ("2026-03-01T12:00:00Z", "manual")
        assert receiver.received == []
        assert members(deliveries(operator), "status", "due_at", "attempt_count") == [("paused", None, 0)]

        enabled = operator.post(f"/endpoints/{endpoint_id}/enable/")
        deliver(app)

        assert (enabled.status_code, enabled.json["disabled_at"], enabled.json["disabled_because"]) == (200, None, None)
        assert [body["data"]["amount"] for body in bodies(receiver)] == [1]
        assert members(deliveries(operator), "status", "attempt_count") == [("delivered", 1)]

    def test_what_happens_meanwhile_comes_with_a_replay_only(
        self, operator, bank, app, database, receiver, endpoint_id
    ):
        operator.post(f"/endpoints/{endpoint_id}/disable/")
        bank.send(amount=2)
        assert (database.count("events"), database.count("deliveries")) == (0, 0)
        operator.post(f"/endpoints/{endpoint_id}/enable/")
        deliver(app)
        assert receiver.received == []

        operator.post(f"/endpoints/{endpoint_id}/replays/", since="2026-03-01T12:00:00Z")
        replay(app)
        deliver(app)

        assert [body["data"]["amount"] for body in bodies(receiver)] == [2]

    def test_paused_delivery_goes_on_with_its_schedule_where_it_was(
        self, operator, bank, app, clock, receiver, endpoint_id
    ):
        receiver.answer = answering(500, 500, 500)
        bank.send()
        deliver(app)
        clock.move(seconds=6)
        deliver(app)
        operator.post(f"/endpoints/{endpoint_id}/disable/")
        clock.move(hours=1)
        deliver(app)
        assert only_delivery(operator)["status"] == "paused"
        operator.post(f"/endpoints/{endpoint_id}/enable/")

        deliver(app)

        delivery = only_delivery(operator)
        assert (delivery["status"], delivery["attempt_count"]) == ("pending", 3)
        # The third failure: 30 minutes, a tenth more or less.
        wait = moment(delivery["due_at"]) - clock()
        assert timedelta(minutes=27) <= wait <= timedelta(minutes=33)

    def test_delivery_under_way_when_the_endpoint_is_disabled_is_still_counted(
        self, operator, bank, app, receiver, endpoint_id
    ):
        def answer(_request: ReceivedRequest):
            assert operator.post(f"/endpoints/{endpoint_id}/disable/").status_code == 200
            return 200, {}, b""

        receiver.answer = answer
        bank.send()
        deliver(app)

        assert members(deliveries(operator), "status", "attempt_count") == [("delivered", 1)]
        assert operator.get(f"/endpoints/{endpoint_id}/").json["disabled_because"] == "manual"

    def test_disabling_and_enabling_twice_changes_nothing_more(self, operator, clock, endpoint_id):
        first = operator.post(f"/endpoints/{endpoint_id}/disable/").json
        clock.move(hours=1)
        assert operator.post(f"/endpoints/{endpoint_id}/disable/").json == first

        enabled = operator.post(f"/endpoints/{endpoint_id}/enable/").json
        assert operator.post(f"/endpoints/{endpoint_id}/enable/").json == enabled

    def test_person_who_disables_opens_no_incident(self, operator, endpoint_id):
        operator.post(f"/endpoints/{endpoint_id}/disable/")

        assert operator.get("/incidents/", state="all").json["items"] == []

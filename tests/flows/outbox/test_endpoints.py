"""Endpoints are listed and deleted, and what was sent to them stays to be read."""

from tests.listeners import ELSEWHERE, deliver, deliveries, members, subscribe


class TestListAndDelete:
    def test_endpoints_come_in_pages_the_oldest_first(self, operator):
        ids = [subscribe(operator, ELSEWHERE)["id"] for _ in range(3)]

        first = operator.get("/endpoints/", limit=2).json
        second = operator.get("/endpoints/", limit=2, cursor=first["next"]).json

        assert [row["id"] for row in first["items"]] == ids[:2]
        assert ([row["id"] for row in second["items"]], second["next"]) == (ids[2:], None)

    def test_endpoint_that_was_deleted_is_gone_and_its_deliveries_are_readable(
        self, operator, bank, app, database, receiver
    ):
        endpoint_id = subscribe(operator, receiver.url)["id"]
        bank.send()
        deliver(app)
        bank.send()

        deleted = operator.delete(f"/endpoints/{endpoint_id}/")

        assert (deleted.status_code, deleted.data) == (204, b"")
        assert operator.get("/endpoints/").json == {"items": [], "next": None}
        deliver(app)
        assert len(receiver.received) == 1
        assert members(deliveries(operator, endpoint=endpoint_id), "status", "attempt_count") == [
            ("delivered", 1),
            ("paused", 0),
        ]
        delivered = operator.get(f"/deliveries/{deliveries(operator)[0]['id']}/").json
        assert members(delivered["attempts"], "number", "status_code") == [(1, 200)]

    def test_endpoint_that_was_deleted_answers_404_everywhere(self, operator, receiver):
        endpoint_id = subscribe(operator, receiver.url)["id"]
        operator.delete(f"/endpoints/{endpoint_id}/")

        answers = [
            operator.get(f"/endpoints/{endpoint_id}/"),
            operator.delete(f"/endpoints/{endpoint_id}/"),
            *(operator.post(f"/endpoints/{endpoint_id}/{verb}/") for verb in ("ping", "disable", "enable", "rotate")),
            operator.post(f"/endpoints/{endpoint_id}/replays/", since="2026-01-01T00:00:00Z"),
        ]

        for answer in answers:
            assert (answer.status_code, answer.json["type"]) == (404, "urn:kopeck:problem:endpoint-unknown")

    def test_endpoint_that_never_was_answers_404_everywhere(self, operator):
        assert operator.get("/endpoints/999/").status_code == 404
        assert operator.delete("/endpoints/999/").status_code == 404
        for verb in ("ping", "disable", "enable", "rotate"):
            assert operator.post(f"/endpoints/999/{verb}/").status_code == 404
        assert operator.post("/endpoints/999/replays/", since="2026-01-01T00:00:00Z").status_code == 404
        assert operator.get("/endpoints/999/replays/1/").status_code == 404

    def test_secrets_of_an_endpoint_that_was_deleted_are_wiped(self, operator, database):
        endpoint_id = subscribe(operator, ELSEWHERE)["id"]
        encrypted = [cell for row in database.rows()["endpoints"] for cell in row if str(cell).startswith("a1.")]
        assert len(encrypted) == 1

        operator.delete(f"/endpoints/{endpoint_id}/")

        assert encrypted[0] not in str(database.rows())

    def test_money_goes_on_when_the_only_endpoint_was_deleted(self, operator, bank, database, check_ledger):
        operator.delete(f"/endpoints/{subscribe(operator, ELSEWHERE)['id']}/")

        assert bank.send().json["status"] == "credited"
        assert (database.count("events"), database.count("deliveries")) == (0, 0)
        check_ledger()

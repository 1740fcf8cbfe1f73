"""The list of deliveries: filters, pages, and queries that cannot be read."""

import pytest

from tests.factories import INN, OTHER_INN
from tests.listeners import NOBODY, deliver, deliveries, members, subscribe


class TestList:
    @pytest.fixture
    def four_deliveries(self, operator, bank, app, receiver, endpoint_id):
        """Four deliveries: two organisations, two endpoints, one delivered and one failed at each."""
        broken = subscribe(operator, NOBODY)["id"]
        bank.send(payer_inn=INN)
        bank.send(payer_inn=OTHER_INN)
        deliver(app)
        return endpoint_id, broken

    def test_each_filter_narrows_the_list(self, operator, four_deliveries):
        well, broken = four_deliveries
        everything = deliveries(operator)
        event_id = everything[0]["event_id"]

        assert len(everything) == 4
        assert {row["endpoint_id"] for row in deliveries(operator, endpoint=well)} == {well}
        assert members(deliveries(operator, status="pending"), "endpoint_id") == [(broken,), (broken,)]
        assert members(deliveries(operator, status="delivered"), "endpoint_id") == [(well,), (well,)]
        assert members(deliveries(operator, event=event_id), "event_id") == [(event_id,), (event_id,)]
        assert members(deliveries(operator, organization=OTHER_INN), "organization") == [(OTHER_INN,), (OTHER_INN,)]
        assert len(deliveries(operator, organization=INN, status="delivered", endpoint=well)) == 1
        assert deliveries(operator, organization=INN, status="exhausted") == []
        assert deliveries(operator, organization="500100732259") == []
        assert deliveries(operator, endpoint=999) == []

    def test_deliveries_come_newest_first_in_pages(self, operator, four_deliveries):
        ids = [row["id"] for row in deliveries(operator)]

        first = operator.get("/deliveries/", limit=3).json
        second = operator.get("/deliveries/", limit=3, cursor=first["next"]).json

        assert [row["id"] for row in first["items"] + second["items"]] == sorted(ids, reverse=True)
        assert (len(first["items"]), second["next"]) == (3, None)

    @pytest.mark.parametrize(
        ("query", "parameter"),
        [
            ({"status": "failed"}, "status"),
            ({"endpoint": "one"}, "endpoint"),
            ({"endpoint": str(2**63)}, "endpoint"),
            ({"event": "7"}, "event"),
            ({"organization": "123"}, "organization"),
            ({"limit": "501"}, "limit"),
            ({"state": "pending"}, "#"),
        ],
    )
    def test_query_of_the_wrong_shape_is_pointed_at(self, operator, query, parameter):
        answer = operator.get("/deliveries/", **query)

        assert answer.status_code == 400
        assert [error["parameter"] for error in answer.json["errors"]] == [parameter]

    def test_made_up_cursor_is_refused(self, operator):
        for path in ("/deliveries/", "/endpoints/"):
            for cursor in ("!", "x", "LTE", "é", "AA"):
                answer = operator.get(path, cursor=cursor)
                assert (answer.status_code, answer.json["type"]) == (404, "urn:kopeck:problem:page-unknown"), cursor

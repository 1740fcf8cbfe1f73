"""The list of events: what happened, page by page, whether or not anybody listened."""

import pytest

from tests.factories import INN, OTHER_INN
from tests.listeners import EARLY, bodies, deliver, replay, subscribe


class TestListOfEvents:
    def test_event_in_the_list_is_the_one_that_was_sent(self, operator, bank, app, receiver, endpoint_id):
        bank.send()
        deliver(app)

        page = operator.get("/events/", organization=INN).json

        assert page == {"items": bodies(receiver), "next": None}

    def test_events_that_nobody_listened_to_are_listed_and_keep_their_ids(self, operator, bank, app, receiver):
        bank.send(amount=1)
        before = operator.get("/events/", organization=INN).json["items"]
        endpoint_id = subscribe(operator, receiver.url)["id"]
        operator.post(f"/endpoints/{endpoint_id}/replays/", since=EARLY)
        replay(app)
        deliver(app)

        assert bodies(receiver) == before
        assert operator.get("/events/", organization=INN).json["items"] == before

    def test_gap_is_filled_page_by_page_from_a_version_on(self, operator, bank, endpoint_id):
        for amount in range(1, 8):
            bank.send(amount=amount)
        bank.send(amount=99, payer_inn=OTHER_INN)

        pages, cursor = [], {}
        while cursor is not None:
            page = operator.get("/events/", organization=INN, after_version=2, limit=2, **cursor).json
            pages.append([event["data"]["version"] for event in page["items"]])
            cursor = {"cursor": page["next"]} if page["next"] else None

        assert pages == [[3, 4], [5, 6], [7]]
        assert operator.get("/events/", organization=INN, after_version=7).json == {"items": [], "next": None}

    @pytest.mark.parametrize(
        ("query", "parameter"),
        [
            ({}, "organization"),
            ({"organization": "123"}, "organization"),
            ({"organization": INN, "after_version": "-1"}, "after_version"),
            ({"organization": INN, "after_version": str(2**63)}, "after_version"),
            ({"organization": INN, "after": "1"}, "#"),
        ],
    )
    def test_query_of_the_wrong_shape_is_pointed_at(self, operator, query, parameter):
        answer = operator.get("/events/", **query)

        assert answer.status_code == 400
        assert [error["parameter"] for error in answer.json["errors"]] == [parameter]

    def test_unknown_organisation_is_not_found(self, operator):
        answer = operator.get("/events/", organization=OTHER_INN)

        assert (answer.status_code, answer.json["type"]) == (404, "urn:kopeck:problem:organization-unknown")

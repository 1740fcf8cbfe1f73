"""Every call of the API that makes or changes something may be repeated with its Idempotency-Key: it happens once."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.callers import Bank
from tests.factories import OTHER_INN
from tests.world import CALLS, Things, World, keyed_routes, make_world, request_of

READS_ALTHOUGH_POSTED = {("POST", "/api/v1/webhooks/verify/")}
CHANGING = sorted(route for route in CALLS if route[0] != "GET" and route not in READS_ALTHOUGH_POSTED)


@pytest.fixture
def world(app, operator) -> World:
    return make_world(app, operator)


@pytest.fixture
def things(world, operator, app) -> Callable[[str], Things]:
    """Return what a path can name, in a state in which it can be done."""

    def prepared(path: str) -> Things:
        (incident,) = operator.get("/incidents/").json["items"]
        found = replace(world.own, incident_id=incident["id"])
        if path.endswith("/assign/"):
            bank = Bank(app.test_client())
            bank.send(payer_inn=OTHER_INN, amount=2**63 - 1 - 10**6)
            found = replace(found, incident_id=bank.send(payer_inn=OTHER_INN, amount=10**7).json["incident_id"])
        elif path.endswith("/replays/"):
            found = replace(found, endpoint_id=operator.post("/endpoints/", url="https://example.com/").json["id"])
        return found

    return prepared


def test_every_route_that_changes_something_is_tried(app):
    routes = keyed_routes(app)

    assert routes.keys() == CALLS.keys()
    assert {route for route, view in routes.items() if not view.read_only} == set(CHANGING)


def test_every_route_that_takes_the_header_documents_it(client, database):
    paths = client.get("/api/v1/openapi.json").json["paths"]
    documented = {
        (method.upper(), path.replace("{", "<").replace("}", ">"))
        for path, item in paths.items()
        for method, operation in item.items()
        if method != "parameters" and any(each["name"] == "Idempotency-Key" for each in operation.get("parameters", []))
    }

    assert documented == set(CHANGING)


@pytest.mark.parametrize("route", CHANGING, ids=str)
def test_repeat_gets_the_first_answer_and_changes_nothing(client, operator, things, database, check_ledger, route):
    request = request_of(route, things(route[1]))
    headers = {"Authorization": f"Bearer {operator.key}", "Idempotency-Key": "8e03978e-40d5-43dd-bc93-6894a57f9324"}

    first = client.open(**request, headers=headers)
    before = database.rows()
    again = client.open(**request, headers=headers)

    assert first.status_code < 300
    assert "Idempotent-Replayed" not in first.headers
    assert (again.status_code, again.data, again.content_type) == (first.status_code, first.data, first.content_type)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert database.rows() == before
    assert database.count("idempotency_keys") == 1
    check_ledger()


@pytest.mark.parametrize("route", CHANGING, ids=str)
def test_same_key_for_something_else_is_refused_and_changes_nothing(client, operator, things, database, route):
    headers = {"Authorization": f"Bearer {operator.key}", "Idempotency-Key": "k"}
    client.post("/api/v1/organizations/", json={"inn": "500100732259"}, headers=headers)
    request = request_of(route, things(route[1]))
    before = database.rows()

    answer = client.open(**request, headers=headers)

    assert (answer.status_code, answer.json["type"]) == (409, "urn:kopeck:problem:idempotency-key-reused")
    assert database.rows() == before


@pytest.mark.parametrize("route", CHANGING, ids=str)
def test_without_the_header_nothing_is_kept(client, operator, things, database, route):
    headers = {"Authorization": f"Bearer {operator.key}"}

    assert client.open(**request_of(route, things(route[1])), headers=headers).status_code < 300
    assert database.count("idempotency_keys") == 0


@pytest.mark.parametrize("route", [route for route in CALLS if route not in CHANGING], ids=str)
def test_reads_ignore_the_header(client, operator, things, database, route):
    headers = {"Authorization": f"Bearer {operator.key}", "Idempotency-Key": "not one: é"}

    answer = client.open(**request_of(route, things(route[1])), headers=headers)

    assert answer.status_code == 200
    assert database.count("idempotency_keys") == 0

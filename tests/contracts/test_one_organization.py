"""A key of one organisation sees and changes nothing of another, by any route: as if the other were not there."""

from dataclasses import replace

import pytest

from auth import api_keys
from errors import OrganizationUnknown
from tests.factories import INN, OTHER_INN, START
from tests.world import CALLS, World, keyed_routes, make_world, request_of

ABOUT_ALL = {
    ("POST", "/api/v1/organizations/"),
    ("POST", "/api/v1/webhooks/verify/"),
    ("GET", "/api/v1/inbox/"),
    ("GET", "/api/v1/ledger/trial-balance/"),
}
ALLOWED = sorted(route for route in CALLS if route not in ABOUT_ALL and "incident" not in route[1])
REFUSED = sorted(CALLS.keys() - set(ALLOWED))


@pytest.fixture
def world(app, operator) -> World:
    return make_world(app, operator)


@pytest.fixture
def headers(context, world) -> dict[str, str]:
    """A key of one organisation, with scopes that it could not even be given at the shell."""
    token = api_keys.create(name="shop", scopes=list(api_keys.SCOPES), organization=INN, now=START)
    return {"Authorization": f"Bearer {token}"}


def test_every_route_is_tried_and_says_for_whom_it_is(app):
    routes = keyed_routes(app)

    assert routes.keys() == CALLS.keys()
    assert {route for route, view in routes.items() if view.one_organization} == set(ALLOWED)
    assert {view.access for view in routes.values() if view.one_organization} == set(api_keys.ONE_ORGANIZATION)


@pytest.mark.parametrize("route", REFUSED, ids=str)
def test_what_concerns_all_is_refused(client, world, headers, database, operator, route):
    things = replace(world.own, incident_id=operator.get("/incidents/").json["items"][0]["id"])
    before = database.rows()

    answer = client.open(**request_of(route, things), headers=headers)

    assert (answer.status_code, answer.json["type"]) == (403, "urn:kopeck:problem:scope-missing")
    assert database.rows() == before


@pytest.mark.parametrize("route", ALLOWED, ids=str)
def test_own_things_are_there(client, world, headers, route):
    if route[1].endswith("/replays/"):
        client.post(f"/api/v1/endpoints/{world.own.endpoint_id}/disable/", headers=headers)
    answer = client.open(**request_of(route, world.own), headers=headers)

    assert answer.status_code < 300 or answer.json["type"].endswith(("endpoint-disabled", "limit-reached"))
    assert OTHER_INN not in answer.text


@pytest.mark.parametrize("route", ALLOWED, ids=str)
def test_things_of_another_are_not_there(client, world, headers, database, route):
    before = database.rows()

    answer = client.open(**request_of(route, world.foreign), headers=headers)
    of_nobody = client.open(**request_of(route, world.nobody), headers=headers)

    assert (answer.status_code, answer.text) == (of_nobody.status_code, of_nobody.text)
    assert answer.status_code == 404 or route in LISTS
    assert OTHER_INN not in answer.text
    assert database.rows() == before


LISTS = {
    ("GET", "/api/v1/organizations/"): ["inn"],
    ("GET", "/api/v1/endpoints/"): ["organization"],
    ("GET", "/api/v1/deliveries/"): ["endpoint_id", "organization"],
}


@pytest.mark.parametrize("route", LISTS, ids=str)
def test_lists_hold_own_things_and_nothing_else(client, operator, world, headers, route):
    path = route[1].removeprefix("/api/v1")
    everything = operator.get(path).json["items"]

    items = client.get(route[1], headers=headers).json["items"]

    assert 0 < len(items) < len(everything)
    expected = {"inn": INN, "organization": INN, "endpoint_id": world.own.endpoint_id}
    for item in items:
        assert {name: item[name] for name in LISTS[route]} == {name: expected[name] for name in LISTS[route]}
    assert client.get(f"{route[1]}?limit=1", headers=headers).json["next"] is None


def test_lists_are_not_widened_by_filters(client, world, headers):
    for query in (
        {"organization": OTHER_INN},
        {"endpoint": world.foreign.endpoint_id},
        {"organization": OTHER_INN, "endpoint": world.own.endpoint_id},
    ):
        assert client.get("/api/v1/deliveries/", query_string=query, headers=headers).json["items"] == []


def test_replay_of_another_is_not_there_under_an_own_endpoint(client, world, headers):
    path = f"/api/v1/endpoints/{world.own.endpoint_id}/replays/{world.foreign.replay_id}/"

    assert client.get(path, headers=headers).status_code == 404


@pytest.mark.parametrize("named", [{}, {"organization": None}, {"organization": INN}])
def test_new_endpoint_hears_of_the_own_organisation_alone(client, operator, headers, named):
    body = {"url": "https://example.com/", **named}
    number = client.post("/api/v1/endpoints/", json=body, headers=headers).json["id"]

    assert operator.get(f"/endpoints/{number}/").json["organization"] == INN


def test_listed_networks_are_none_of_its_business(make_app, world, headers, operator, database):
    """Neither may it register an address there, nor read what anything there has answered."""
    client = make_app(ENDPOINTS_NETWORKS="10.20.0.0/16").test_client()
    body = {"url": "http://10.20.0.5/hook"}
    number = world.own.delivery_id
    with database.unguarded() as connection:
        connection.exec_driver_sql("UPDATE delivery_attempts SET excerpt = 'inside'")
    assert operator.get(f"/deliveries/{number}/").json["attempts"][0]["excerpt"] == "inside"

    refused = client.post("/api/v1/endpoints/", json=body, headers=headers)
    accepted = client.post("/api/v1/endpoints/", json=body, headers=operator._headers())
    attempts = client.get(f"/api/v1/deliveries/{number}/", headers=headers).json["attempts"]

    assert (refused.json["type"], accepted.status_code) == ("urn:kopeck:problem:endpoint-refused", 201)
    assert [attempt["excerpt"] for attempt in attempts] == [""]


def test_ping_of_an_own_endpoint_can_be_followed(client, world, headers):
    endpoint = f"/api/v1/endpoints/{world.own.endpoint_id}"
    number = client.post(f"{endpoint}/ping/", headers=headers).json["id"]

    assert client.get(f"/api/v1/deliveries/{number}/", headers=headers).json["event_type"] == "ping"


def test_key_with_every_organisation_sees_all(operator, world):
    assert len(operator.get("/organizations/").json["items"]) == 2
    assert len(operator.get("/endpoints/").json["items"]) == 3


class TestShell:
    @pytest.fixture
    def run(self, context):
        return lambda *args: context.test_cli_runner().invoke(args=args)

    def test_key_is_made_for_one_organisation_and_listed_with_it(self, run, world):
        token = run("keys", "create", "shop", "--all", "--organization", INN).stdout.strip()

        caller = api_keys.authorize(token, "endpoints:write")
        assert (caller.name, caller.own.inn) == ("shop", INN)
        header, *lines = run("keys", "list").output.splitlines()
        assert [line[header.index("FOR") :].split()[0] for line in lines] == ["all", INN]
        with pytest.raises(api_keys.ScopeMissing):
            api_keys.authorize(token, "incidents:read")

    def test_scope_that_concerns_all_is_refused_for_it(self, run, world):
        for scope in api_keys.SCOPES.keys() - set(api_keys.ONE_ORGANIZATION):
            result = run("keys", "create", "shop", "--scope", scope, "--organization", INN)
            assert result.exit_code == 2
            assert "organizations:read, endpoints:read, endpoints:write" in result.output

    def test_organisation_must_be_there(self, run, database):
        result = run("keys", "create", "shop", "--all", "--organization", OTHER_INN)

        assert result.exit_code == 1
        assert OrganizationUnknown.words in result.output
        assert database.count("api_keys") == 0

    @pytest.mark.parametrize("name", ["a\u202eb", "a\u200bb", "a\u2028b"])
    def test_name_that_cannot_be_printed_is_refused(self, run, database, name):
        assert run("keys", "create", name, "--all").exit_code == 2

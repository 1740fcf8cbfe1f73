"""Two organisations with something of every kind, and a call of every route of the API: what contracts are held by.

A route that is new must be entered here; the tests fail until it is.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flask import Flask

from tests.callers import Bank, Operator
from tests.factories import INN, OTHER_INN, make_body, make_org
from tests.listeners import deliver
from tests.outboxes import open_endpoint

SINCE = "2026-03-01T00:00:00Z"


@dataclass(frozen=True, kw_only=True)
class Things:
    """What there is of one organisation, by the names of path parts."""

    inn: str
    endpoint_id: int
    delivery_id: int
    replay_id: int
    incident_id: int = 0


@dataclass(frozen=True, kw_only=True)
class World:
    """What there is of one organisation, of another, and of nobody."""

    own: Things
    foreign: Things
    nobody: Things


def make_world(app: Flask, operator: Operator) -> World:
    """Fill the database."""
    with app.app_context():
        endpoints = {inn: open_endpoint(inn=make_org(inn)) for inn in (INN, OTHER_INN)}
        open_endpoint()
    bank = Bank(app.test_client())
    for inn in endpoints:
        bank.send(payer_inn=inn, amount=int(inn) % 1000 + 1)
    deliver(app)
    made = {inn: _things(operator, inn, endpoint_id) for inn, endpoint_id in endpoints.items()}
    bank.push(make_body(amount=0))
    nobody = Things(inn="0000000000", endpoint_id=99, delivery_id=9999, replay_id=99)
    return World(own=made[INN], foreign=made[OTHER_INN], nobody=nobody)


def _things(operator: Operator, inn: str, endpoint_id: int) -> Things:
    (delivery,) = operator.get("/deliveries/", endpoint=endpoint_id).json["items"]
    replay_id = operator.post(f"/endpoints/{endpoint_id}/replays/", since=SINCE).json["id"]
    return Things(inn=inn, endpoint_id=endpoint_id, delivery_id=delivery["id"], replay_id=replay_id)


@dataclass(frozen=True, kw_only=True)
class ApiCall:
    """One way to call a route: what to ask or to send, given what there is."""

    query: Callable[[Things], dict[str, Any]] = lambda _: {}
    body: Callable[[Things], dict[str, Any]] | None = None


CALLS: dict[tuple[str, str], ApiCall] = {
    ("GET", "/api/v1/organizations/"): ApiCall(),
    ("POST", "/api/v1/organizations/"): ApiCall(body=lambda _: {"inn": "7736050003"}),
    ("GET", "/api/v1/organizations/<inn>/"): ApiCall(),
    ("GET", "/api/v1/organizations/<inn>/balance/"): ApiCall(),
    ("GET", "/api/organizations/<inn>/balance/"): ApiCall(),
    ("GET", "/api/v1/organizations/<inn>/log/"): ApiCall(),
    ("GET", "/api/v1/organizations/<inn>/payments/"): ApiCall(),
    ("GET", "/api/v1/ledger/trial-balance/"): ApiCall(),
    ("GET", "/api/v1/inbox/"): ApiCall(),
    ("GET", "/api/v1/incidents/"): ApiCall(),
    ("GET", "/api/v1/incidents/<incident_id>/"): ApiCall(),
    ("POST", "/api/v1/incidents/<incident_id>/resolve/"): ApiCall(body=lambda _: {"resolution": "seen"}),
    ("POST", "/api/v1/incidents/<incident_id>/assign/"): ApiCall(body=lambda things: {"inn": things.inn}),
    ("GET", "/api/v1/endpoints/"): ApiCall(),
    ("POST", "/api/v1/endpoints/"): ApiCall(
        body=lambda things: {"url": "https://example.com/", "organization": things.inn}
    ),
    ("GET", "/api/v1/endpoints/<endpoint_id>/"): ApiCall(),
    ("DELETE", "/api/v1/endpoints/<endpoint_id>/"): ApiCall(),
    ("POST", "/api/v1/endpoints/<endpoint_id>/ping/"): ApiCall(),
    ("POST", "/api/v1/endpoints/<endpoint_id>/rotate/"): ApiCall(body=lambda _: {}),
    ("POST", "/api/v1/endpoints/<endpoint_id>/disable/"): ApiCall(),
    ("POST", "/api/v1/endpoints/<endpoint_id>/enable/"): ApiCall(),
    ("POST", "/api/v1/endpoints/<endpoint_id>/replays/"): ApiCall(body=lambda _: {"since": SINCE}),
    ("GET", "/api/v1/endpoints/<endpoint_id>/replays/<replay_id>/"): ApiCall(),
    ("GET", "/api/v1/events/"): ApiCall(query=lambda things: {"organization": things.inn}),
    ("GET", "/api/v1/deliveries/"): ApiCall(query=lambda things: {"endpoint": things.endpoint_id}),
    ("GET", "/api/v1/deliveries/<delivery_id>/"): ApiCall(),
    ("POST", "/api/v1/deliveries/<delivery_id>/retry/"): ApiCall(),
    ("POST", "/api/v1/webhooks/verify/"): ApiCall(),
}
"""A call of every route that asks for an API key."""


def keyed_routes(app: Flask) -> dict[tuple[str, str], Callable[..., Any]]:
    """Return the views of all routes that ask for an API key."""
    return {
        (method, str(rule.rule).replace("<inn:", "<").replace("<number:", "<")): app.view_functions[rule.endpoint]
        for rule in app.url_map.iter_rules()
        for method in rule.methods - {"HEAD", "OPTIONS"}
        if hasattr(app.view_functions[rule.endpoint], "access")
    }


def request_of(route: tuple[str, str], things: Things) -> dict[str, Any]:
    """Return what a test client is to open for one call."""
    method, path = route
    for name, value in vars(things).items():
        path = path.replace(f"<{name}>", str(value))
    call = CALLS[route]
    body = {} if call.body is None else {"json": call.body(things)}
    return {"method": method, "path": path, "query_string": call.query(things), **body}

"""Every route is signed, keyed, or on the short list of those that are open."""

import pytest
from sqlalchemy import make_url

from app import create_app
from database.extension import db
from tests.factories import make_config

SIGNED = {"/api/v1/webhook/bank/", "/api/v1/webhook/bank/<name>/", "/api/webhook/bank/"}
OPEN = {
    "/healthz",
    "/readyz",
    "/api/v1/openapi.json",
    "/api/v1/swagger/",
    "/api/v1/swagger/files/<path:name>",
}


@pytest.fixture(scope="module")
def routes(tmp_path_factory):
    app = create_app(make_config(make_url(f"sqlite:///{tmp_path_factory.mktemp('routes') / 'k.db'}")))
    with app.app_context():
        db.engine.dispose()
    return {rule.rule: app.view_functions[rule.endpoint] for rule in app.url_map.iter_rules()}


def test_every_route_is_signed_keyed_or_listed_as_open(routes):
    keyed = {rule for rule, view in routes.items() if hasattr(view, "access")}

    assert keyed | SIGNED | OPEN == set(routes)
    assert keyed.isdisjoint(SIGNED | OPEN)


def test_signed_routes_refuse_what_is_not_signed(client, database):
    for rule in SIGNED:
        answer = client.post(rule.replace("<name>", "plain"), data=b"{}", content_type="application/json")
        assert answer.status_code == 401

"""Every call about endpoints, events and deliveries asks for its scope."""

import pytest

from auth import api_keys
from tests.factories import INN, START


class TestAccess:
    """Every call about endpoints, events and deliveries asks for its scope."""

    READ = (
        ("GET", "/api/v1/endpoints/"),
        ("GET", "/api/v1/endpoints/1/"),
        ("GET", "/api/v1/endpoints/1/replays/1/"),
        ("GET", f"/api/v1/events/?organization={INN}"),
        ("GET", "/api/v1/deliveries/"),
        ("GET", "/api/v1/deliveries/1/"),
    )
    WRITE = (
        ("POST", "/api/v1/endpoints/"),
        ("DELETE", "/api/v1/endpoints/1/"),
        ("POST", "/api/v1/endpoints/1/ping/"),
        ("POST", "/api/v1/endpoints/1/rotate/"),
        ("POST", "/api/v1/endpoints/1/disable/"),
        ("POST", "/api/v1/endpoints/1/enable/"),
        ("POST", "/api/v1/endpoints/1/replays/"),
        ("POST", "/api/v1/deliveries/1/retry/"),
    )

    @pytest.fixture
    def production(self, make_app):
        return make_app(KOPECK_ENV="production").test_client()

    def test_list_of_routes_is_complete(self, app):
        rules = {
            (method, rule.rule.replace("<number:", "<").split("?")[0])
            for rule in app.url_map.iter_rules()
            for method in rule.methods - {"OPTIONS", "HEAD"}
            if rule.rule.startswith(("/api/v1/endpoints/", "/api/v1/events/", "/api/v1/deliveries/"))
        }

        adapter = app.url_map.bind("localhost")
        named = {
            (method, adapter.match(path.split("?")[0], method, return_rule=True)[0].rule.replace("<number:", "<"))
            for method, path in self.READ + self.WRITE
        }
        assert named == rules

    def test_production_asks_for_a_key_before_it_reads_anything(self, production, context):
        revoked = api_keys.create(name="revoked", scopes=list(api_keys.SCOPES), now=START)
        api_keys.revoke("revoked", now=START)

        for method, path in self.READ + self.WRITE:
            for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Bearer {revoked}"}):
                answer = production.open(path, method=method, headers=headers, data=b"{not even JSON")
                assert (answer.status_code, answer.json["type"]) == (401, "urn:kopeck:problem:key-refused"), path

    def test_key_with_every_other_scope_is_refused(self, production, context):
        for scope, routes in (("endpoints:read", self.READ), ("endpoints:write", self.WRITE)):
            others = [name for name in api_keys.SCOPES if name != scope]
            token = api_keys.create(name=f"not {scope}", scopes=others, now=START)
            for method, path in routes:
                answer = production.open(path, method=method, headers={"Authorization": f"Bearer {token}"})
                assert (answer.status_code, answer.json["type"]) == (403, "urn:kopeck:problem:scope-missing"), path

    def test_key_with_the_one_scope_goes_through(self, production, context):
        for scope, routes in (("endpoints:read", self.READ), ("endpoints:write", self.WRITE)):
            token = api_keys.create(name=scope, scopes=[scope], now=START)
            for method, path in routes:
                answer = production.open(path, method=method, headers={"Authorization": f"Bearer {token}"}, json={})
                assert answer.status_code in (200, 400, 404), path

    def test_development_reads_are_open_and_writes_are_not(self, client, database):
        for method, path in self.READ:
            assert client.open(path, method=method).status_code in (200, 404), path
        for method, path in self.WRITE:
            assert client.open(path, method=method, json={}).status_code == 401, path

"""Every address is answered with a last slash and without, as upstream answers it by a redirect."""

import json
import re

import pytest
from werkzeug.exceptions import MethodNotAllowed
from werkzeug.routing import RequestRedirect

from tests.sandbox.factories import EMAIL, order
from tests.sandbox.payer import Payer


def example(rule: str) -> str:
    rule = re.sub("<uuid:[^>]+>", "550e8400-e29b-41d4-a716-446655440000", rule)
    return re.sub("<[a-z_]+>", "x", re.sub("<int:[^>]+>", "1", rule))


def test_every_route_is_found_with_a_last_slash_and_without(app):
    adapter = app.url_map.bind("127.0.0.1")
    rules = [rule for rule in app.url_map.iter_rules() if rule.endpoint != "pages.static" and rule.rule != "/"]
    for rule in rules:
        for path in (example(rule.rule).rstrip("/"), example(rule.rule).rstrip("/") + "/"):
            for method in rule.methods - {"HEAD", "OPTIONS"}:
                try:
                    endpoint, _ = adapter.match(path, method)
                except (RequestRedirect, MethodNotAllowed) as problem:
                    pytest.fail(f"{method} {path}: {problem}")
                assert endpoint == rule.endpoint or rule.endpoint.startswith("bank.")
    assert len(rules) > 30


def test_the_whole_protocol_with_a_last_slash(payer: Payer):
    client = payer.client
    created = client.post("/api/create-invoice/", json=order())
    assert created.status_code == 200
    payment_id = created.json["pageUrl"].split("/")[-1]
    page = client.get(f"/checkout/{payment_id}/")
    token = re.search(r'name="csrf_token" value="([^"]+)"', page.text)[1]
    form = {"card_number": "4444444444444444", "email": EMAIL, "csrf_token": token}
    paid = client.post(f"/api/pay/{payment_id}/", data=form)
    assert (paid.status_code, paid.location) == (303, f"/otp/{payment_id}")
    assert client.get(f"/otp/{payment_id}/").status_code == 200
    confirmed = client.post(f"/otp/verify/{payment_id}/", data={"otp_code": payer.code(payment_id)})
    assert (confirmed.status_code, confirmed.location) == (303, f"/success/{payment_id}")
    assert client.get(f"/success/{payment_id}/").status_code == 200
    assert client.get("/health/").json["status"] == "ok"
    verified = client.post("/webhooks/verify/", data=json.dumps({"a": 1}), headers={"X-Signature": "0"})
    assert verified.json == {"valid": False}
    assert client.get(f"/api/user-info/?email={EMAIL}").json["operations"]
    assert client.post("/api/auth/send-code/", json={"email": EMAIL}).json["status"] == "sent"
    assert client.post("/api/auth/verify-code/", json={"email": EMAIL, "code": "x"}).status_code == 400
    assert client.get("/merchant/login/").status_code == 302
    assert client.get("/test/").status_code == 200
    assert client.get("/nowhere/").status_code == 404
    assert client.post("/health/").status_code == 405

"""Who may send requests: this machine, its own pages, programs."""

import pytest

from tests.sandbox.factories import order


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8001", "[::1]:8001"])
def test_this_machine_is_answered_under_its_own_names(client, host):
    assert client.get("/health", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "asked", [{"headers": {"Host": "evil.example"}}, {"environ_base": {"REMOTE_ADDR": "192.168.1.5"}}]
)
def test_others_are_refused_unless_it_is_public(make_app, asked):
    assert make_app().test_client().get("/sandbox/api/inbox", **asked).status_code == 403
    assert make_app(SANDBOX_PUBLIC="yes").test_client().get("/sandbox/api/inbox", **asked).status_code == 200


@pytest.mark.parametrize(
    "headers", [{"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}]
)
def test_a_page_of_another_site_cannot_make_a_browser_do_anything(client, headers):
    assert client.post("/sandbox/api/reset", json={}, headers=headers).status_code == 403
    assert client.post("/api/create-invoice", json=order(), headers=headers).status_code == 403


def test_pages_of_ours_and_programs_may(client):
    assert client.post("/sandbox/api/reset", json={}, headers={"Origin": "http://localhost"}).status_code == 200
    assert client.post("/sandbox/api/reset", json={}).status_code == 200
    assert client.post("/sandbox/api/reset").status_code == 415


def test_a_body_that_is_too_large_is_refused(client):
    assert client.post("/api/create-invoice", data=b" " * 300_000).status_code == 413

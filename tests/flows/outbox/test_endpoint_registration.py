"""Who may register which address, and whose secret it is."""

import base64
import logging

import pytest
from sqlalchemy import make_url

from config import ConfigError
from enums import Scheme
from tests.callers import Operator
from tests.factories import INN, OTHER_INN, make_config, make_org
from tests.listeners import ELSEWHERE, deliver, only_delivery, subscribe


class TestCreate:
    def test_endpoint_is_registered_with_what_was_asked_for(self, operator, context):
        make_org()

        answer = operator.post(
            "/endpoints/",
            url=ELSEWHERE,
            scheme="x-signature",
            organization=INN,
            event_types=["balance.credited"],
            ordered=True,
            description="Billing «2»",
        )

        assert answer.status_code == 201
        assert operator.get(f"/endpoints/{answer.json['id']}/").json == {
            "id": answer.json["id"],
            "url": ELSEWHERE,
            "description": "Billing «2»",
            "scheme": "x-signature",
            "organization": INN,
            "event_types": ["balance.credited"],
            "ordered": True,
            "created_at": "2026-03-01T12:00:00Z",
            "failing_since": None,
            "disabled_at": None,
            "disabled_because": None,
        }

    def test_only_the_address_is_required(self, operator):
        created = subscribe(operator, ELSEWHERE)

        shown = operator.get(f"/endpoints/{created['id']}/").json
        assert (shown["scheme"], shown["organization"], shown["event_types"]) == ("standard", None, ["*"])
        assert (shown["ordered"], shown["description"]) == (False, "")

    @pytest.mark.parametrize(
        ("scheme", "prefix", "has_public_key"),
        [("standard", "whsec_", True), ("x-signature", "", False), ("acquiremock", "", False)],
    )
    def test_secret_is_shown_once_and_is_nowhere_in_clear(
        self, operator, bank, app, database, receiver, caplog, scheme, prefix, has_public_key
    ):
        caplog.set_level(logging.DEBUG)
        created = subscribe(operator, receiver.url, scheme=scheme)
        bank.send()
        deliver(app)

        secret = created["secret"]
        assert secret.startswith(prefix)
        assert (created["public_key"] or "").startswith("whpk_") is has_public_key
        later = [
            operator.get("/endpoints/").text,
            operator.get(f"/endpoints/{created['id']}/").text,
            operator.get("/deliveries/").text,
            operator.get("/events/", organization=INN).text,
            str(only_delivery(operator)),
            str(database.rows()),
            caplog.text,
            str(receiver.received),
        ]
        for text in later:
            assert secret.removeprefix(prefix) not in text
            assert "whsk_" not in text
        raw = base64.b64decode(secret.removeprefix(prefix)) if prefix else secret.encode()
        for rows in database.rows().values():
            for row in rows:
                assert all(raw not in bytes(cell) for cell in row if isinstance(cell, bytes | memoryview))

    def test_two_endpoints_never_share_a_secret(self, operator):
        for scheme in Scheme:
            assert (
                subscribe(operator, ELSEWHERE, scheme=scheme)["secret"]
                != (subscribe(operator, ELSEWHERE, scheme=scheme)["secret"])
            )

    def test_unknown_organisation_is_not_found(self, operator, database):
        answer = operator.post("/endpoints/", url=ELSEWHERE, organization=OTHER_INN)

        assert (answer.status_code, answer.json["type"]) == (404, "urn:kopeck:problem:organization-unknown")
        assert database.count("endpoints") == 0

    @pytest.mark.parametrize(
        ("body", "pointer"),
        [
            ({}, "#/url"),
            ({"url": ""}, "#/url"),
            ({"url": "https://example.com/" + "x" * 2000}, "#/url"),
            ({"url": "https://example.com/\n"}, "#/url"),
            ({"url": ELSEWHERE, "scheme": "md5"}, "#/scheme"),
            ({"url": ELSEWHERE, "organization": "123"}, "#/organization"),
            ({"url": ELSEWHERE, "event_types": []}, "#/event_types"),
            ({"url": ELSEWHERE, "event_types": ["balance.seen"]}, "#/event_types/0"),
            ({"url": ELSEWHERE, "ordered": "true"}, "#/ordered"),
            ({"url": ELSEWHERE, "description": "x" * 256}, "#/description"),
            ({"url": ELSEWHERE, "secret": "mine"}, "#"),
        ],
    )
    def test_registration_of_the_wrong_shape_is_pointed_at(self, operator, database, body, pointer):
        answer = operator.post("/endpoints/", **body)

        assert answer.status_code == 400
        assert [error["pointer"] for error in answer.json["errors"]] == [pointer]
        assert database.count("endpoints") == 0

    def test_longest_address_and_description_are_kept_whole(self, operator):
        url = "https://example.com/".ljust(2000, "x")
        created = subscribe(operator, url, description="щ" * 255, event_types=["balance.credited"] * 10)

        shown = operator.get(f"/endpoints/{created['id']}/").json
        assert (shown["url"], shown["description"]) == (url, "щ" * 255)

    @pytest.mark.parametrize(
        "url",
        [
            "http://10.0.0.1/",
            "http://192.168.1.1:8080/hook",
            "https://169.254.169.254/latest/meta-data/",
            "http://[fd00::1]/",
            "http://[::ffff:10.0.0.1]/",
            "http://0x0a000001/",
            "http://printer.local/",
            "http://database/",
            "https://user:password@example.com/",
            "ftp://example.com/",
            "example.com/hook",
        ],
    )
    def test_address_that_is_not_public_is_refused_although_loopback_is_allowed(self, operator, database, url):
        answer = operator.post("/endpoints/", url=url)

        assert (answer.status_code, answer.json["type"]) == (403, "urn:kopeck:problem:endpoint-refused")
        assert url not in answer.text
        assert database.count("endpoints") == 0

    @pytest.mark.parametrize("url", ["http://127.0.0.1:9/", "http://localhost:9/", "http://[::1]/", "http://127.1/"])
    def test_loopback_is_refused_unless_a_setting_allows_it(self, make_app, operator, url):
        strict = Operator(make_app().test_client(), operator.key)

        refused = strict.post("/endpoints/", url=url)

        assert (refused.status_code, refused.json["type"]) == (403, "urn:kopeck:problem:endpoint-refused")
        assert operator.post("/endpoints/", url=url).status_code == 201

    def test_address_that_is_loopback_later_is_not_sent_to(self, make_app, operator, bank, receiver):
        subscribe(operator, receiver.url)
        bank.send()

        deliver(make_app())

        (attempt,) = only_delivery(operator)["attempts"]
        assert (attempt["status_code"], receiver.received) == (None, [])
        assert "not on the public internet" in attempt["error"]

    def test_production_sends_to_https_only(self, make_app, operator):
        production = Operator(make_app(KOPECK_ENV="production").test_client(), operator.key)

        refused = production.post("/endpoints/", url=ELSEWHERE.replace("https", "http"))

        assert (refused.status_code, refused.json["type"]) == (403, "urn:kopeck:problem:endpoint-refused")
        assert production.post("/endpoints/", url=ELSEWHERE).status_code == 201


def test_production_refuses_to_start_with_endpoints_on_loopback():
    url = make_url("postgresql://kopeck@db/kopeck")

    with pytest.raises(ConfigError, match="ENDPOINTS_ON_LOOPBACK"):
        make_config(url, KOPECK_ENV="production", ENDPOINTS_ON_LOOPBACK="allow")
    assert not make_config(url, KOPECK_ENV="production").loopback_endpoints

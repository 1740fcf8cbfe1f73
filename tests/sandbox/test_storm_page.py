"""The storm from a page and from the shell: begun, followed while it goes on, ended, and told."""

import json
import re
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from click.testing import Result
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from sandbox.bank import views
from sandbox.storm.run import Storm
from tests.sandbox.factories import SECRET
from tests.sandbox.server import PATIENCE_SECONDS, eventually
from tests.sandbox.shops import Shop


@pytest.fixture
def judged() -> Iterator[Shop]:
    with Shop() as running:
        yield running


@pytest.fixture
def app(make_app: Callable[..., Flask], judged: Shop) -> Iterator[Flask]:
    yield make_app(SANDBOX_SHOP_URL=judged.addresses.webhook, SANDBOX_BANK_SECRET=SECRET)
    views.watch.stop()
    assert views.watch.wait(PATIENCE_SECONDS)
    views.watch = type(views.watch)()


@pytest.fixture(autouse=True)
def places(monkeypatch: pytest.MonkeyPatch, judged: Shop) -> None:
    """Have the page read balances where this shop has them."""
    monkeypatch.setattr(views, "addresses_of", lambda _base, webhook: judged.addresses)
    monkeypatch.setattr(views, "Storm", partial(Storm, patience=0.5, settle=0.5))


def post(client: FlaskClient, path: str, **fields: object) -> TestResponse:
    shown = client.get("/bank/storm").get_data(as_text=True)
    token = re.search(r'name="csrf_token" value="([^"]+)"', shown)
    assert token
    return client.post(path, data={"csrf_token": token[1], **fields}, headers={"Accept": "text/html"})


def begin(client: FlaskClient, **fields: object) -> TestResponse:
    return post(client, "/bank/storm", **{"seed": 3, "day": 1, "operations": 60, "organisations": 4, **fields})


def progress(client: FlaskClient) -> dict[str, object]:
    found: dict[str, object] = client.get("/bank/storm/progress").json
    return found


def test_a_storm_is_begun_followed_and_told(client, judged):
    assert progress(client)["stage"] == "none"

    assert begin(client).status_code == 303
    eventually(lambda: not progress(client)["on"])
    end = progress(client)
    assert (end["stage"], end["problem"]) == ("done", None)
    assert end["done"] == end["steps"] > 60
    assert end["report"]["clean"] is True
    shown = client.get("/bank/storm").get_data(as_text=True)
    assert "Clean: every kopeck is where it should be." in shown
    assert str(sum(judged.balances.values())) in shown


def test_the_app_answers_while_a_storm_goes_on_and_only_one_does(client):
    begin(client, operations=5000)
    eventually(lambda: progress(client)["done"] > 10)

    assert progress(client)["on"]
    assert "data-on" in client.get("/bank/storm").get_data(as_text=True)
    assert begin(client).status_code == 409
    assert post(client, "/bank/storm/stop").status_code == 303
    eventually(lambda: not progress(client)["on"])
    end = progress(client)
    assert end["done"] < end["steps"]
    assert end["report"]["clean"] is True


def test_findings_are_named_on_the_page(client, judged):
    judged.fault = "loses some"
    begin(client, operations=30, organisations=15)
    eventually(lambda: not progress(client)["on"])

    findings = progress(client)["report"]["findings"]
    assert findings
    shown = client.get("/bank/storm").get_data(as_text=True)
    assert findings[0]["inn"] in shown
    assert findings[0]["operation_id"] in shown


def test_a_shop_that_is_not_there_is_said_to_be_so(client, judged, monkeypatch):
    with Shop() as gone:
        nowhere = gone.addresses
    monkeypatch.setattr(views, "addresses_of", lambda _base, webhook: nowhere)
    begin(client)
    eventually(lambda: not progress(client)["on"])

    assert progress(client)["stage"] == "failed"
    assert "does not answer" in client.get("/bank/storm").get_data(as_text=True)


@pytest.mark.parametrize(
    "wrong", [{"seed": -1}, {"operations": 0}, {"operations": 20_001}, {"organisations": 101}, {"day": "x"}]
)
def test_numbers_out_of_bounds_are_refused(client, wrong):
    refused = begin(client, **wrong)

    assert refused.status_code == 400
    assert next(iter(wrong)) in refused.get_data(as_text=True)
    assert not progress(client)["on"]


def test_another_site_can_begin_nothing(client):
    assert client.post("/bank/storm", data={"seed": 1}).status_code == 403
    assert client.post("/bank/storm/stop").status_code == 403
    assert progress(client)["stage"] == "none"


# ---- The shell


def storm(app: Flask, shop: Shop, *arguments: str) -> Result:
    places = shop.addresses
    return app.test_cli_runner().invoke(
        args=[
            *("sandbox", "storm", "--seed", "11", "--operations", "60", "--organisations", "5"),
            *("--webhook-url", places.webhook, "--balance-url", places.balance),
            *("--patience", "0.5", "--settle", "0.5", *arguments),
        ]
    )


def test_the_command_ends_with_0_when_all_is_well(app, judged):
    result = storm(app, judged)

    assert result.exit_code == 0, result.output
    assert "Clean: every kopeck is where it should be" in result.output


def test_the_command_ends_with_1_and_names_what_is_not(app):
    with Shop("tells repeats by the id as text") as shop:
        result = storm(app, shop)

        assert result.exit_code == 1
        for id_ in shop.doubled():
            assert id_ in result.output
        assert "double credit: organisation" in result.output


def test_the_command_judges_shops_without_signatures(app):
    with Shop("knows no signatures") as shop:
        assert storm(app, shop).exit_code == 1
        assert storm(app, shop, "--unsigned", "--day", "2").exit_code == 0


def test_the_command_prints_json(app, judged):
    result = storm(app, judged, "--json")

    assert json.loads(result.stdout)["clean"] is True


def test_the_command_prints_the_plan_and_sends_nothing(app, judged):
    first, second = (storm(app, judged, "--plan").stdout_bytes for _ in range(2))

    assert first == second
    assert len(first.splitlines()) > 60
    assert judged.heard == 0


def test_the_command_shows_how_far_it_is(app, judged):
    result = storm(app, judged, "--operations", "300")

    assert "Storm" in result.stderr


def test_the_command_says_when_there_is_nobody_to_judge(app):
    with Shop() as gone:
        places = gone

    result = storm(app, places)
    assert result.exit_code == 1
    assert "Is it running" in result.output


def test_the_command_wants_something_to_sign_with(make_app, judged):
    unsigned = make_app(SANDBOX_SHOP_URL=judged.addresses.webhook)

    assert "SANDBOX_BANK_SECRET" in storm(unsigned, judged).output
    assert storm(unsigned, judged, "--secret", SECRET).exit_code == 0

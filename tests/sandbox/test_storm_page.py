"""The storm from the page and from the command line: start, progress, stop, report."""

import html
import json
import re
from collections.abc import Callable, Iterator

import pytest
from click.testing import Result
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from sandbox.cli import group
from sandbox.pages.languages import get_language
from sandbox.storm.background import BackgroundStorm
from sandbox.storm.findings import SENTENCES, Fault
from tests.sandbox.factories import BANK_SECRET
from tests.sandbox.server import PATIENCE_SECONDS, eventually
from tests.sandbox.shops import COLUMN_MAX, Shop


@pytest.fixture
def tested_shop() -> Iterator[Shop]:
    with Shop() as running:
        yield running


@pytest.fixture
def app(make_app: Callable[..., Flask], tested_shop: Shop) -> Iterator[Flask]:
    background = BackgroundStorm(patience=0.5, settle=0.5)
    settings = {"SANDBOX_SHOP_URL": tested_shop.addresses.webhook, "SANDBOX_BANK_SECRET": BANK_SECRET}
    yield make_app(storm=background, **settings)
    background.stop()
    assert background.wait(PATIENCE_SECONDS)


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


def test_a_storm_starts_shows_its_progress_and_its_report(client, tested_shop):
    assert progress(client)["phase"] == "none"

    assert begin(client).status_code == 303
    eventually(lambda: not progress(client)["on"])
    end = progress(client)
    assert (end["phase"], end["problem"]) == ("done", None)
    assert end["done"] == end["steps"] > 60
    assert end["report"]["clean"] is True
    shown = client.get("/bank/storm").get_data(as_text=True)
    assert "Clean: every kopeck is where it should be." in shown
    assert str(sum(tested_shop.balances.values())) in shown


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


def test_findings_are_named_on_the_page(client, tested_shop):
    tested_shop.fault = "loses some"
    begin(client, operations=30, organisations=15)
    eventually(lambda: not progress(client)["on"])

    findings = progress(client)["report"]["findings"]
    assert findings
    shown = client.get("/bank/storm").get_data(as_text=True)
    assert findings[0]["inn"] in shown
    assert findings[0]["operation_id"] in shown
    assert SENTENCES[findings[0]["kind"]] in html.unescape(shown)


def test_the_page_says_what_was_not_sent(make_app, tested_shop):
    tested_shop.fault = "knows no signatures"
    background = BackgroundStorm(patience=0.5, settle=0.5)
    client = make_app(storm=background, SANDBOX_SHOP_URL=tested_shop.addresses.webhook).test_client()
    begin(client)
    eventually(lambda: not progress(client)["on"])

    shown = client.get("/bank/storm").get_data(as_text=True)
    assert "Not sent: " in shown
    assert "forged signature" not in progress(client)["counts_text"]
    assert "forged signature" in progress(client)["left_out_text"]


def test_the_page_bounds_amounts(client, tested_shop):
    tested_shop.fault = "refuses large amounts"
    begin(client, amount_max=1000)
    eventually(lambda: not progress(client)["on"])

    assert progress(client)["report"]["clean"] is True
    assert 'value="1000"' in client.get("/bank/storm").get_data(as_text=True)


def test_a_shop_that_does_not_answer_is_reported(make_app):
    with Shop() as gone:
        nowhere = gone.addresses
    client = make_app(SANDBOX_SHOP_URL=nowhere.webhook, SANDBOX_BANK_SECRET=BANK_SECRET).test_client()
    begin(client)
    eventually(lambda: not progress(client)["on"])

    assert progress(client)["phase"] == "failed"
    assert "does not answer" in client.get("/bank/storm").get_data(as_text=True)


@pytest.mark.parametrize(
    "wrong",
    [
        {"seed": -1},
        {"operations": 0},
        {"operations": 20_001},
        {"organisations": 101},
        {"day": "x"},
        {"amount_max": 0},
    ],
)
def test_numbers_out_of_bounds_are_refused(client, wrong):
    refused = begin(client, **wrong)

    assert refused.status_code == 400
    assert get_language("en").words[f"storm.{next(iter(wrong))}"] in refused.get_data(as_text=True)
    assert not progress(client)["on"]


def test_another_site_can_begin_nothing(client):
    assert client.post("/bank/storm", data={"seed": 1}).status_code == 403
    assert client.post("/bank/storm/stop").status_code == 403
    assert progress(client)["phase"] == "none"


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


def test_the_command_exits_with_0_if_there_is_no_finding(app, tested_shop):
    result = storm(app, tested_shop)

    assert result.exit_code == 0, result.output
    assert "Clean: every kopeck is where it should be" in result.output


def test_the_command_exits_with_1_and_names_the_findings(app):
    with Shop("reads ids as text") as shop:
        result = storm(app, shop)

    assert result.exit_code == 1
    assert f"{Fault.BY_SPELLING} (" in result.output
    assert SENTENCES[Fault.BY_SPELLING] in result.output


def test_the_command_bounds_amounts_for_shops_with_small_columns(app):
    with Shop("refuses large amounts") as shop:
        assert f"{Fault.REFUSED_LARGE} (" in storm(app, shop).output
        assert storm(app, shop, "--day", "2", "--amount-max", str(COLUMN_MAX)).exit_code == 0


def test_the_command_compares_the_list_of_organisations(app):
    with Shop("needs no payer", lists=True) as shop:
        result = storm(app, shop, "--list-url", shop.addresses.organisations)

    assert "organisation 1000000000" in result.output


def test_the_command_names_a_shop_that_answers_too_late(app, tested_shop):
    assert f"{Fault.SLOW} (" in storm(app, tested_shop, "--slow", "0").output


def test_the_command_tests_shops_without_signatures(app):
    with Shop("knows no signatures") as shop:
        assert storm(app, shop).exit_code == 1
        assert storm(app, shop, "--unsigned", "--day", "2").exit_code == 0


def test_the_command_prints_json(app, tested_shop):
    result = storm(app, tested_shop, "--json")

    assert json.loads(result.stdout)["clean"] is True


def test_the_command_prints_the_plan_and_sends_nothing(app, tested_shop):
    first, second = (storm(app, tested_shop, "--plan").stdout_bytes for _ in range(2))

    assert first == second
    assert len(first.splitlines()) > 60
    assert tested_shop.received == 0


def test_the_command_shows_how_far_it_is(app, tested_shop):
    result = storm(app, tested_shop, "--operations", "300")

    assert "Storm" in result.stderr


def test_the_command_fails_if_the_shop_does_not_answer(app):
    with Shop() as gone:
        places = gone

    result = storm(app, places)
    assert result.exit_code == 1
    assert "Is it running? If on another port, put PORT=… into .env, or give --url." in result.output


def test_the_command_needs_a_secret(make_app, tested_shop):
    unsigned = make_app(SANDBOX_SHOP_URL=tested_shop.addresses.webhook)

    assert "SANDBOX_BANK_SECRET" in storm(unsigned, tested_shop).output
    signing = make_app(SANDBOX_SHOP_URL=tested_shop.addresses.webhook, SANDBOX_BANK_SECRET=BANK_SECRET)
    assert storm(signing, tested_shop).exit_code == 0


def test_no_option_of_a_command_takes_a_secret():
    """Whoever lists processes sees options, and shells keep them in their history."""
    options = {option for command in group.commands.values() for each in command.params for option in each.opts}

    assert not [option for option in options if re.search("secret|key|password|token", option)]

"""Who gets to see the sandbox, and what strangers of a public one do not get: loopback, secrets, Kopeck's signature."""

import os
import re
import urllib.request
from urllib.error import HTTPError
from urllib.parse import urljoin

import pytest
import requests

from sandbox import worker
from sandbox.settings import Settings, SettingsError
from tests.nginx import in_front
from tests.sandbox.factories import SECRET, order
from tests.sandbox.payer import pay_as_a_script
from tests.sandbox.server import free_port, served

READS = ("/", "/sandbox/inbox", "/sandbox/api/inbox", "/sandbox/verify", "/bank/", "/bank/storm", "/health")
KOPECK = "a-secret-of-kopeck-s-own-0123456789abcdef"
PUBLIC = {"SANDBOX_PUBLIC": "yes"}
AS_ROOT = "user root;" if os.geteuid() == 0 else ""


def status(url: str, **headers: str) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30) as answer:
            return int(answer.status)
    except HTTPError as error:
        return error.code


@pytest.mark.parametrize(
    "options",
    [
        "",
        'proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header X-Forwarded-For $remote_addr;',
        'proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Via nginx;',
        "proxy_set_header Host localhost;",
    ],
)
def test_nobody_gets_in_through_nginx(make_app, options):
    port = free_port()
    location = f"location / {{ proxy_pass http://127.0.0.1:{port}; {options} }}"
    with served(make_app(), port) as direct, in_front(location, user=AS_ROOT) as front:
        for path in READS:
            assert status(f"{direct}{path}") == 200
            assert status(f"http://127.0.0.1:{front}{path}", Host="sandbox.example") == 403
        address = f"http://127.0.0.1:{front}"
        sent = requests.post(f"{address}/api/v1/webhook/bank/imitation/", json={}, timeout=30)
        assert (sent.status_code, sent.json()["error"]) == (403, "LOOPBACK_ONLY")


@pytest.mark.parametrize(
    "url", ["https://pay.example", "http://192.168.1.5:8001", "http://sandbox", "http://10.0.0.1/a"]
)
def test_base_url_of_another_machine_needs_to_be_public(url):
    with pytest.raises(SettingsError, match="SANDBOX_BASE_URL"):
        Settings.from_env({"SANDBOX_BASE_URL": url})

    assert Settings.from_env({"SANDBOX_BASE_URL": url, **PUBLIC}).base_url == url
    assert Settings.from_env({"SANDBOX_BASE_URL": "http://localhost:9"}).base_url == "http://localhost:9"


def test_public_sandbox_shows_no_secret(make_app):
    page = make_app(SANDBOX_BASE_URL="https://pay.example", **PUBLIC).test_client()

    assert SECRET not in page.get("/sandbox/verify", headers={"Host": "pay.example"}).text


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "a.localhost", "2130706433", "127.1", "[::1]", "0.0.0.0"])
def test_public_sandbox_sends_no_webhook_to_this_machine(make_app, host):
    client = make_app(**PUBLIC).test_client()

    answer = client.post("/api/create-invoice", json=order(webhookUrl=f"http://{host}:8000/hook"))

    assert answer.status_code == 422


def test_webhook_to_this_machine_is_not_sent_either_where_the_form_took_it(make_app, shop, payer):
    """The form of the dashboard looks at the address less closely; what is sent is judged once more."""
    payment_id = payer.create(webhookUrl=shop.url)
    payer.pay_through(payment_id)
    app = make_app(**PUBLIC)
    with app.app_context():
        worker.deliver_due()

    assert shop.received == []
    (webhook,) = payer.webhooks(payment_id)
    assert webhook.attempts[0].answer_status is None


def test_mock_bank_of_a_public_sandbox_does_not_sign_with_kopeck_s_secret():
    own = {"BANK_WEBHOOK_SECRETS": f"{KOPECK}, older-{KOPECK}", "BANK_WEBHOOK_SECRETS_OTHER": f"other-{KOPECK}"}

    assert Settings.from_env(own).bank_secret == KOPECK
    assert Settings.from_env({**own, **PUBLIC}).bank_secret is None
    for name in ("SANDBOX_BANK_SECRET", "SANDBOX_WEBHOOK_SECRET"):
        for secret in (KOPECK, f"older-{KOPECK}", f"other-{KOPECK}"):
            with pytest.raises(SettingsError, match=name):
                Settings.from_env({**own, **PUBLIC, name: secret})
        assert Settings.from_env({**own, **PUBLIC, name: f"another-{KOPECK}"})


@pytest.mark.parametrize(
    "target", [None, "http://127.0.0.1:8000/", "http://localhost/", "http://[::1]/", "http://10.0.0.1/", "http://0/"]
)
def test_mock_bank_of_a_public_sandbox_reaches_nothing_inside(make_app, target):
    given = {} if target is None else {"SANDBOX_SHOP_URL": target}
    client = make_app(**PUBLIC, **given).test_client()

    assert client.post("/api/v1/webhook/bank/imitation/", json={}).json["error"] == "BANK_CLOSED"
    for path in ("/bank/", "/bank/storm", "/bank/storm/progress"):
        assert client.get(path).status_code == 403
    assert make_app(**PUBLIC, SANDBOX_SHOP_URL="https://shop.example/").test_client().get("/bank/").status_code == 200


def test_listed_network_may_get_webhooks_and_no_other(make_app):
    address = "http://172.17.0.5:8000/hook"
    client = make_app(SANDBOX_NETWORKS="172.17.0.0/16").test_client()

    assert client.post("/api/create-invoice", json=order(webhookUrl=address)).status_code == 200
    for other in ("http://172.18.0.5/", "http://169.254.169.254/", "http://[::ffff:172.17.0.5]/", "http://10.0.0.1/"):
        assert client.post("/api/create-invoice", json=order(webhookUrl=other)).status_code == 422
    assert make_app().test_client().post("/api/create-invoice", json=order(webhookUrl=address)).status_code == 422
    with pytest.raises(SettingsError, match="SANDBOX_NETWORKS"):
        Settings.from_env({"SANDBOX_NETWORKS": "169.254.0.0/16"})


# ---- A prefix


@pytest.mark.parametrize("stripped", [True, False])
def test_everything_works_under_a_prefix(make_app, stripped):
    port = free_port()
    to = f"http://127.0.0.1:{port}{'/' if stripped else ''}"
    with in_front(f"location /pay/sandbox/ {{ proxy_pass {to}; }}") as front:
        site = f"http://127.0.0.1:{front}/pay/sandbox"
        app = make_app(SANDBOX_BASE_URL=site, SANDBOX_PUBLIC="yes", SANDBOX_SHOP_URL="https://shop.example/")
        with served(app, port):
            created = requests.post(
                f"{site}/api/create-invoice", json=order(webhookUrl="https://shop.example/"), timeout=30
            )
            page_url = created.json()["pageUrl"]
            assert page_url.startswith(f"{site}/checkout/")
            pay_as_a_script(site, page_url, "ORDER-123", "/api/pay")
            payment_id = page_url.rpartition("/")[2]
            for path in (
                "/",
                "/test",
                f"/success/{payment_id}",
                f"/sandbox/invoices/{payment_id}",
                "/bank/",
                "/sandbox/inbox",
            ):
                address = f"{site}{path}"
                page = requests.get(address, timeout=30).text
                places = re.findall(r'(?:href|src|action|data-progress|data-refresh)="([^"]+)"', page)
                inside = [urljoin(address, place) for place in places if not place.startswith(("http", "#"))]
                assert inside
                assert all(place.startswith(f"{site}/") for place in inside), inside
                for place in inside:
                    assert requests.get(place, timeout=30).status_code in (200, 405), place


def test_prefix_of_the_environment_is_refused():
    with pytest.raises(SettingsError, match="SCRIPT_NAME"):
        Settings.from_env({"SCRIPT_NAME": "/sandbox"})

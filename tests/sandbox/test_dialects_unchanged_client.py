"""An unchanged client in the shape of sheet §8, against a sandbox that is really served and sends by itself."""

import hashlib
import hmac
import json
import threading

import pytest
import requests
from flask import Flask

from sandbox import create_app
from sandbox.settings import Settings
from tests.receivers import Receiver
from tests.sandbox.factories import EMAIL, SECRET, make_settings
from tests.sandbox.payer import pay_as_a_script
from tests.sandbox.server import Process, eventually, free_port, served


class UnchangedShop:
    """What shops in the wild look like: they know the base address, the secret, and AcquireMock's documentation."""

    def __init__(self, base: str, secret: str) -> None:
        self.base, self.secret = base, secret
        self.orders: dict[str, str] = {}
        self.refused: list[bytes] = []

    def create(self, body: dict[str, object]) -> str:
        response = requests.post(f"{self.base}/api/create-invoice", json=body, timeout=30)
        assert response.status_code == 200
        page_url: str = response.json()["pageUrl"]
        return page_url

    def verify(self, payload: dict[str, object], signature: str) -> bool:
        message = json.dumps(payload, sort_keys=True)
        expected = hmac.new(self.secret.encode(), message.encode(), hashlib.sha256).hexdigest()
        return hmac.compare_digest(expected, signature)

    def receive(self, request) -> tuple[int, dict[str, str], bytes]:
        payload = json.loads(request.body)
        if not self.verify(payload, request.headers["x-signature"]):
            self.refused.append(request.body)
            return 401, {}, b"{}"
        self.orders[payload["reference"]] = payload["status"]
        return 200, {"Content-Type": "application/json"}, b'{"status": "received"}'


class SlashedShop(UnchangedShop):
    """A shop whose addresses end in a slash."""

    def create(self, body: dict[str, object]) -> str:
        response = requests.post(f"{self.base}/api/create-invoice/", json=body, allow_redirects=False, timeout=30)
        assert response.status_code == 200
        page_url: str = response.json()["pageUrl"]
        return page_url


CAMEL = ("webhookUrl", "redirectUrl")
SNAKE = ("webhook_url", "redirect_url")


@pytest.mark.parametrize("kind", [UnchangedShop, SlashedShop])
@pytest.mark.parametrize(("spelling", "pay_path"), [(CAMEL, "/api/pay"), (SNAKE, "/pay")])
def test_an_unchanged_client_passes(tmp_path, shop, spelling, pay_path, kind):
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    settings = make_settings(tmp_path, SANDBOX_PORT=str(port), SANDBOX_BASE_URL=base)
    unchanged = kind(base, SECRET)
    shop.answer = unchanged.receive
    with served(create_app(settings, work=True), port):
        body = {"amount": 25000, "reference": "ORDER-9", spelling[0]: shop.url, spelling[1]: "http://localhost/thanks"}
        page_url = unchanged.create(body)
        pay_as_a_script(base, page_url, "ORDER-9", pay_path)
        eventually(lambda: "ORDER-9" in unchanged.orders)
        slash = "/" if kind is SlashedShop else ""
        health = requests.get(f"{base}/health{slash}", timeout=30).json()
        signed = json.dumps({"a": 1}, sort_keys=True).encode()
        headers = {"X-Signature": hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()}
        verified = requests.post(f"{base}/webhooks/verify{slash}", data=signed, headers=headers, timeout=30).json()

    assert unchanged.orders == {"ORDER-9": "paid"}
    assert unchanged.refused == []
    assert health["status"] == "ok"
    assert verified == {"valid": True}


def test_a_client_with_the_settings_of_upstream_and_without_a_webhook_passes(tmp_path):
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    environ = {
        "SANDBOX_DATABASE": str(tmp_path / "sandbox.db"),
        "SANDBOX_PORT": str(port),
        "WEBHOOK_SECRET": SECRET,
        "BASE_URL": base,
        "CURRENCY_CODE": "UAH",
    }
    with served(create_app(Settings.from_env(environ), work=True), port):
        body = {"amount": 25000, "reference": "ORDER-9", "webhookUrl": "", "redirectUrl": "http://localhost/thanks"}
        page_url = UnchangedShop(base, SECRET).create(body)
        pay_as_a_script(base, page_url, "ORDER-9", "/api/pay")
        health = requests.get(f"{base}/health", timeout=30).json()

    assert page_url.startswith(f"{base}/checkout/")
    assert health["currency"] == "UAH"


def test_a_client_in_a_network_of_containers_passes_once_that_is_listed(make_app):
    body = {"amount": 1, "reference": "R", "webhook_url": "http://172.17.0.5:8000/hook", "redirect_url": "http://shop/"}

    assert make_app().test_client().post("/api/create-invoice/", json=body).status_code == 422
    listed = make_app(SANDBOX_NETWORKS="172.17.0.0/16").test_client()
    assert listed.post("/api/create-invoice/", json=body).status_code == 200


def test_a_refused_body_is_422_for_it_too(client):
    assert client.post("/api/create-invoice", json={"amount": 1}).status_code == 422


def test_flask_run_serves_on_the_port_it_is_given_and_works(tmp_path, shop):
    unchanged = UnchangedShop("", SECRET)
    shop.answer = unchanged.receive
    environ = {
        "SANDBOX_DATABASE": str(tmp_path / "s.db"),
        "SANDBOX_WEBHOOK_SECRET": SECRET,
        "SANDBOX_PAY_PER_MINUTE": "0",
    }
    process = Process(environ, tmp_path / "log")
    process.start()
    try:
        unchanged.base = process.url
        page_url = unchanged.create(
            {"amount": 1, "reference": "R", "webhookUrl": shop.url, "redirectUrl": "http://a.example"}
        )
        assert page_url.startswith(f"{process.url}/checkout/")
        pay_as_a_script(process.url, page_url, "R", "/pay")
        eventually(lambda: unchanged.orders == {"R": "paid"})
    finally:
        process.kill()


# ---- killed at any moment, no webhook is lost


def pay_directly(base: str, payment_id: str) -> bool:
    """Pay with a card that needs no code; return whether the sandbox has said that it is paid."""
    browser = requests.Session()
    page = browser.get(f"{base}/checkout/{payment_id}", timeout=30)
    data = {"card_number": "5555555555554444", "email": EMAIL, "csrf_token": browser.cookies.get("csrf_token", "")}
    if page.status_code != 200:
        return False
    paid = browser.post(f"{base}/pay/{payment_id}", data=data, allow_redirects=False, timeout=30)
    return paid.status_code == 303


@pytest.fixture
def process(tmp_path):
    environ = {
        "SANDBOX_DATABASE": str(tmp_path / "s.db"),
        "SANDBOX_WEBHOOK_SECRET": SECRET,
        "SANDBOX_PAY_PER_MINUTE": "0",
    }
    process = Process(environ, tmp_path / "log")
    process.start()
    yield process
    process.kill()


def let_leases_end(folder) -> None:
    """Have the leases of what was killed be over, without waiting for it."""
    app: Flask = create_app(make_settings(folder, SANDBOX_DATABASE=str(folder / "s.db")), work=False)
    with app.extensions["sandbox"].store.writing() as connection:
        connection.execute("UPDATE webhooks SET due_at = created_at WHERE state = 'pending'")


def received_ids(shop: Receiver) -> set[str]:
    return {request.headers["x-payment-id"] for request in shop.received}


def test_killed_between_the_change_and_the_webhook_it_loses_none(process, shop, tmp_path):
    """More payments than there are senders, at a shop that does not answer: some are under way, the others stored."""
    released = threading.Event()

    def silent(_request):
        released.wait(60)
        return 500, {}, b""

    shop.answer = silent
    unchanged = UnchangedShop(process.url, SECRET)
    body = {"amount": 1, "reference": "R", "webhookUrl": shop.url, "redirectUrl": "http://a.example"}
    paid = [unchanged.create(body).split("/")[-1] for _ in range(12)]
    assert all(pay_directly(process.url, payment_id) for payment_id in paid)
    eventually(lambda: len(shop.received) == 8)
    process.kill()
    released.set()
    assert len(received_ids(shop)) == 8

    shop.received.clear()
    shop.answer = unchanged.receive
    let_leases_end(tmp_path)
    process.start()
    eventually(lambda: received_ids(shop) == set(paid))
    assert unchanged.refused == []


def test_killed_at_any_moment_it_has_a_webhook_for_whatever_is_paid(process, shop, tmp_path):
    unchanged = UnchangedShop(process.url, SECRET)
    shop.answer = unchanged.receive
    body = {"amount": 1, "reference": "R", "webhookUrl": shop.url, "redirectUrl": "http://a.example"}
    created = [unchanged.create(body).split("/")[-1] for _ in range(30)]
    confirmed: list[str] = []

    def pay_all(payments: list[str]) -> None:
        for payment_id in payments:
            try:
                if pay_directly(process.url, payment_id):
                    confirmed.append(payment_id)
            except requests.RequestException:
                return  # it is dead

    threads = [threading.Thread(target=pay_all, args=(created[start::3],)) for start in range(3)]
    for thread in threads:
        thread.start()
    eventually(lambda: len(confirmed) >= 6)
    process.kill()
    for thread in threads:
        thread.join(60)
    let_leases_end(tmp_path)
    process.start()

    def paid() -> set[str]:
        listed = requests.get(f"{process.url}/sandbox/api/invoices?status=paid", timeout=30).json()["items"]
        return {invoice["id"] for invoice in listed}

    assert set(confirmed) <= paid(), "what was confirmed to a payer is paid"
    eventually(lambda: received_ids(shop) >= paid())
    assert received_ids(shop) == paid(), "and no other webhook was sent"

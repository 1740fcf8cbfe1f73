"""A payer's browser or program, in this process: it opens, pays, enters codes, as an unchanged client does."""

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import requests
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from sandbox import context, worker
from sandbox.gateway import checkout
from sandbox.gateway.model import Invoice
from sandbox.gateway.webhooks import Webhook, WebhookFilter
from tests.sandbox.factories import EMAIL, GOOD, order

HIDDEN = re.compile(r'name="csrf_token"[^>]*value="([^"]+)"|value="([^"]+)"[^>]*name="csrf_token"')


@dataclass
class Payer:
    """Speaks to one sandbox; each has its own cookies."""

    app: Flask
    client: FlaskClient

    def create(self, **overrides: Any) -> str:
        answer = self.client.post("/api/create-invoice", json=order(**overrides))
        assert answer.status_code == 200, answer.text
        return answer.json["pageUrl"].split("/")[-1]

    def open(self, payment_id: str) -> str:
        page = self.client.get(f"/checkout/{payment_id}")
        assert page.status_code == 200, page.text
        found = HIDDEN.search(page.text)
        assert found
        return found[1] or found[2]

    def pay(
        self, payment_id: str, card: str = GOOD, *, path: str = "/api/pay", key: str | None = None, **form: Any
    ) -> TestResponse:
        token = form.pop("csrf_token", None) or self.open(payment_id)
        return self.submit(payment_id, token, card, path=path, key=key, **form)

    def submit(
        self,
        payment_id: str,
        token: str,
        card: str = GOOD,
        *,
        path: str = "/api/pay",
        key: str | None = None,
        **form: Any,
    ) -> TestResponse:
        data = {"card_number": card, "expiry": "12/30", "cvv": "123", "email": EMAIL, "csrf_token": token, **form}
        headers = {"Idempotency-Key": key} if key else {}
        return self.client.post(f"{path}/{payment_id}", data=data, headers=headers)

    def code(self, payment_id: str) -> str:
        return str(self.client.get(f"/sandbox/api/invoices/{payment_id}/otp").json["otp_code"])

    def wrong_code(self, payment_id: str) -> str:
        return f"{(int(self.code(payment_id)) + 1) % 10_000:04d}"

    def enter(self, payment_id: str, code: str) -> TestResponse:
        return self.client.post(f"/otp/verify/{payment_id}", data={"otp_code": code})

    def pay_through(self, payment_id: str, card: str = GOOD, **form: Any) -> TestResponse:
        answer = self.pay(payment_id, card, **form)
        assert answer.status_code == 303, answer.text
        if "/otp/" in answer.location:
            answer = self.enter(payment_id, self.code(payment_id))
        assert answer.location.endswith(f"/success/{payment_id}")
        return answer

    def prove(self, email: str = EMAIL) -> None:
        """Prove to read an e-mail, as the page's script does."""
        assert self.client.post("/api/auth/send-code", json={"email": email}).status_code == 200
        code = self.client.get(f"/sandbox/api/inbox?email={email}").json["items"][0]["code"]
        assert self.client.post("/api/auth/verify-code", json={"email": email, "code": code}).status_code == 200

    def script(self, payment_id: str, chain: str, **more: Any) -> TestResponse:
        return self.client.post(f"/sandbox/api/invoices/{payment_id}/script", json={"chain": chain, **more})

    def act(self, payment_id: str, what: str, *, key: str | None = None, **body: Any) -> TestResponse:
        headers = {"Idempotency-Key": key} if key else {}
        return self.client.post(f"/sandbox/api/invoices/{payment_id}/{what}", json=body, headers=headers)

    def invoice(self, payment_id: str) -> Invoice:
        with self.app.app_context():
            return checkout.invoice(payment_id)

    def moves(self, payment_id: str) -> list[str]:
        with self.app.app_context():
            return [move.after for move in checkout.moves(payment_id)]

    def webhooks(self, payment_id: str) -> list[Webhook]:
        """Return the webhooks of a payment, oldest first."""
        with self.app.app_context():
            return checkout.list_webhooks(WebhookFilter(invoice_id=payment_id))[::-1]

    def work(self) -> None:
        """Do what the worker does, once, and in order."""
        with self.app.app_context():
            worker.settle_due()
            worker.deliver_due()

    def secret(self) -> str:
        with self.app.app_context():
            return context.webhook_secret()


def pay_as_a_script(base: str, page_url: str, reference: str, pay_path: str) -> None:
    """Do what a scripted payer does: keep cookies, read the token, pay, read the code, confirm."""
    browser, prefix = requests.Session(), urlsplit(base).path
    payment_id = page_url.rsplit("/", maxsplit=1)[-1]
    page = browser.get(page_url, timeout=30)
    assert page.status_code == 200
    assert reference in page.text
    (token,) = re.findall(r'<input[^>]*name="csrf_token"[^>]*value="([^"]+)"', page.text)[:1]
    assert browser.cookies["csrf_token"] == token
    card = {"card_number": "4444 4444 4444 4444", "expiry": "12/25", "cvv": "123", "email": EMAIL, "csrf_token": token}
    paid = browser.post(f"{base}{pay_path}/{payment_id}", data=card, allow_redirects=False, timeout=30)
    assert (paid.status_code, paid.headers["Location"]) == (303, f"{prefix}/otp/{payment_id}")
    assert browser.get(f"{base}/otp/{payment_id}", timeout=30).status_code == 200
    code = requests.get(f"{base}/sandbox/api/invoices/{payment_id}/otp", timeout=30).json()["otp_code"]
    confirmed = browser.post(
        f"{base}/otp/verify/{payment_id}", data={"otp_code": code}, allow_redirects=False, timeout=30
    )
    assert (confirmed.status_code, confirmed.headers["Location"]) == (303, f"{prefix}/success/{payment_id}")
    assert browser.get(f"{base}/success/{payment_id}", timeout=30).status_code == 200


def error(answer) -> tuple[int, str, str | None]:
    """Return status, code and payment of an error."""
    assert set(answer.json) == {"error", "message", "payment_id"}
    assert answer.json["message"]
    return answer.status_code, answer.json["error"], answer.json["payment_id"]

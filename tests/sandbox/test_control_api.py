"""The sandbox's own API: lists, history, mails, reset."""

from sandbox import context
from tests.sandbox.factories import EMAIL, NO_3DS


def test_invoices_are_listed_and_filtered(payer):
    paid, pending = payer.create(reference="Order ONE"), payer.create(reference="Order TWO")
    payer.pay(paid, NO_3DS)

    def ids(query: str) -> list[str]:
        return [item["id"] for item in payer.client.get(f"/sandbox/api/invoices?{query}").json["items"]]

    assert ids("") == [pending, paid]
    assert ids("status=paid") == ids("text=one") == ids(f"text={EMAIL}") == ids(f"text={paid[:8]}") == [paid]
    assert ids("limit=1") == [pending]
    assert ids("text=nothing") == []
    assert payer.client.get("/sandbox/api/invoices?limit=0").status_code == 400


def test_an_invoice_tells_its_story(payer):
    payment_id = payer.create()
    payer.pay_through(payment_id)

    shown = payer.client.get(f"/sandbox/api/invoices/{payment_id}").json

    assert [(move["before"], move["after"]) for move in shown["moves"]] == [
        (None, "pending"),
        ("pending", "waiting_for_otp"),
        ("waiting_for_otp", "paid"),
    ]
    assert (shown["status"], shown["captured"], shown["email"]) == ("paid", 25000, EMAIL)


def test_webhooks_are_shown_with_all_that_went_out(payer, shop):
    payment_id = payer.create(webhookUrl=shop.url)
    payer.pay_through(payment_id)
    payer.work()

    (webhook,) = payer.client.get(f"/sandbox/api/webhooks?invoice={payment_id}&state=delivered").json["items"]

    (attempt,) = webhook["attempts"]
    assert attempt["body"].encode() == shop.received[0].body
    assert attempt["headers"]["X-Signature"] == attempt["signature"] == shop.received[0].headers["x-signature"]
    assert (attempt["answer_status"], attempt["answer_body"], attempt["error"]) == (200, "ok", None)
    assert payer.client.get("/sandbox/api/webhooks?state=failed").json["items"] == []


def test_receipts_and_codes_are_in_the_inbox(payer):
    payer.pay_through(payer.create(reference="R-1\r\nBcc: x"))

    mails = payer.client.get("/sandbox/api/inbox").json["items"]

    assert [mail["kind"] for mail in mails] == ["receipt", "otp"]
    assert "250.00 USD" in mails[0]["body"]
    assert "\n" not in mails[0]["subject"]
    assert payer.client.get("/sandbox/api/inbox?email=other@example.com").json["items"] == []


def test_reset_forgets_everything_but_the_secret(payer, make_app):
    app = make_app(SANDBOX_WEBHOOK_SECRET="")
    with app.app_context():
        secret = context.webhook_secret()
    payer.pay_through(payer.create(), save_card="true")
    payer.prove()

    assert payer.client.post("/sandbox/api/reset", json={}).status_code == 200

    assert payer.client.get("/sandbox/api/invoices").json["items"] == []
    assert payer.client.get("/sandbox/api/inbox").json["items"] == []
    assert payer.client.get(f"/api/user-info?email={EMAIL}").json == {"operations": [], "cards": []}
    with app.app_context():
        assert context.webhook_secret() == secret


def test_the_cards_are_listed(client):
    listed = client.get("/sandbox/api/cards").json

    assert {
        "number": "4444444444444444",
        "network": "AcquireMock",
        "title": "Success with 3-D Secure",
    }.items() <= listed["items"][0].items()
    assert {"ok", "fail", "otp", "slow", "timeout"} <= set(listed["steps"])

"""AcquireMock v2, the rest: e-mail codes, user-info, signatures."""

from tests.sandbox.factories import EMAIL, NO_3DS


def test_auth_answers_as_upstream(payer):
    sent = payer.client.post("/api/auth/send-code", json={"email": EMAIL})
    unknown = payer.client.post("/api/auth/verify-code", json={"email": "other@example.com", "code": "1"})
    wrong = payer.client.post("/api/auth/verify-code", json={"email": EMAIL, "code": "1"})

    assert sent.json == {"status": "sent", "message": "Code sent"}
    assert (unknown.status_code, unknown.json) == (400, {"detail": "Code expired or not found"})
    assert (wrong.status_code, wrong.json) == (400, {"detail": "Invalid code"})
    code = payer.client.get("/sandbox/api/inbox").json["items"][0]["code"]
    right = payer.client.post("/api/auth/verify-code", json={"email": EMAIL, "code": code})
    assert (right.status_code, right.json) == (200, {"status": "ok", "message": "Verified"})


def test_codes_are_mailed_as_often_as_one_may_pay(make_app, clock):
    client = make_app(SANDBOX_PAY_PER_MINUTE="5").test_client()

    def ask(number: int):
        return client.post("/api/auth/send-code", json={"email": f"{number}@example.com"})

    assert [ask(number).status_code for number in range(6)] == [200] * 5 + [429]
    assert ask(7).json == {"error": "Rate limit exceeded: 5 per 1 minute"}
    assert len(client.get("/sandbox/api/inbox").json["items"]) == 5
    clock.move(minutes=1)
    assert ask(8).status_code == 200


def test_codes_and_sessions_that_have_ended_are_deleted(payer, clock):
    payer.prove()
    payer.client.post("/api/auth/send-code", json={"email": "a@example.com"})
    clock.move(days=31)
    payer.client.post("/api/auth/send-code", json={"email": "b@example.com"})

    with payer.app.extensions["sandbox"].store.reading() as connection:
        assert [row["email"] for row in connection.execute("SELECT email FROM email_codes")] == ["b@example.com"]
        assert connection.execute("SELECT count(*) FROM sessions").fetchone()[0] == 0


def test_user_info_lists_the_last_five_operations_newest_first(payer, clock):
    payer.prove()
    for number in range(6):
        payer.pay_through(payer.create(reference=f"R{number}&"), NO_3DS)
        clock.move(minutes=1)

    info = payer.client.get(f"/api/user-info?email={EMAIL}").json

    assert [operation["reference"] for operation in info["operations"]] == [f"R{n}&amp;" for n in (5, 4, 3, 2, 1)]
    assert info["operations"][-1] == {
        "reference": "R1&amp;",
        "amount": 25000.0,
        "card_mask": "**** 4444",
        "date": "2026-03-01 12:01",
    }
    assert info["cards"] == []
    assert payer.client.get("/api/user-info").status_code == 422


def test_webhooks_verify_computes_the_mac_over_whatever_object_is_posted(client):
    signature = "64ac93839ec379f80776639f0c992c95ef3a0a66677d29c356b6efc83cac1f5f"
    body = {
        "payment_id": "550e8400-e29b-41d4-a716-446655440000",
        "reference": "ORDER-123",
        "amount": 25000.0,
        "status": "paid",
        "timestamp": "2025-01-15T10:30:00.000000",
        "card_mask": "**** 4444",
    }

    def answer(headers, changes):
        return client.post("/webhooks/verify", json={**body, **changes}, headers=headers)

    assert answer({"X-Signature": signature}, {}).json == {"valid": True}
    assert answer({"X-Signature": signature}, {"amount": 1.0}).json == {"valid": False}
    assert answer({"X-Signature": "é"}, {}).json == {"valid": False}
    assert (answer({}, {}).status_code, answer({}, {}).json) == (400, {"detail": "Missing signature"})

"""A bank that repeats an unusable body makes one incident, whatever it changes on the way; two operations make two."""

import base64
import json
import uuid
from collections.abc import Callable, Sequence

import pytest

import limits
import signing
from tests.callers import WEBHOOK, Bank
from tests.factories import INN, START, make_announcement, make_body
from tests.listeners import credit

ONE, TWO = "ccf0a86d-041b-4991-bcf7-e2352f7b8a4a", "0190a0b0-0000-7000-8000-000000000002"
STANDARD_SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()


def unusable(**members: object) -> bytes:
    return make_body(**{"operation_id": ONE, "amount": 0, **members})


def text(**members: str) -> bytes:
    """Write an unusable body, with some members as this very text, the amount last."""
    texts = {"operation_id": f'"{ONE}"', "payer_inn": f'"{INN}"', **members, "amount": members.get("amount", "0")}
    return ("{" + ", ".join(f'"{name}": {value}' for name, value in texts.items()) + "}").encode()


def incidents(operator) -> list[dict]:
    return operator.get("/incidents/", state="all", limit=100).json["items"]


SAME: dict[str, Sequence[bytes]] = {
    "counter": [unusable(attempt=number) for number in range(1, 11)],
    "time of sending": [unusable(sent_at=f"2026-03-01T12:00:0{second}Z") for second in range(3)],
    "counter within": [unusable(meta={"delivery": {"attempt": number, "of": 10}}) for number in range(3)],
    "counter in an array": [unusable(history=[{"attempt": n} for n in range(number)]) for number in range(3)],
    "order and white space": [
        unusable(),
        json.dumps(json.loads(unusable()), sort_keys=True, indent=4).encode(),
        json.dumps(dict(reversed(json.loads(unusable()).items())), separators=(",", ":")).encode() + b"\n",
    ],
    "number in another spelling": [
        text(amount="-1"),
        text(amount="-1.0"),
        text(amount="-10e-1"),
        text(amount="-0.1e1"),
    ],
    "zero in another spelling": [text(amount="0"), text(amount="0.00"), text(amount="0e5"), text(amount="-0")],
    "operation in another spelling": [
        unusable(operation_id=spelled) for spelled in (ONE, ONE.upper(), ONE.replace("-", ""), f"{{{ONE}}}")
    ],
    "letters as escapes": [text(document_number='"№ 1"'), text(document_number='"\\u2116 1"')],
    "operation that is no UUID": [unusable(operation_id="№ 77/15", attempt=number) for number in range(3)],
    "operation that is a number": [text(operation_id="77", attempt=str(number)) for number in range(3)],
    "usable but for a repeated key": [
        text(amount="5", attempt=str(number))[:-1] + b', "x": 1, "x": 2}' for number in range(3)
    ],
    "repeated operation": [
        text(attempt=str(number))[:-1] + f', "operation_id": "{TWO}"}}'.encode() for number in (1, 2)
    ],
    "NaN beside it": [text(rate="NaN", attempt=str(number)) for number in range(3)],
    "cut off": [text(attempt=str(number))[:-1] for number in range(3)],
    "cut off within a member": [text(attempt=str(number))[:-1] + b', "comment": "thank' for number in range(3)],
    "two documents": [text(attempt=str(number)) * 2 for number in range(3)],
    "comma too many": [text(attempt=str(number))[:-1] + b",}" for number in range(3)],
    "raw control character": [text(comment='"a\x01b"', attempt=str(number)) for number in range(3)],
    "invalid UTF-8": [text(comment='"a?b"', attempt=str(n)).replace(b"?", b"\xff") for n in range(3)],
    "UTF-16": [text(attempt=str(number)).decode().encode("utf-16") for number in range(3)],
    "byte order mark": [b"\xef\xbb\xbf" + text(attempt=str(number)) for number in range(3)],
    "within an array": [b"[" + text(amount="5", attempt=str(number)) + b"]" for number in range(3)],
    "within an object": [b'{"payment": ' + text(amount="5", attempt=str(number)) + b"}" for number in range(3)],
    "no operation, counter": [json.dumps({"amount": 5, "attempt": number}).encode() for number in range(3)],
    "no operation, counter in another style": [
        json.dumps({"amount": 5, "meta": {"retryCount": str(number)}}).encode() for number in range(3)
    ],
    "empty": [b"", b""],
}


@pytest.mark.parametrize("bodies", SAME.values(), ids=SAME)
def test_repeats_are_one_incident_that_counts_them(bank, operator, bodies):
    for body in bodies:
        assert bank.push(body).status_code == 400

    (incident,) = incidents(operator)
    assert incident["seen_count"] == len(bodies)
    assert base64.b64decode(incident["body_base64"]) == bodies[0]


DIFFERENT: dict[str, Sequence[bytes]] = {
    "another operation": [unusable(), unusable(operation_id=TWO)],
    "another operation that is no UUID": [unusable(operation_id="a/1"), unusable(operation_id="a/2")],
    "operation as a number and as text": [text(operation_id="77"), text(operation_id='"77"')],
    "another amount": [unusable(amount=-1), unusable(amount=-2)],
    "amount that came later": [text().replace(b', "amount": 0', b""), text()],
    "amount as text": [text(amount="-1"), text(amount='"-1"')],
    "amounts beyond arithmetic": [text(amount="1" + "0" * 60 + "1"), text(amount="1" + "0" * 60 + "2")],
    "amounts that only differ far behind the point": [text(amount=f"1.{'0' * 40}1"), text(amount=f"1.{'0' * 40}2")],
    "another document": [unusable(document_number="1"), unusable(document_number="2")],
    "another payer": [unusable(payer_inn="1"), unusable(payer_inn="2")],
    "another currency": [unusable(currency="USD"), unusable(currency="EUR")],
    "amounts that changed places": [
        b"[" + b",".join(text(operation_id=f'"{o}"', amount=a) for o, a in zip((ONE, TWO), amounts, strict=True)) + b"]"
        for amounts in (("1", "2"), ("2", "1"))
    ],
    "repeated operation": [text()[:-1] + f', "operation_id": "{uuid.UUID(int=n)}"}}'.encode() for n in range(2)],
    "second document": [text() + text(operation_id=f'"{TWO}"'), text() + text(operation_id=f'"{uuid.UUID(int=1)}"')],
    "cut off, another operation": [text()[:-1], text(operation_id=f'"{TWO}"')[:-1]],
    "cut off, another amount": [text(amount="1")[:-1], text(amount="14")[:-1]],
    "broken number": [text(amount="1,000")[:-1], text(amount="1,500")[:-1]],
    "operation under another name": [
        json.dumps({**make_announcement(operation_id=None), "operationId": other}).encode() for other in (ONE, TWO)
    ],
    "empty operation": [unusable(operation_id="", number=number) for number in (1, 2)],
    "no operation, another time": [json.dumps({"amount": 5, "time": second}).encode() for second in (1, 2)],
    "nothing of JSON": [b"amount=1", b"amount=2"],
    "bytes that are no text": [b"\xff", b"\xfe"],
    "byte and its escape": [b'{"x": "\xff"}', b'{"x": "\\\\xff"}'],
    "array and object": [b"[]", b"{}"],
    "text that looks like a number's mark": [b'[{"number": "1e0"}]', b"[1]"],
}


@pytest.mark.parametrize("bodies", DIFFERENT.values(), ids=DIFFERENT)
def test_what_may_be_two_operations_is_two_incidents(bank, operator, bodies):
    for body in bodies:
        assert bank.push(body).status_code == 400

    assert [base64.b64decode(incident["body_base64"]) for incident in reversed(incidents(operator))] == list(bodies)


def test_incident_names_the_operation_that_can_be_read(bank, operator):
    for body in (unusable(), unusable(operation_id="a/1"), text(operation_id=f'"{TWO}"')[:-1], b"{}"):
        bank.push(body)

    assert [incident["operation_id"] for incident in reversed(incidents(operator))] == [ONE, None, TWO, None]


def test_other_content_type_makes_no_second_incident(bank, operator):
    for kind in ("text/plain", "application/json", "", "application/xml"):
        bank.push(unusable(), content_type=kind)

    assert [incident["seen_count"] for incident in incidents(operator)] == [4]


def test_counter_in_a_header_makes_no_second_incident(client, operator):
    body = unusable()
    for number in range(3):
        headers = {"X-Signature": signing.sign(body, Bank(client).secret), "X-Attempt": str(number)}
        client.post(WEBHOOK, data=body, headers=headers, content_type="application/json")

    assert [incident["seen_count"] for incident in incidents(operator)] == [3]


def test_queued_repeats_are_one_incident_too(make_app, operator):
    app = make_app(BALANCE_UPDATES="queued")
    for bodies in (SAME["counter"], SAME["cut off"], DIFFERENT["another operation"][1:]):
        for body in bodies:
            assert Bank(app.test_client()).push(body).status_code == 200
    credit(app)

    assert [(incident["seen_count"], incident["operation_id"]) for incident in reversed(incidents(operator))] == [
        (10, ONE),
        (3, ONE),
        (1, TWO),
    ]


def standard(client, body: bytes, *, message_id: str, at: int = 0):
    timestamp = int(START.timestamp()) + at
    signature = signing.sign_standard(body, STANDARD_SECRET, message_id=message_id, timestamp=timestamp)
    headers = {"webhook-id": message_id, "webhook-timestamp": str(timestamp), "webhook-signature": signature}
    return client.post(WEBHOOK, data=body, headers=headers, content_type="application/json")


class TestMessageId:
    @pytest.fixture(params=["immediate", "queued"])
    def send(self, make_app, request) -> Callable[..., None]:
        app = make_app(BALANCE_UPDATES=request.param, BANK_WEBHOOK_SECRETS=STANDARD_SECRET)

        def send(body: bytes, **options: object) -> None:
            assert standard(app.test_client(), body, **options).status_code in (200, 400)
            credit(app)

        return send

    def test_names_a_repeat_of_which_nothing_else_can_be_read(self, send, operator):
        for number, body in enumerate((b"try 1", b'{"n": 2}', b'{"amount": ')):
            send(body, message_id="msg_1", at=number)
        send(b"try 1", message_id="msg_2")

        assert [incident["seen_count"] for incident in incidents(operator)] == [1, 3]

    def test_keeps_facts_apart_that_can_be_read(self, send, operator):
        send(b'{"amount": 1}', message_id="msg_1")
        send(b'{"amount": 2}', message_id="msg_1")

        assert len(incidents(operator)) == 2

    def test_operation_in_the_body_is_more_than_the_id_of_the_message(self, send, operator):
        send(unusable(attempt=1), message_id="msg_1")
        send(unusable(attempt=2), message_id="msg_2")
        send(unusable(operation_id=TWO), message_id="msg_2")

        assert [incident["seen_count"] for incident in incidents(operator)] == [1, 2]

    def test_that_is_too_long_names_nothing(self, send, operator):
        send(b"try 1", message_id="m" * 256)
        send(b"try 2", message_id="m" * 256)

        assert len(incidents(operator)) == 2

    def test_that_was_not_signed_names_nothing(self, bank, client, operator):
        for body in (b"try 1", b"try 2"):
            headers = {"X-Signature": signing.sign(body, bank.secret), "webhook-id": "msg_1"}
            client.post(WEBHOOK, data=body, headers=headers, content_type="application/json")

        assert len(incidents(operator)) == 2


class TestCredited:
    def test_incident_points_to_the_payment_that_came_after_it_and_stays_open(self, bank, operator, check_ledger):
        bank.push(unusable())
        assert incidents(operator)[0]["payment_id"] is None

        credited = bank.push(unusable(amount=5)).json

        (incident,) = operator.get("/incidents/").json["items"]
        assert incident["payment_id"] == credited["payment_id"]
        assert operator.get(f"/incidents/{incident['id']}/").json["payment_id"] == credited["payment_id"]
        check_ledger()

    def test_shell_says_so(self, bank, app):
        bank.push(unusable())
        bank.push(unusable(amount=5))

        header, line = app.test_cli_runner().invoke(args=["incidents", "list"]).output.splitlines()

        assert line[header.index("CREDITED") :].startswith("yes")


class TestBound:
    @pytest.fixture
    def nearly_full(self, bank, operator, database):
        """One place below the limit."""
        bank.push(b"{}")
        with database.unguarded() as connection:
            columns = "kind, source, facts, body, body_sha256, key_id, seen_count, created_at, last_seen_at"
            for number in range(limits.OPEN_UNUSABLE_WEBHOOKS_MAX - 2):
                connection.exec_driver_sql(
                    f"INSERT INTO incidents (fingerprint, {columns}) SELECT 'filler {number}', {columns} "
                    "FROM incidents WHERE seen_count = 1 ORDER BY id LIMIT 1"
                )

    def test_refused_bodies_above_the_limit_are_only_counted(self, nearly_full, bank, operator, database):
        for number in range(4):
            bank.push(unusable(operation_id=f"more {number}"))
        bank.push(unusable(operation_id="more 0"))

        assert database.count("incidents") == limits.OPEN_UNUSABLE_WEBHOOKS_MAX + 1
        newest, last, *_ = incidents(operator)
        assert (newest["facts"]["beyond"], newest["seen_count"]) == (limits.OPEN_UNUSABLE_WEBHOOKS_MAX, 3)
        assert (newest["operation_id"], newest["kind"]) == (None, "unusable_body")
        assert last["seen_count"] == 2

    def test_count_is_open_again_when_it_goes_on(self, nearly_full, bank, operator):
        for number in range(2):
            bank.push(unusable(operation_id=f"more {number}"))
        number = incidents(operator)[0]["id"]
        operator.post(f"/incidents/{number}/resolve/", resolution="they know")
        bank.push(unusable(operation_id="more"))

        incident = operator.get(f"/incidents/{number}/").json
        assert (incident["seen_count"], incident["resolved_at"]) == (2, None)
        assert [each["resolution"] for each in incident["resolutions"]] == ["they know"]

    def test_room_is_made_by_resolving(self, nearly_full, bank, operator, database):
        bank.push(unusable(operation_id="more 0"))
        operator.post(f"/incidents/{incidents(operator)[0]['id']}/resolve/", resolution="seen")
        bank.push(unusable(operation_id="more 1"))

        assert "beyond" not in incidents(operator)[0]["facts"]

    def test_what_holds_money_or_was_acknowledged_is_kept_whatever_there_is(
        self, nearly_full, make_app, bank, operator, database
    ):
        bank.push(unusable(operation_id="more"))
        before = database.count("incidents")
        holding, queued = make_app(UNKNOWN_INN="hold"), make_app(BALANCE_UPDATES="queued")

        for _ in range(3):
            assert Bank(holding.test_client()).send().status_code == 202
        bank.send(operation_id=ONE)
        for amount in (1, 2):
            assert bank.send(operation_id=ONE, amount=amount).json["status"] == "conflict"
        for number in range(3):
            Bank(queued.test_client()).push(unusable(operation_id=f"queued {number}"))
        credit(queued)

        assert database.count("incidents") == before + 3 + 2 + 3

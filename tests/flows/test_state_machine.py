"""Random days at the door against an independent model that predicts every answer and every balance."""

import uuid
from dataclasses import dataclass, field

from flask import Flask
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from sqlalchemy import Connection, text

from ledger import audit
from ledger.findings import Finding
from tests.callers import Bank
from tests.databases import Database
from tests.factories import make_announcement, make_body

INNS = ["1234567890", "7707083893", "500100732259"]
LIMIT = 2**63 - 1
AMOUNTS = st.one_of(st.integers(1, 10**6), st.sampled_from([1, LIMIT - 1, LIMIT, LIMIT // 2]))
USELESS = [
    {"amount": 0},
    {"amount": LIMIT + 1},
    {"payer_inn": "12"},
    {"document_date": "0001-01-01T00:00:00Z"},
    {"document_number": "\x00"},
    {"operation_id": "x"},
]
EXAMPLES = {"sqlite": 40, "postgresql": 15, "mariadb": 15}


@dataclass
class Model:
    """What the door should know; written from the description, not from the code."""

    balances: dict[str, int] = field(default_factory=dict)
    accepted: dict[str, tuple[object, ...]] = field(default_factory=dict)
    logs: dict[str, list[int]] = field(default_factory=dict)
    incidents: set[object] = field(default_factory=set)

    def announce(self, operation_id: str, inn: str, amount: int, number: str) -> tuple[int, str]:
        """Predict the answer and remember what follows."""
        facts = (inn, amount, number)
        if operation_id in self.accepted:
            if self.accepted[operation_id] == facts:
                return 200, "duplicate"
            self.incidents.add(("conflict", operation_id, facts))
            return 200, "conflict"
        if self.balances.get(inn, 0) + amount > LIMIT:
            self.incidents.add(("limit", operation_id, facts))
            return 202, "held"
        self.accepted[operation_id] = facts
        self.balances[inn] = self.balances.get(inn, 0) + amount
        self.logs.setdefault(inn, []).append(amount)
        return 200, "credited"


class Door(RuleBasedStateMachine):
    """The webhook door of one app, beside the model; a subclass says which."""

    app: Flask
    database: Database
    reader: Connection

    def __init__(self) -> None:
        super().__init__()
        self.database.clean()
        self.bank = Bank(self.app.test_client())
        self.model = Model()
        self.sent: list[tuple[str, str, int, str]] = []

    def send(self, operation_id: str, inn: str, amount: int, number: str) -> None:
        expected = self.model.announce(operation_id, inn, amount, number)
        before = self.money() if expected[1] != "credited" else None
        answer = self.bank.send(operation_id=operation_id, payer_inn=inn, amount=amount, document_number=number)
        assert (answer.status_code, answer.json["status"]) == expected
        assert before is None or self.money() == before

    def money(self) -> list[object]:
        rows = self.database.rows(self.reader)
        return [rows[table] for table in ("organizations", "payments", "balance_log")]

    @rule(inn=st.sampled_from(INNS), amount=AMOUNTS, number=st.sampled_from(["1", "2"]))
    def credit(self, inn: str, amount: int, number: str) -> None:
        self.sent.append((str(uuid.uuid4()), inn, amount, number))
        self.send(*self.sent[-1])

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def repeat(self, data: st.DataObject) -> None:
        self.send(*data.draw(st.sampled_from(self.sent)))

    @precondition(lambda self: self.sent)
    @rule(data=st.data(), inn=st.sampled_from(INNS), amount=AMOUNTS)
    def contradict(self, data: st.DataObject, inn: str, amount: int) -> None:
        operation_id, _, _, number = data.draw(st.sampled_from(self.sent))
        self.send(operation_id, inn, amount, number)

    @rule(wrong=st.sampled_from(USELESS))
    def send_something_useless(self, wrong: dict[str, object]) -> None:
        before = self.database.rows(self.reader)
        body = make_body(**{**make_announcement(operation_id=str(uuid.UUID(int=7))), **wrong})
        self.model.incidents.add(body)
        assert self.bank.push(body).status_code == 400
        assert {**self.database.rows(self.reader), "incidents": None} == {**before, "incidents": None}

    @rule(amount=AMOUNTS)
    def forge(self, amount: int) -> None:
        before = self.database.rows(self.reader)
        assert self.bank.push(make_body(amount=amount), signature="0" * 64).status_code == 401
        assert self.database.rows(self.reader) == before

    @invariant()
    def balances_and_logs_are_as_predicted(self) -> None:
        client = self.bank.client
        items = client.get("/api/v1/organizations/").json["items"]
        assert {item["inn"]: item["balance"] for item in items} == self.model.balances
        for inn, amounts in self.model.logs.items():
            log = client.get(f"/api/v1/organizations/{inn}/log/?limit=500").json["items"]
            assert [entry["delta"] for entry in reversed(log)] == amounts
            assert [entry["version"] for entry in reversed(log)] == list(range(1, len(amounts) + 1))
        assert self.reader.scalar(text("SELECT count(*) FROM incidents")) == len(self.model.incidents)

    def teardown(self) -> None:
        with self.app.app_context():
            assert [step for step in audit.verify() if isinstance(step, Finding)] == []


def test_model_predicts_every_answer_and_every_balance(app, database):
    profile = settings(
        max_examples=EXAMPLES[database.family],
        stateful_step_count=25,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )

    with database.connection() as reader:
        door = type("Door", (Door,), {"app": app, "database": database, "reader": reader})
        run_state_machine_as_test(door, settings=profile)

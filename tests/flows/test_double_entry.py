"""Random credits, debits, limits and transfers against an independent double-entry model that predicts all of it."""

import uuid
from collections import Counter
from dataclasses import dataclass, field

from flask import Flask
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

import services
from database.session import snapshot, transaction
from errors import OrganizationUnknown, Overdraft, OverdraftInUse, PaymentError
from ledger import audit, organizations, posting, transfers, trial_balance
from ledger.findings import Finding
from tests.databases import Database
from tests.factories import INN, OTHER_INN, START, make_credit, make_debit

INNS = (INN, OTHER_INN)
AMOUNTS = st.one_of(st.integers(1, 1000), st.just(2**61))
ACCOUNTS = ("fees:shop", "refunds:yookassa", "disputes:yookassa")
EXAMPLES = {"sqlite": 40, "postgresql": 15, "mariadb": 15}


@dataclass
class Books:
    """Two columns for each account, and what each organisation may owe; written from the description."""

    debits: Counter[str] = field(default_factory=Counter)
    credits: Counter[str] = field(default_factory=Counter)
    limits: dict[str, int] = field(default_factory=dict)
    overdrawn: int = 0

    def move(self, debited: str, credited: str, amount: int) -> None:
        """Write an amount into both columns."""
        self.debits[debited] += amount
        self.credits[credited] += amount

    def balance(self, inn: str) -> int:
        """Return what an organisation has."""
        return self.credits[inn] - self.debits[inn]


class Bookkeeping(RuleBasedStateMachine):
    """The ledger of one app beside the books; a subclass says which."""

    app: Flask
    database: Database

    def __init__(self) -> None:
        super().__init__()
        self.database.clean()
        self.books = Books()
        self.operations: dict[uuid.UUID, tuple[str, int, str, bool]] = {}
        self.recorded: set[uuid.UUID] = set()

    @rule(inn=st.sampled_from(INNS), amount=AMOUNTS)
    def credit(self, inn: str, amount: int) -> None:
        with self.app.app_context(), transaction() as session:
            (outcome,) = posting.post(session, [make_credit(inn=inn, amount=amount)])
        if self.books.balance(inn) + amount > 2**63 - 1:
            assert outcome.status == "balance_limit"
            return
        assert outcome.status == "credited"
        self.books.limits.setdefault(inn, 0)
        self.books.move("bank:plain", inn, amount)

    @rule(inn=st.sampled_from(INNS), amount=AMOUNTS, account=st.sampled_from(ACCOUNTS), outside=st.booleans())
    def debit(self, inn: str, amount: int, account: str, outside: bool) -> None:
        operation_id = uuid.uuid4()
        self.operations[operation_id] = (inn, amount, account, outside)
        self.ask(operation_id)

    @precondition(lambda self: self.operations)
    @rule(data=st.data())
    def repeat(self, data: st.DataObject) -> None:
        self.ask(data.draw(st.sampled_from(list(self.operations))))

    def ask(self, operation_id: uuid.UUID) -> None:
        inn, amount, account, outside = self.operations[operation_id]
        entry = make_debit(inn=inn, amount=amount, counter_account=account, outside=outside, operation_id=operation_id)
        with self.app.app_context():
            try:
                answer = str(services.debit(entry).status)
            except PaymentError as error:
                answer = type(error).__name__
        assert answer == self.expected(operation_id, inn, amount, outside)
        if answer == "debited":
            self.books.move(inn, account, amount)
            self.books.overdrawn += outside and self.books.balance(inn) < -self.books.limits[inn]
            self.recorded.add(operation_id)

    def expected(self, operation_id: uuid.UUID, inn: str, amount: int, outside: bool) -> str:
        if operation_id in self.recorded:
            return "duplicate"
        if inn not in self.books.limits:
            return OrganizationUnknown.__name__
        left = self.books.balance(inn) - amount
        if outside:
            return "debited" if left >= -(2**62) else "BalanceLimit"
        return "debited" if left >= -self.books.limits[inn] else Overdraft.__name__

    @rule(inn=st.sampled_from(INNS), limit=st.sampled_from([0, 10, 1000, 2**62]))
    def set_limit(self, inn: str, limit: int) -> None:
        with self.app.app_context():
            try:
                organizations.set_overdraft_limit(inn, limit, by="test", now=START)
                answer = "set"
            except PaymentError as error:
                answer = type(error).__name__
        if inn not in self.books.limits:
            assert answer == OrganizationUnknown.__name__
        elif self.books.balance(inn) < -limit and limit < self.books.limits[inn]:
            assert answer == OverdraftInUse.__name__
        else:
            assert answer == "set"
            self.books.limits[inn] = limit

    @rule(amount=AMOUNTS, accounts=st.permutations(ACCOUNTS))
    def transfer(self, amount: int, accounts: list[str]) -> None:
        debited, credited, _ = accounts
        with self.app.app_context():
            transfers.transfer(
                operation_id=uuid.uuid4(),
                debit_account=debited,
                credit_account=credited,
                amount=amount,
                note="n",
                by="test",
                now=START,
            )
        self.books.move(debited, credited, amount)

    @invariant()
    def both_columns_are_as_predicted(self) -> None:
        with self.app.app_context():
            with snapshot() as session:
                read = trial_balance.read(session)
            balances = {row.inn: row.balance for row in map(organizations.find, self.books.limits)}
        assert balances == {inn: self.books.balance(inn) for inn in self.books.limits}
        for column, mine in (("debits", self.books.debits), ("credits", self.books.credits)):
            kept = {line.account: getattr(line, column) for line in read.lines}
            expected = {account: amount for account, amount in mine.items() if account not in INNS}
            expected["organizations"] = sum(mine[inn] for inn in INNS)
            assert {account: amount for account, amount in kept.items() if amount} == {
                account: amount for account, amount in expected.items() if amount
            }
        assert read.debits == read.credits
        assert self.database.count("incidents") == self.books.overdrawn

    def teardown(self) -> None:
        with self.app.app_context():
            assert [step for step in audit.verify() if isinstance(step, Finding)] == []


def test_books_predict_every_answer_and_every_balance(app, database):
    profile = settings(
        max_examples=EXAMPLES[database.family],
        stateful_step_count=25,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )

    run_state_machine_as_test(type("Bookkeeping", (Bookkeeping,), {"app": app, "database": database}), settings=profile)

"""Debits: asked for within what may be owed, or recorded because they have happened; once each, with both sides."""

import uuid

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError

import services
from database.session import snapshot, transaction
from enums import PostingStatus
from errors import BalanceLimit, OperationTaken, OrganizationUnknown, Overdraft, OverdraftInUse
from ledger import organizations, posting, transfers, trial_balance
from ledger.trial_balance import Line
from models import EMPTY_LOG_SHA256
from tests.factories import INN, OTHER_INN, START, make_credit, make_debit, make_org

FEES, DISPUTES = "fees:shop", "disputes:yookassa"


def credit(amount: int, inn: str = INN) -> None:
    with transaction() as session:
        posting.post(session, [make_credit(amount=amount, inn=inn)])


def balance(inn: str = INN) -> int:
    kopecks: int = organizations.find(inn).balance
    return kopecks


def lines() -> dict[str, tuple[int, int]]:
    with snapshot() as session:
        read = trial_balance.read(session)
    assert read.debits == read.credits
    return {line.account: (line.debits, line.credits) for line in read.lines}


def test_debit_is_recorded_once_with_its_account(context, check_ledger):
    credit(100)
    entry = make_debit(amount=30, counter_account=FEES)

    first, again = services.debit(entry), services.debit(entry)

    assert (first.status, again.status) == (PostingStatus.DEBITED, PostingStatus.DUPLICATE)
    assert first.debit_id == again.debit_id
    assert balance() == 70
    assert lines() == {"bank:plain": (100, 0), FEES: (0, 30), "organizations": (30, 100)}
    check_ledger()


def test_same_operation_for_something_else_is_refused(context, check_ledger):
    credit(100)
    operation_id = uuid.uuid4()
    services.debit(make_debit(amount=30, operation_id=operation_id))

    for other in ({"amount": 31}, {"counter_account": DISPUTES}, {"outside": True}):
        with pytest.raises(OperationTaken):
            services.debit(make_debit(**{"amount": 30, "operation_id": operation_id, **other}))

    assert balance() == 70
    check_ledger()


def test_debit_and_credit_may_have_one_operation(context, check_ledger):
    operation_id = uuid.uuid4()
    with transaction() as session:
        outcomes = posting.post(
            session,
            [
                make_credit(amount=50, operation_id=operation_id),
                make_debit(amount=20, operation_id=operation_id, source="plain"),
            ],
        )

    assert [outcome.status for outcome in outcomes] == [PostingStatus.CREDITED, PostingStatus.DEBITED]
    assert balance() == 30
    check_ledger()


@pytest.mark.parametrize(("limit", "most"), [(0, 100), (50, 150)])
def test_what_is_asked_for_stays_within_what_may_be_owed(context, check_ledger, limit, most):
    credit(100)
    organizations.set_overdraft_limit(INN, limit, by="test", now=START)

    with pytest.raises(Overdraft):
        services.debit(make_debit(amount=most + 1))
    services.debit(make_debit(amount=most))
    with pytest.raises(Overdraft):
        services.debit(make_debit(amount=1))

    assert balance() == 100 - most
    check_ledger()


def test_what_has_happened_outside_is_recorded_whatever_the_balance(context, database, check_ledger):
    credit(100)

    receipt = services.debit(make_debit(amount=250, counter_account=DISPUTES, outside=True))

    assert balance() == -150
    assert receipt.incident_id is not None
    assert database.count("incidents") == 1
    with pytest.raises(Overdraft):
        services.debit(make_debit(amount=1))
    credit(200)
    services.debit(make_debit(amount=50))
    assert balance() == 0
    check_ledger()


def test_outside_debit_within_the_balance_needs_nobody(context, database):
    credit(100)

    assert services.debit(make_debit(amount=100, outside=True)).incident_id is None
    assert database.count("incidents") == 0


def test_repeat_of_an_outside_debit_is_no_second_incident(context, database):
    make_org()
    entry = make_debit(amount=1, outside=True)

    assert services.debit(entry).incident_id is not None
    assert services.debit(entry).status is PostingStatus.DUPLICATE
    assert database.count("incidents") == 1


def test_nobody_is_debited_who_is_not_registered(context, database):
    with pytest.raises(OrganizationUnknown):
        services.debit(make_debit())
    assert database.count("debits") == 0


def test_lowest_balance_is_kept_to(context, check_ledger):
    make_org()
    services.debit(make_debit(amount=2**62, outside=True))

    with pytest.raises(BalanceLimit):
        services.debit(make_debit(amount=1, outside=True))
    assert balance() == -(2**62)
    check_ledger()


def test_what_was_taken_outside_stays_within_what_can_be_added_up(context, check_ledger):
    make_org()
    credit(2**62)
    services.debit(make_debit(amount=2**62, outside=True))
    credit(1)

    with pytest.raises(BalanceLimit):
        services.debit(make_debit(amount=1, outside=True))
    organizations.set_overdraft_limit(INN, 2**62, by="test", now=START)
    check_ledger()


def test_limit_below_what_is_owed_is_refused(context, check_ledger):
    make_org()
    organizations.set_overdraft_limit(INN, 100, by="test", now=START)
    services.debit(make_debit(amount=80))

    with pytest.raises(OverdraftInUse):
        organizations.set_overdraft_limit(INN, 79, by="test", now=START)
    organizations.set_overdraft_limit(INN, 80, by="test", now=START)
    check_ledger()


def test_in_one_list_each_sees_what_those_before_it_left(context, check_ledger):
    make_org(OTHER_INN)
    with transaction() as session:
        outcomes = posting.post(
            session,
            [
                make_credit(amount=10),
                make_debit(amount=4),
                make_debit(amount=7),
                make_credit(amount=1),
                make_debit(amount=7),
                make_debit(amount=5, outside=True),
                make_debit(inn=OTHER_INN, amount=1),
            ],
        )

    assert [outcome.status.value for outcome in outcomes] == [
        *("credited", "debited", "overdraft", "credited", "debited", "debited", "overdraft"),
    ]
    assert balance() == -5
    check_ledger()


@pytest.mark.parametrize(
    "change",
    ["balance = -1", "balance = 0, overdraft_limit = -1", "outside_debits = -1"],
)
def test_database_itself_keeps_balances_within_what_may_be_owed(context, change):
    make_org()

    with pytest.raises(DatabaseError, match="ck_organizations"), transaction() as session:
        session.execute(text(f"UPDATE organizations SET {change}"))


class TestTransfers:
    def test_moves_between_two_accounts_and_no_balance(self, context, check_ledger):
        credit(1000)
        operation_id = uuid.uuid4()
        asked = {"debit_account": "bank:plain", "credit_account": "transit:yookassa", "amount": 970}

        moved = [
            transfers.transfer(operation_id=operation_id, **asked, note="payout", by="test", now=START)
            for _ in range(2)
        ]

        assert [(each.number, each.is_new) for each in moved] == [(1, True), (1, False)]
        assert lines() == {
            "bank:plain": (1970, 0),
            "organizations": (0, 1000),
            "transit:yookassa": (0, 970),
        }
        assert balance() == 1000
        with pytest.raises(OperationTaken):
            transfers.transfer(
                operation_id=operation_id, **{**asked, "amount": 971}, note="payout", by="test", now=START
            )
        check_ledger()

    @pytest.mark.parametrize("statement", ["UPDATE transfers SET amount = 1", "DELETE FROM transfers"])
    def test_table_refuses_changes(self, context, statement, check_ledger):
        transfers.transfer(
            operation_id=uuid.uuid4(),
            debit_account="bank:plain",
            credit_account="fees:shop",
            amount=5,
            note="n",
            by="test",
            now=START,
        )

        with pytest.raises(DatabaseError, match="append-only"), transaction() as session:
            session.execute(text(statement))
        check_ledger()


class TestTrialBalance:
    def test_sums_pass_what_a_column_holds(self, context):
        for inn in (INN, OTHER_INN):
            credit(2**63 - 1, inn)
        with snapshot() as session:
            read = trial_balance.read(session)

        assert read.lines == [
            Line(account="bank:plain", debits=2**64 - 2, credits=0),
            Line(account="organizations", debits=0, credits=2**64 - 2),
        ]

    def test_day_ends_in_moscow(self, context, run, operator):
        credit(100)
        days = {"2026-02-28": 0, "2026-03-01": 100}

        for day, amount in days.items():
            answer = operator.get("/ledger/trial-balance/", on=day).json
            assert (answer["debits"], answer["credits"], answer["difference"]) == (amount, amount, 0)
        assert operator.get("/ledger/trial-balance/", on="yesterday").status_code == 400

    def test_row_of_the_log_without_its_payment_shows(self, context, database, run):
        credit(100)
        with database.unguarded() as connection:
            connection.execute(text("DELETE FROM payments"))

        result = run("ledger", "trial-balance")

        assert result.exit_code == 1
        assert "Debits and credits differ" in result.output


def test_new_organisation_has_the_head_of_an_empty_log(context, check_ledger):
    make_org()

    assert organizations.find(INN).head_sha256 == EMPTY_LOG_SHA256
    check_ledger()

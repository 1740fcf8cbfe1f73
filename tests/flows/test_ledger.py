"""posting.post(): many credits, one outcome each, running balances, a constant number of statements."""

import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace

import pytest
from sqlalchemy import event, select, text
from sqlalchemy.exc import DatabaseError, DataError

import rules
from database.extension import db
from database.session import transaction
from enums import PostingStatus
from ledger import posting
from ledger.entries import Credit
from limits import BATCH_CREDITS_MAX
from models import BalanceLog, Organization
from tests import databases
from tests.databases import only
from tests.factories import INN, OTHER_INN, make_credit, make_org

MOVE = (
    "organization_id, version, delta, balance_before, balance_after, payment_id, reason, counter_account, created_at, "
    "overdraft_limit, row_sha256"
)
OTHER_MOVE = (
    "organization_id, :version, :delta, :balance_before, :balance_after, "
    "(SELECT id FROM payments WHERE document_number = 'other'), :reason, :counter_account, created_at, "
    "overdraft_limit, row_sha256"
)
PAYMENT_REST = (
    "source, organization_id, payer_inn, amount, currency, document_date, body, body_sha256, key_id, received_at"
)
PAYMENT = f"id, operation_id, document_number, {PAYMENT_REST}"
OTHER_PAYMENT = f"operation_id, id, 'other', {PAYMENT_REST}"
"""A payment that no row of the log explains, and its row."""


def post(*credits: Credit) -> list[PostingStatus]:
    with transaction() as session:
        return [outcome.status for outcome in posting.post(session, credits)]


def log_of(inn: str) -> list[tuple[int, int, int, int]]:
    query = (
        select(BalanceLog.version, BalanceLog.balance_before, BalanceLog.delta, BalanceLog.balance_after)
        .join(Organization, Organization.id == BalanceLog.organization_id)
        .where(Organization.inn == inn)
        .order_by(BalanceLog.version)
    )
    return [tuple(row) for row in db.session.execute(query)]


def test_each_credit_has_its_own_running_balance(context, check_ledger):
    statuses = post(make_credit(amount=1), make_credit(inn=OTHER_INN, amount=10), make_credit(amount=2))

    assert statuses == [PostingStatus.CREDITED] * 3
    assert log_of(INN) == [(1, 0, 1, 1), (2, 1, 2, 3)]
    assert log_of(OTHER_INN) == [(1, 0, 10, 10)]
    check_ledger()


def test_each_credit_has_its_own_outcome(context, check_ledger):
    first = make_credit(amount=5)
    post(first)

    statuses = post(
        make_credit(amount=1),
        first,
        make_credit(amount=6, operation_id=first.operation_id),
        make_credit(inn=OTHER_INN, may_create=False),
        make_credit(amount=rules.MONEY_MAX),
    )

    assert statuses == [
        PostingStatus.CREDITED,
        PostingStatus.DUPLICATE,
        PostingStatus.CONFLICT,
        PostingStatus.UNKNOWN_INN,
        PostingStatus.BALANCE_LIMIT,
    ]
    assert log_of(INN) == [(1, 0, 5, 5), (2, 5, 1, 6)]
    check_ledger()


def test_of_repeats_within_one_batch_the_first_wins(context, check_ledger):
    credit = make_credit(amount=7)

    assert post(credit, credit, make_credit(amount=8, operation_id=credit.operation_id)) == [
        PostingStatus.CREDITED,
        PostingStatus.DUPLICATE,
        PostingStatus.CONFLICT,
    ]
    assert log_of(INN) == [(1, 0, 7, 7)]
    check_ledger()


def test_repeat_within_a_batch_wins_when_the_first_cannot_be_posted(context, check_ledger):
    make_org(INN)
    operation_id = uuid.uuid4()

    statuses = post(
        make_credit(inn=OTHER_INN, operation_id=operation_id, may_create=False),
        make_credit(inn=INN, operation_id=operation_id),
    )

    assert statuses == [PostingStatus.CONFLICT, PostingStatus.CREDITED]
    check_ledger()


def test_each_refusal_keeps_its_own_reason(context, check_ledger):
    post(make_credit(amount=rules.MONEY_MAX))
    operation_id = uuid.uuid4()

    assert post(
        make_credit(operation_id=operation_id),
        make_credit(inn=OTHER_INN, operation_id=operation_id, may_create=False),
    ) == [PostingStatus.BALANCE_LIMIT, PostingStatus.UNKNOWN_INN]
    check_ledger()


def test_batch_that_would_pass_the_limit_posts_what_fits(context, check_ledger):
    half = rules.MONEY_MAX // 2 + 1

    assert post(make_credit(amount=half), make_credit(amount=half), make_credit(amount=1)) == [
        PostingStatus.CREDITED,
        PostingStatus.BALANCE_LIMIT,
        PostingStatus.CREDITED,
    ]
    check_ledger()


def test_duplicates_and_conflicts_create_no_organisation(context, database):
    credit = make_credit()
    post(credit)

    assert post(make_credit(inn=OTHER_INN, operation_id=credit.operation_id)) == [PostingStatus.CONFLICT]
    assert database.count("organizations") == 1


@pytest.mark.parametrize("migrated", databases.SERVERS, indirect=True)  # SQLite keeps text of any length, whole
def test_text_that_is_too_long_is_an_error_and_never_cut(context, database):
    long = make_credit()
    with pytest.raises(DataError):
        post(replace(long, facts=long.facts._replace(document_number="x" * 51)))
    with pytest.raises(DataError):
        post(make_credit(inn="1234567890123"))
    db.session.rollback()

    assert database.count("payments") == database.count("organizations") == 0


@contextmanager
def counted_statements() -> Iterator[list[str]]:
    statements: list[str] = []

    def note(_connection, _cursor, statement, *_rest) -> None:
        if not statement.startswith(("BEGIN", "PRAGMA")):
            statements.append(statement)

    event.listen(db.engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        event.remove(db.engine, "before_cursor_execute", note)


@pytest.mark.parametrize(
    ("known", "most"), [(True, 5), (False, 10)], ids=["known organisations", "unknown organisations"]
)
def test_number_of_statements_does_not_depend_on_the_number_of_credits(context, check_ledger, known, most):
    inns = [f"{7_700_000_000 + number}" for number in range(40)]
    # The first credit of a bank makes its account.
    post(*[make_credit(inn=inn) for inn in (inns if known else [INN])])
    counts = []
    for size, offset in ((1, 0), (200, 1)):
        batch = [make_credit(inn=inns[offset + number % 39]) for number in range(size)]
        with counted_statements() as statements:
            post(*batch)
        counts.append(len(statements))

    assert counts[0] == counts[1] <= most
    check_ledger()


@pytest.mark.parametrize("statement", ["UPDATE balance_log SET reason = 'x'", "DELETE FROM balance_log"])
def test_log_refuses_changes(context, check_ledger, statement):
    post(make_credit())

    with pytest.raises(DatabaseError, match="append-only"), transaction() as session:
        session.execute(text(statement))
    check_ledger()


def test_log_refuses_replacement(context, database, check_ledger):
    post(make_credit())
    statement = {
        "sqlite": "REPLACE INTO balance_log SELECT * FROM balance_log",
        "mariadb": "REPLACE INTO balance_log SELECT * FROM balance_log",
        "postgresql": "TRUNCATE balance_log",
    }[database.family]

    with pytest.raises(DatabaseError, match="append-only"), transaction() as session:
        session.execute(text(statement))
    check_ledger()


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"balance_after": 99}, "adds_up"),
        ({"delta": 0, "balance_after": 200}, "delta_moves|explained"),
        ({"version": 0}, "version_positive|begins_at_zero"),
        ({"delta": -100, "balance_after": 100}, "explained"),
        ({"reason": "debit"}, "explained"),
        ({"reason": "gift"}, "reason_known|explained"),
        ({"counter_account": "bank:nobody"}, "counter_account|FOREIGN KEY"),
        ({"version": 1}, "begins_at_zero|pk_balance_log|PRIMARY|append-only"),
    ],
    ids=str,
)
def test_database_itself_refuses_a_log_row_that_does_not_add_up(context, database, values, problem):
    post(make_credit(), make_credit())
    row = {"version": 3, "delta": 100, "balance_before": 200, "balance_after": 300, "reason": "credit", **values}
    row = {"counter_account": "bank:plain", **row}

    with transaction() as session:
        # A payment of its own, so that nothing but the values can be refused.
        session.execute(text(f"INSERT INTO payments ({PAYMENT}) SELECT {OTHER_PAYMENT} FROM payments LIMIT 1"))

    with pytest.raises(DatabaseError, match=problem), transaction() as session:
        session.execute(text(f"INSERT INTO balance_log ({MOVE}) SELECT {OTHER_MOVE} FROM balance_log LIMIT 1"), row)


def test_payment_is_explained_by_one_log_row_at_most(context):
    post(make_credit())

    with pytest.raises(DatabaseError, match=r"payment_id|append-only"), transaction() as session:
        session.execute(
            text(
                f"INSERT INTO balance_log ({MOVE}) SELECT organization_id, 2, delta, balance_after, "
                "balance_after + delta, payment_id, reason, counter_account, created_at, overdraft_limit, row_sha256 "
                "FROM balance_log"
            )
        )


def test_balance_below_zero_is_refused_by_the_database(context):
    make_org()

    with pytest.raises(DatabaseError), transaction() as session:
        session.execute(text("UPDATE organizations SET balance = -1"))


def test_several_unknown_payers_of_one_operation_leave_no_empty_organisation(context, database, check_ledger):
    operation_id = uuid.uuid4()

    statuses = post(make_credit(operation_id=operation_id), make_credit(inn=OTHER_INN, operation_id=operation_id))

    assert statuses == [PostingStatus.CREDITED, PostingStatus.CONFLICT]
    assert database.count("organizations") == 1
    check_ledger()


def test_more_credits_than_a_statement_holds_are_refused(context):
    with pytest.raises(ValueError, match="at most 200"):
        post(*[make_credit() for _ in range(BATCH_CREDITS_MAX + 1)])


@only("sqlite")  # only here a connection chooses whether REPLACE asks the triggers
def test_log_of_sqlite_refuses_replacement_from_any_connection(context, database, check_ledger):
    post(make_credit())

    with closing(sqlite3.connect(database.url.database)) as stranger, pytest.raises(sqlite3.IntegrityError):
        stranger.execute("REPLACE INTO balance_log SELECT * FROM balance_log")
    check_ledger()

"""Transactions: one for each use case, all of it or nothing, and once more after a deadlock."""

import pytest
from sqlalchemy.exc import OperationalError

from database.session import snapshot, survives_deadlock, transaction
from enums import PostingStatus
from ledger import posting
from tests.factories import make_credit


def test_transaction_refuses_to_nest(context):
    with transaction(), pytest.raises(RuntimeError, match="inside another"), transaction():
        pass


def test_transaction_rolls_back_on_any_exception(context, database):
    def interrupted() -> None:
        with transaction() as session:
            posting.post(session, [make_credit()])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()

    assert all(rows == [] for rows in database.rows().values())
    with transaction() as session:
        (outcome,) = posting.post(session, [make_credit()])
    assert outcome.status is PostingStatus.CREDITED


def test_snapshot_refuses_to_throw_a_transaction_away(context):
    with transaction(), pytest.raises(RuntimeError, match="throw away"), snapshot():
        pass


def test_lost_deadlock_is_run_again_and_other_errors_are_not(context):
    class Deadlock(Exception):
        sqlstate = "40P01"

    class Refusal(Exception):
        sqlstate = "53300"

    def failing(times: int, error: Exception) -> list[int]:
        attempts: list[int] = []

        @survives_deadlock
        def use_case() -> None:
            attempts.append(1)
            if len(attempts) <= times:
                raise OperationalError("SELECT 1", {}, error)

        try:
            use_case()
        except OperationalError:
            attempts.append(0)
        return attempts

    assert failing(2, Deadlock()) == [1, 1, 1]
    assert failing(99, Deadlock()) == [1] * 5 + [0]
    assert failing(1, Refusal()) == [1, 0]

"""A real deadlock, made on purpose: the server ends one of two transactions, and that one runs again."""

import os
import random
import threading
from uuid import UUID

import pytest
from sqlalchemy import select

import services
from database.session import survives_deadlock, transaction
from models import Organization
from tests import databases
from tests.factories import make_credit, make_org
from tests.races.rivals import run_rivals

INNS = ("7707083893", "7736050003")


@pytest.mark.parametrize("migrated", databases.SERVERS, indirect=True)  # SQLite has one writer, and so no deadlock
def test_transaction_that_lost_a_deadlock_runs_again(context):
    for inn in INNS:
        make_org(inn)
    both_hold_one = threading.Barrier(2, timeout=60)
    attempts: list[str] = []
    finished: list[str] = []

    def lock(session, inn: str) -> None:
        session.execute(select(Organization.id).where(Organization.inn == inn).with_for_update())

    @survives_deadlock
    def lock_both(first: str, second: str) -> None:
        attempts.append(first)
        with transaction() as session:
            lock(session, first)
            if attempts.count(first) == 1:
                both_hold_one.wait()
            lock(session, second)
        finished.append(first)

    def run(first: str, second: str) -> None:
        with context.app_context():
            lock_both(first, second)

    rivals = [threading.Thread(target=run, args=order) for order in (INNS, INNS[::-1])]
    for rival in rivals:
        rival.start()
    for rival in rivals:
        rival.join()

    assert sorted(finished) == sorted(INNS)
    assert len(attempts) == 3


def hold_many(app, number: int) -> bool:
    """Announce the same held money again, all of it in one transaction and in an order of this process's own."""
    held = [make_credit(operation_id=UUID(int=operation), may_create=False) for operation in range(40)]
    random.Random(f"{os.getpid()} {number}").shuffle(held)
    with app.app_context(), transaction() as session:
        receipts = services._take(session, held)
    return [receipt.operation_id for receipt in receipts] == [credit.operation_id for credit in held]


@pytest.mark.parametrize("migrated", databases.SERVERS, indirect=True)  # SQLite has one writer, and so no deadlock
def test_batches_of_the_same_incidents_in_any_order_do_not_deadlock(database, context):
    hold_many(context, 0)

    assert run_rivals(database.url, hold_many, processes=2, threads=1, rounds=10) == [True] * 20
    assert database.count("incidents") == 40

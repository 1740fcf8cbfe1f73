"""Callers that share a transaction: who comes along, who gets which result, and that nobody is left waiting."""

import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import event, exc, select, text

from app import create_app
from config import ROOT
from database.extension import db
from database.group_commit import GroupCommit
from database.session import transaction
from enums import PostingStatus
from errors import Busy, DatabaseUnavailable, TryAgain
from ledger import posting
from limits import BATCH_CREDITS_MAX, QUEUE_CREDITS_MAX
from models import Organization
from server.problems import render
from tests import databases
from tests.databases import only
from tests.factories import OTHER_INN, SECRET, SECRETS_KEY, make_config, make_credit, make_org
from tests.held_group import HeldGroup, echo
from tests.waiting import PATIENCE_SECONDS, wait_until


@pytest.fixture
def make_group(app):
    groups: list[HeldGroup] = []

    def make(take=echo, of=app) -> HeldGroup:
        groups.append(HeldGroup(of, take))
        return groups[-1]

    yield make
    for group in groups:
        group.close()


def test_those_who_come_during_a_transaction_share_the_next_one(make_group):
    group = make_group()

    assert group.result_of("abc") == ["took a", "took b", "took c"]
    assert group.batches == [["first"], ["a", "b", "c"]]


def test_lone_caller_has_its_transaction_to_itself(context):
    batches = []
    group = GroupCommit(lambda _session, items: batches.append(list(items)) or items)

    assert [group.run(item) for item in "ab"] == ["a", "b"]
    assert batches == [["a"], ["b"]]


def test_nobody_gets_a_result_before_the_commit(make_group, app):
    group = make_group()
    answered_at_commit: list[int] = []
    callers = group.submit_all("abc")
    with app.app_context():
        engine = db.engine

    def note(_connection: Any) -> None:
        answered_at_commit.append(sum(caller.done() for caller in callers))

    event.listen(engine, "commit", note)
    try:
        group.held.set()
        for caller in callers:
            caller.result(PATIENCE_SECONDS)
    finally:
        event.remove(engine, "commit", note)

    assert answered_at_commit == [0, 0]


def test_credits_that_share_a_transaction_are_all_counted(make_group, context, check_ledger):
    group = make_group(posting.post)
    repeated = make_credit(amount=3)

    outcomes = group.result_of([make_credit(amount=1), make_credit(inn=OTHER_INN, amount=2), repeated, repeated])

    assert [outcome.status for outcome in outcomes] == [PostingStatus.CREDITED] * 3 + [PostingStatus.DUPLICATE]
    balances = {row.inn: row.balance for row in db.session.execute(select(Organization.inn, Organization.balance))}
    assert balances == {"1234567890": 4, OTHER_INN: 2}
    check_ledger()


def test_one_bad_credit_fails_alone(make_group, context, check_ledger):
    """A CHECK of the database refuses the one in the middle, and with it, at first, the transaction of all."""
    make_org()
    group = make_group(posting.post)

    first, bad, last = group.result_of([make_credit(amount=1), make_credit(amount=-5), make_credit(amount=2)])

    assert (first.status, last.status) == (PostingStatus.CREDITED, PostingStatus.CREDITED)
    assert isinstance(bad, exc.DBAPIError)
    assert [len(batch) for batch in group.batches] == [1, 3, 1, 1, 1]
    assert db.session.scalar(select(Organization.balance)) == 3
    check_ledger()


def test_outage_is_reported_to_all_at_once_and_not_tried_for_each(make_group):
    def fail(_session: Any, _items: Sequence[Any]) -> Sequence[Any]:
        raise exc.TimeoutError("no connection in the pool")

    group = make_group(fail)

    leader, *followers = group.result_of("abc")

    assert isinstance(leader, exc.TimeoutError)
    assert [type(error) for error in followers] == [DatabaseUnavailable] * 2
    assert len(group.batches) == 2


@pytest.mark.parametrize("migrated", databases.SERVERS, indirect=True)  # SQLite has no connection that could be lost
@pytest.mark.parametrize("losses", [1, 2])
def test_lost_connection_is_tried_once_more_and_not_twice(make_group, losses):
    def lose(session: Any, items: Sequence[Any]) -> Sequence[Any]:
        if len(group.batches) <= 1 + losses:
            disconnect(session)
        return echo(session, items)

    group = make_group(lose)
    results = group.result_of("ab")

    if losses == 1:
        assert results == ["took a", "took b"]
    else:
        assert results[0].connection_invalidated
        assert isinstance(results[1], DatabaseUnavailable)
    assert [len(batch) for batch in group.batches] == [1, 2, 2]


def disconnect(session: Any) -> None:
    """Have the server end this very connection, as an administrator would."""
    postgresql = session.get_bind().dialect.name == "postgresql"
    own_id = session.scalar(text("SELECT pg_backend_pid()" if postgresql else "SELECT connection_id()"))
    with session.get_bind().engine.connect() as other:
        other.execute(text(f"SELECT pg_terminate_backend({own_id})" if postgresql else f"KILL {own_id}"))
    session.execute(text("SELECT 1"))


@only("postgresql")  # an address can shorten the limit here alone
def test_locked_organisation_holds_up_its_own_credits_and_no_others(make_group, database, context):
    for inn in ("1234567890", OTHER_INN):
        make_org(inn)
    url = database.url.update_query_dict({"options": "-c lock_timeout=200ms"})
    impatient = create_app(make_config(url))
    group = make_group(posting.post, of=impatient)
    callers = group.submit_all([make_credit(), make_credit(inn=OTHER_INN)])
    with transaction() as session:
        session.execute(select(Organization.id).where(Organization.inn == "1234567890").with_for_update())
        group.held.set()
        locked, free = (caller.exception(PATIENCE_SECONDS) for caller in callers)

    assert isinstance(locked, exc.OperationalError)
    assert free is None
    with impatient.app_context():
        db.engine.dispose()


def test_transaction_holds_no_more_than_its_limit(make_group):
    group = make_group()

    group.result_of(range(BATCH_CREDITS_MAX + 10))

    assert [len(batch) for batch in group.batches] == [1, BATCH_CREDITS_MAX, 10]


@only("sqlite")  # no database has a part in it
def test_more_than_may_wait_are_refused_at_once_and_nothing_is_stored(make_group, database, app):
    group = make_group()
    group.submit_all(range(QUEUE_CREDITS_MAX))

    refusal = group.submit("one too many").exception(PATIENCE_SECONDS)

    assert isinstance(refusal, Busy)
    with app.test_request_context():
        answer = render(refusal)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    group.held.set()
    wait_until(lambda: group.waiting() == 0)
    assert "one too many" not in [item for batch in group.batches for item in batch]


def test_leader_that_is_stopped_leaves_nobody_waiting(make_group):
    def stop(_session: Any, _items: Sequence[Any]) -> Sequence[Any]:
        if len(group.batches) == 2:
            raise SystemExit
        return echo(None, _items)

    group = make_group(stop)
    leader, follower = group.result_of("ab")

    assert isinstance(leader, SystemExit)
    assert isinstance(follower, DatabaseUnavailable)
    assert group.submit("c").result(PATIENCE_SECONDS) == "took c"


def test_deadlock_in_a_batch_is_run_again_for_all(make_group):
    def give_in_once(_session: Any, items: Sequence[Any]) -> Sequence[Any]:
        if len(group.batches) == 2:
            raise TryAgain("Two requests got in each other's way.")
        return echo(None, items)

    group = make_group(give_in_once)

    assert group.result_of("ab") == ["took a", "took b"]
    assert [len(batch) for batch in group.batches] == [1, 2, 2]


GREENLETS = """
from gevent import monkey
monkey.patch_all()
import gevent
from sqlalchemy import make_url
from app import create_app
from database.group_commit import GroupCommit
from tests.factories import make_config

app = create_app(make_config(make_url({url!r})))
go_on = gevent.event.Event()
batches = []

def take(session, items):
    batches.append(list(items))
    go_on.wait()
    return items

group = GroupCommit(take)

def run(item):
    with app.app_context():
        return group.run(item)

greenlets = [gevent.spawn(run, item) for item in "abcd"]
gevent.sleep(0.05)
assert batches == [["a", "b", "c", "d"]], batches
late = [gevent.spawn(run, item) for item in "efgh"]
gevent.sleep(0.05)
late[0].kill()
late[2].kill()
go_on.set()
gevent.joinall(greenlets + late, timeout=30, raise_error=True)
assert [greenlet.value for greenlet in greenlets] == list("abcd")
assert [greenlet.value for greenlet in late] == [late[0].value, "f", late[2].value, "h"]
assert batches[1:] == [["f", "h"]], batches

go_on.clear()
leader, follower = gevent.spawn(run, "i"), gevent.spawn(run, "j")
gevent.sleep(0.05)
leader.kill()
go_on.set()
assert follower.exception is None or type(follower.exception).__name__ == "DatabaseUnavailable"
gevent.joinall([follower], timeout=30)
assert follower.ready()
assert gevent.spawn(run, "k").get(timeout=30) == "k"
"""


@only("sqlite")  # no database has a part in it
def test_greenlets_share_and_one_that_is_killed_leaves_nobody_waiting(database):
    """As gunicorn's workers do it: a request that is stopped at the end of a worker must not keep the lead."""
    script = GREENLETS.format(url=str(database.url))
    environ = {"PATH": os.environ["PATH"], "BANK_WEBHOOK_SECRETS": SECRET, "SECRETS_KEYS": SECRETS_KEY}
    result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=environ, capture_output=True, check=False)

    assert result.returncode == 0, result.stderr.decode()

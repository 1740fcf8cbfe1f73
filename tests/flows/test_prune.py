"""`flask prune`: what is finished and old goes; money, whatever waits, and what explains where money went, stays."""

from datetime import timedelta

import pytest
from sqlalchemy import text

import services
from context import cipher, now
from database.extension import db
from enums import AttemptCause, DeliveryStatus
from errors import DeliveryUnknown
from ledger import incidents
from outbox import claims, endpoints, pruning, replays, results
from tests.callers import Bank
from tests.factories import INN, START, make_body, make_org
from tests.outboxes import (
    ATTEMPTS,
    DELIVERIES,
    attempt_with,
    check_attempts,
    open_endpoint,
    pay,
    read_attempts,
    read_deliveries,
)
from worker import jobs

DAYS = 30
OLD, LATE = START - timedelta(days=DAYS + 30), START - timedelta(days=DAYS - 1)


@pytest.fixture
def prune(app):
    return lambda *options: app.test_cli_runner().invoke(args=["prune", "--older-than", str(DAYS), *options])


def settle(delivery_id: int, **changes: object) -> None:
    """Put a delivery into a state, as if it had come there by itself, with one attempt long ago."""
    with db.engine.begin() as connection:
        state = {"status": DeliveryStatus.DELIVERED, "due_at": None, "scheduled_at": None, "settled_at": OLD}
        connection.execute(DELIVERIES.update().where(DELIVERIES.c.id == delivery_id).values({**state, **changes}))
        add_attempt(connection, delivery_id, number=1, started_at=OLD)


def add_attempt(connection, delivery_id: int, *, number: int, started_at) -> None:
    row = {"delivery_id": delivery_id, "number": number, "cause": AttemptCause.SCHEDULE, "started_at": started_at}
    connection.execute(ATTEMPTS.insert().values({**row, "excerpt": ""}))
    changed = DELIVERIES.update().where(DELIVERIES.c.id == delivery_id)
    connection.execute(changed.values(attempt_count=number))


def set_replay(endpoint_id: int, **state: object) -> None:
    with db.engine.begin() as connection:
        connection.execute(
            replays.REPLAYS.insert().values(
                endpoint_id=endpoint_id, since=OLD, asked_by="x", created_at=OLD, queued=0, **state
            )
        )


def deliver_all(endpoint_ids: list[int], *, at) -> None:
    """Have every delivery delivered at a moment."""
    while found := claims.claim(cipher(), capacity=lambda _: 100, now=at):
        results.settle([(delivery, attempt_with(200, at=at)) for delivery in found], now=at)


def test_each_state_goes_or_stays(context, database, prune, check_ledger):
    well, disabled, deleted, replayed, swept = (open_endpoint(now=OLD) for _ in range(5))
    pay(1, now=OLD)
    of = {row.endpoint_id: row.id for row in read_deliveries()}
    settle(of[disabled], status=DeliveryStatus.PAUSED, settled_at=None)
    settle(of[deleted], status=DeliveryStatus.PAUSED, settled_at=None)
    endpoints.disable(disabled, now=OLD)
    endpoints.remove(deleted, now=OLD)
    settle(of[replayed])
    settle(of[swept])
    settle(of[well])
    set_replay(replayed)
    set_replay(swept, finished_at=OLD, sweep_at=OLD)
    pay(7, now=OLD)
    exhausted, late, pending, leased, retried, tried, other = (
        row.id for row in read_deliveries() if row.endpoint_id == well and row.id > of[swept]
    )
    for row in read_deliveries():
        if row.endpoint_id in (replayed, swept) and row.id > of[swept]:
            settle(row.id)
    settle(exhausted, status=DeliveryStatus.EXHAUSTED)
    settle(other)
    settle(late, settled_at=LATE)
    settle(retried, due_at=START, cause=AttemptCause.MANUAL)
    settle(tried)
    with db.engine.begin() as connection:
        add_attempt(connection, tried, number=2, started_at=LATE)
    (delivery,) = [d for d in claims.claim(cipher(), capacity=lambda _: 1, now=now()) if d.delivery_id == leased] or [
        claims.claim_one(cipher(), leased, now=now())
    ]
    assert delivery is not None
    before = {row.id for row in read_deliveries()}
    money = {
        name: rows for name, rows in database.rows().items() if name in ("payments", "balance_log", "organizations")
    }

    result = prune("--yes")

    assert result.exit_code == 0, result.output
    assert before - {row.id for row in read_deliveries()} == {of[well], of[deleted], exhausted, other}
    assert set(read_attempts()) <= {row.id for row in read_deliveries()}
    check_attempts()
    assert {pending, leased, retried, tried, late} <= {row.id for row in read_deliveries()}
    assert money == {name: database.rows()[name] for name in money}
    check_ledger()
    assert "Deleted: 4 deliveries, 4 attempts, 0 events, 0 incidents." in result.output


def test_event_goes_with_the_last_of_its_deliveries(context, database, prune, clock):
    first, second = open_endpoint(now=OLD), open_endpoint(now=OLD)
    pay(1, now=OLD)
    of = {row.endpoint_id: row.id for row in read_deliveries()}
    settle(of[first])
    assert prune("--yes").output.endswith("Deleted: 1 delivery, 1 attempt, 0 events, 0 incidents.\n")
    assert database.count("events") == 1
    settle(of[second])

    assert prune("--yes").output.endswith("Deleted: 1 delivery, 1 attempt, 1 event, 0 incidents.\n")
    assert database.count("events") == 0


def test_counts_come_first_and_a_no_changes_nothing(context, app, database, prune):
    open_endpoint(now=OLD)
    pay(3, now=OLD)
    for row in read_deliveries():
        settle(row.id)
    before = database.rows()

    refused = app.test_cli_runner().invoke(args=["prune", "--older-than", str(DAYS)], input="n\n")
    unasked = prune()

    assert (refused.exit_code, unasked.exit_code) == (1, 1)
    assert "  deliveries  3, with 3 attempts\n  events      3\n  incidents   0\n" in refused.output
    assert database.rows() == before
    assert app.test_cli_runner().invoke(args=["prune", "--older-than", str(DAYS)], input="y\n").exit_code == 0
    assert database.count("deliveries") == 0


def test_nothing_to_prune_asks_nothing(context, prune):
    assert prune().exit_code == 0


@pytest.mark.parametrize("days", ["0", "-1", "x", "99999999"])
def test_number_of_days_must_be_one(app, database, days):
    assert app.test_cli_runner().invoke(args=["prune", "--older-than", days, "--yes"]).exit_code == 2


def test_prune_that_was_stopped_goes_on_when_it_is_run_again(context, database, prune):
    open_endpoint(now=OLD)
    pay(2 * pruning.BATCH_ROWS + 3, now=OLD)
    with db.engine.begin() as connection:
        done = {"status": DeliveryStatus.DELIVERED, "due_at": None, "scheduled_at": None, "settled_at": OLD}
        connection.execute(DELIVERIES.update().values(done))
    steps = pruning.prune(START - timedelta(days=DAYS))
    assert next(steps).deliveries == pruning.BATCH_ROWS
    steps.close()
    assert database.count("deliveries") == pruning.BATCH_ROWS + 3

    result = prune("--yes")

    assert result.exit_code == 0, result.output
    assert (database.count("deliveries"), database.count("events")) == (0, 0)


def test_replay_sends_what_was_pruned_again_under_the_same_ids(context, database, prune):
    endpoint_id = open_endpoint(now=OLD)
    pay(4, now=OLD)
    ids = {row.event_id for row in read_deliveries()}
    for row in read_deliveries():
        settle(row.id)
    prune("--yes")
    assert database.count("events") == 0

    replays.start(endpoint_id, since=OLD - timedelta(days=1), by="x", now=START)
    jobs.replay()

    assert {row.event_id for row in read_deliveries()} == ids
    assert {row.status for row in read_deliveries()} == {DeliveryStatus.PENDING}


def test_result_of_a_delivery_that_was_pruned_meanwhile_is_passed_over(context, database, prune):
    """A worker that was away for so long that another one has delivered, and the delivery grown old."""
    open_endpoint(now=OLD)
    pay(2, now=OLD)
    slow, other = claims.claim(cipher(), capacity=lambda _: 2, now=OLD)
    settle(slow.delivery_id, lease=None, claimed_at=None)
    prune("--yes")

    results.settle([(slow, attempt_with(500)), (other, attempt_with(200))], now=START)

    (left,) = read_deliveries()
    assert (left.id, left.status) == (other.delivery_id, DeliveryStatus.DELIVERED)
    with pytest.raises(DeliveryUnknown):
        endpoints.retry(slow.delivery_id, now=START)


def test_resolved_incidents_go_unless_they_hold_or_explain_money(
    app, context, database, make_app, client, prune, clock, check_ledger
):
    clock.moment = OLD
    make_org()
    holding = Bank(make_app(UNKNOWN_INN="hold").test_client())
    assigned = holding.send(payer_inn="7707083893").json["incident_id"]
    refused = holding.send(payer_inn="500100732259").json["incident_id"]
    bank = Bank(client)
    bank.push(make_body(amount=0))
    bank.push(make_body(amount=-1))
    bank.push(make_body(amount=-2))
    past, late, still_open = sorted(set(all_incidents()) - {assigned, refused})
    services.assign_incident(assigned, inn=INN, by="x", now=OLD)
    services.resolve_incident(refused, resolution="paid back", by="x", now=OLD)
    services.resolve_incident(past, resolution="seen", by="x", now=OLD)
    services.resolve_incident(late, resolution="seen", by="x", now=LATE)
    clock.moment = START

    result = prune("--yes")

    assert result.output.endswith("0 events, 1 incident.\n")
    assert set(all_incidents()) == {assigned, refused, late, still_open}
    assert set(incidents.resolutions([past])[past]) == set()
    check_ledger()


def test_incident_that_comes_again_stays(context, database, client, prune, clock):
    clock.moment = OLD
    body = make_body(amount=0)
    Bank(client).push(body)
    (number,) = all_incidents()
    services.resolve_incident(number, resolution="seen", by="x", now=OLD)
    clock.moment = LATE
    Bank(client).push(body)
    clock.moment = START

    prune("--yes")

    assert all_incidents() == [number]


def all_incidents() -> list[int]:
    with db.engine.connect() as connection:
        return list(connection.scalars(text("SELECT id FROM incidents ORDER BY id")))


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM delivery_attempts",
        "UPDATE delivery_attempts SET error = 'x'",
        "DELETE FROM deliveries",
        "DELETE FROM incident_resolutions",
        "UPDATE incident_resolutions SET resolution = 'x'",
        "DELETE FROM incidents WHERE resolved_at IS NULL",
        "DELETE FROM incidents WHERE resolution LIKE 'assigned to %'",
    ],
)
def test_database_itself_keeps_what_may_not_go(context, database, make_app, client, statement):
    open_endpoint()
    pay(2)
    first, _ = read_deliveries()
    settle(first.id)
    held = Bank(make_app(UNKNOWN_INN="hold").test_client()).send(payer_inn="7707083893").json["incident_id"]
    services.assign_incident(held, inn=INN, by="x", now=START)
    Bank(client).push(make_body(amount=0))
    before = database.rows()

    with (
        pytest.raises(db.exc.DBAPIError, match=r"append-only|not finished, or explains money"),
        db.engine.begin() as connection,
    ):
        connection.execute(text(statement))

    assert database.rows() == before

"""One Kopeck fed by another: what the first one has credited, the second one credits, to the same, and once."""

import json
import re
import uuid
from collections.abc import Iterator
from datetime import datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from database.session import transaction
from outbox import retry
from tests import sources
from tests.callers import Bank
from tests.chain import Downstream, downstream_of
from tests.factories import INN, OTHER_INN, make_announcement, make_body, make_org
from tests.listeners import Row, bodies, deliver, deliveries, moment, only_delivery, replay, subscribe
from tests.sources import SECOND_PATH, SECOND_SECRET, SECOND_SETTINGS

FLAT = ("x-signature", "acquiremock")
LIMIT = 2**63 - 1


@pytest.fixture(params=FLAT)
def downstream(request, operator, app, clock) -> Iterator[Downstream]:
    with downstream_of(app, operator, clock, scheme=request.param) as other:
        yield other


@pytest.fixture
def hold_and_assign(make_app, operator, app):
    """Announce money for an INN that nobody has here, and have a person assign it to another."""

    def announce(**announced: object) -> None:
        with app.app_context():
            make_org(OTHER_INN)
        held = Bank(make_app(UNKNOWN_INN="hold").test_client()).send(**announced).json
        assert operator.post(f"/incidents/{held['incident_id']}/assign/", inn=OTHER_INN).status_code == 200

    return announce


class TestAssigned:
    """Money announced for one INN, which a person upstream has assigned to the organisation of another."""

    def test_downstream_credits_whom_upstream_has_credited(self, downstream, hold_and_assign, check_ledger):
        hold_and_assign(payer_inn=INN, amount=700)

        downstream.receive()

        assert downstream.balances() == {OTHER_INN: 700}
        (payment,) = downstream.payments(OTHER_INN)
        assert payment["payer_inn"] == OTHER_INN
        check_ledger()

    def test_body_names_both_and_the_standard_one_keeps_the_word_of_the_bank(
        self, operator, app, receiver, hold_and_assign
    ):
        for scheme in ("standard", *FLAT):
            subscribe(operator, receiver.url, scheme=scheme)
        hold_and_assign(payer_inn=INN)

        deliver(app)

        found = [body.get("data", body) for body in bodies(receiver)]
        said = {(body["organization"], body["payer_inn"], body.get("announced_payer_inn")) for body in found}
        assert len(found) == 3
        assert said == {(OTHER_INN, INN, None), (OTHER_INN, OTHER_INN, INN)}

    def test_event_of_an_older_version_is_sent_so_too(self, downstream, app, hold_and_assign):
        hold_and_assign(payer_inn=INN, amount=700)
        as_recorded_before(app)

        downstream.receive()

        assert downstream.balances() == {OTHER_INN: 700}

    def test_what_an_older_version_has_sent_for_the_payer_is_not_credited_twice(
        self, downstream, operator, app, hold_and_assign
    ):
        """It had it credited to the payer downstream. A repeat shows that to a person, and moves nothing."""
        body = make_body(payer_inn=INN, amount=700)
        assert downstream.bank().push(body).json["status"] == "credited"
        hold_and_assign(**json.loads(body))

        downstream.receive()

        assert downstream.balances() == {INN: 700}
        (incident,) = downstream.incidents()
        said = {part: incident["facts"][part]["payer_inn"] for part in ("announced", "recorded")}
        assert (incident["kind"], said) == ("conflict", {"announced": OTHER_INN, "recorded": INN})

    def test_replay_and_retry_of_it_are_repeats(self, downstream, operator, app, hold_and_assign):
        hold_and_assign(payer_inn=INN, amount=700)
        downstream.receive()
        operator.post(f"/endpoints/{downstream.endpoint['id']}/replays/", since="2026-01-01T00:00:00Z")
        replay(app)
        downstream.receive()
        operator.post(f"/deliveries/{only_delivery(operator)['id']}/retry/")
        downstream.receive()

        attempts = only_delivery(operator)["attempts"]
        assert [json.loads(attempt["excerpt"])["status"] for attempt in attempts] == [
            "credited",
            "duplicate",
            "duplicate",
        ]
        assert downstream.balances() == {OTHER_INN: 700}


def as_recorded_before(app) -> None:
    """Make the events that there are such as older versions recorded."""
    with app.app_context(), transaction() as session:
        for row in session.execute(text("SELECT id, data FROM events")).all():
            data = json.loads(row.data)
            data.pop("forward_id", None)
            session.execute(
                text("UPDATE events SET data = :data WHERE id = :id"), {"data": json.dumps(data), "id": row.id}
            )


class TestTwoSources:
    """Two banks upstream that use the same id are one bank downstream, and two payments all the same."""

    @pytest.fixture
    def both(self, make_app, operator, clock) -> Iterator[tuple[Bank, Bank, Downstream]]:
        with sources.registered():
            app = make_app(ENDPOINTS_ON_LOOPBACK="allow", **SECOND_SETTINGS)
            with downstream_of(app, operator, clock, **SECOND_SETTINGS) as other:
                yield Bank(app.test_client()), Bank(app.test_client(), SECOND_SECRET), other

    def test_both_are_credited_downstream(self, both):
        plain, second, downstream = both
        operation_id = str(uuid.uuid4())
        plain.send(operation_id=operation_id, amount=1)
        second.send(operation_id=operation_id, amount=1000, to=SECOND_PATH)

        downstream.receive()

        assert (downstream.balances(), downstream.incidents()) == ({INN: 1001}, [])

    def test_no_bank_can_use_up_downstream_what_another_is_handed_on_under(self, both, operator):
        """The ids of other banks are handed on under ours; the plain bank's as they are, whatever it has guessed."""
        plain, second, downstream = both
        second.send(amount=1000, to=SECOND_PATH)
        downstream.receive()
        (payment,) = operator.get(f"/organizations/{INN}/payments/").json["items"]
        plain.send(operation_id=payment["operation_id"], amount=1)
        plain.send(operation_id=payment["payment_id"], amount=2)

        downstream.receive()

        assert downstream.balances() == {INN: 1001}
        assert [incident["facts"]["announced"]["amount"] for incident in downstream.incidents()] == [2]

    def test_what_older_versions_handed_on_keeps_its_id_in_retries_and_replays(self, both, operator, database):
        _, second, downstream = both
        app = downstream.upstream
        operation_id = str(uuid.uuid4())
        second.send(operation_id=operation_id, amount=1000, to=SECOND_PATH)
        with app.app_context(), transaction() as session:
            session.execute(text("UPDATE payments SET forward_id = operation_id"))
        as_recorded_before(app)
        downstream.receive()
        assert [payment["operation_id"] for payment in downstream.payments(INN)] == [operation_id]

        # Its event may have been purged since, and is made again.
        with database.unguarded() as connection:
            for table in ("delivery_attempts", "deliveries", "events"):
                connection.execute(text(f"DELETE FROM {table}"))
        operator.post(f"/endpoints/{downstream.endpoint['id']}/replays/", since="2026-01-01T00:00:00Z")
        replay(app)
        downstream.receive()

        assert downstream.balances() == {INN: 1000}


OFFSETS = st.integers(-(23 * 60 + 59), 23 * 60 + 59).map(
    lambda minutes: f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"
)
at = datetime.fromisoformat
NEAR_THE_BOUNDS = st.one_of(
    st.datetimes(at("1899-12-30"), at("1900-01-03")),
    st.datetimes(at("2999-12-30"), at("3000-01-03")),
    st.sampled_from([at("0001-01-01"), at("9999-12-31T23:59:59.999999")]),
    st.datetimes(at("1900-01-01"), at("2999-12-31")),
)
DATES = st.builds(
    lambda local, digits, zone: f"{local.isoformat(timespec='seconds')}{digits}{zone}",
    NEAR_THE_BOUNDS,
    st.one_of(st.just(""), st.from_regex(r"\.[0-9]{1,9}", fullmatch=True)),
    st.one_of(st.just("Z"), st.just("z"), OFFSETS),
)
IDS = st.one_of(
    st.uuids(allow_nil=True),
    st.sampled_from([uuid.UUID(int=2**128 - 1), uuid.NAMESPACE_URL, uuid.uuid5(uuid.NAMESPACE_URL, "x")]),
).flatmap(lambda id_: st.sampled_from([str(id_), id_.hex, f"{{{id_}}}", str(id_).upper()]))
AMOUNTS = st.one_of(st.integers(1, LIMIT), st.sampled_from([1, LIMIT - 1, LIMIT, 145000.0, 1.45e5, LIMIT + 1, 0]))
NUMBERS = st.one_of(st.text(min_size=1, max_size=51), st.sampled_from([" ", "\u2028", "№ 7 \U0001f4b0" * 7, "x" * 50]))
INNS = st.from_regex(r"[0-9]{10}([0-9]{2})?", fullmatch=True)
EXAMPLES = {"sqlite": 60, "postgresql": 25, "mariadb": 25}


def facts_of(payments: list[Row]) -> dict[str, tuple[object, ...]]:
    """Return what counts of each payment, by its operation."""
    names = ("amount", "payer_inn", "document_number", "document_date")
    return {payment["operation_id"]: tuple(payment[name] for name in names) for payment in payments}


@pytest.mark.parametrize("scheme", FLAT)
def test_whatever_the_bank_door_accepts_another_kopeck_accepts_with_the_same_facts(
    scheme, operator, bank, app, clock, database, check_ledger
):
    profile = settings(
        max_examples=EXAMPLES[database.family], deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )

    with downstream_of(app, operator, clock, scheme=scheme) as other:

        @profile
        @given(operation_id=IDS, amount=AMOUNTS, payer_inn=INNS, document_number=NUMBERS, document_date=DATES)
        def credit_both(**announced: object) -> None:
            answer = bank.push(json.dumps({**make_announcement(), **announced}).encode())
            other.receive()
            if answer.status_code != 200 or answer.json["status"] != "credited":
                assert answer.status_code in (200, 202, 400)
                return
            inn, id_ = str(announced["payer_inn"]), answer.json["operation_id"]
            here = operator.get(f"/organizations/{inn}/payments/", limit=500).json["items"]
            there = other.payments(inn)
            assert facts_of(there)[id_] == facts_of(here)[id_]

        credit_both()
        assert other.incidents() == []
        assert {row["status"] for row in deliveries(operator, limit=500)} == {"delivered"}
    check_ledger()


@pytest.mark.parametrize(
    ("accepted", "date"),
    [
        (False, "1900-01-01T00:00:00+03:00"),
        (True, "1900-01-01T00:00:00Z"),
        (True, "1900-01-01T03:00:00+03:00"),
        (True, "1899-12-31T22:00:00-03:00"),
        (True, "2999-12-31T23:59:59.999999999Z"),
        (True, "3000-01-01T02:59:59+03:00"),
        (False, "3000-01-01T00:00:00Z"),
        (False, "2999-12-31T23:00:00-03:00"),
        (False, "0001-01-01T00:00:00+23:59"),
        (False, "9999-12-31T23:59:59-23:59"),
    ],
)
def test_bounds_of_dates_are_those_of_the_moment_in_utc_at_both_ends(
    operator, bank, app, clock, check_ledger, accepted, date
):
    with downstream_of(app, operator, clock) as other:
        answer = bank.send(document_date=date)
        other.receive()

        assert answer.status_code == (200 if accepted else 400), answer.text
        assert other.balances() == ({INN: 145000} if accepted else {})
        if not accepted:
            assert [error["pointer"] for error in answer.json["errors"]] == ["#/document_date"]
            assert operator.get("/incidents/").json["items"][0]["kind"] == "unusable_body"
    check_ledger()


class TestRefusedForGood:
    """One event that its receiver will never take must not keep those behind it for days."""

    @pytest.fixture
    def attempts(self, operator, bank, app, clock, receiver):
        """Refuse the first event with a status until it is settled; return how many attempts it took."""

        def run(status: int, *, ordered: bool = True) -> tuple[str, int, float]:
            subscribe(operator, receiver.url, ordered=ordered)
            receiver.answer = lambda request: (
                (status if json.loads(request.body)["data"]["version"] == 1 else 200),
                {},
                b"",
            )
            started = clock.moment
            bank.send()
            bank.send()
            deliver(app)
            while (due_at := deliveries(operator)[0]["due_at"]) is not None:
                clock.moment = moment(due_at)
                deliver(app)
            first, second = deliveries(operator)
            assert second["status"] == "delivered"
            return first["status"], first["attempt_count"], (clock.moment - started).total_seconds()

        return run

    @pytest.mark.parametrize("status", retry.REFUSES_BODY)
    def test_ordered_endpoint_goes_on_within_the_hour(self, attempts, status, caplog):
        outcome, count, seconds = attempts(status)

        assert (outcome, count, seconds < 3600) == ("exhausted", 4, True)
        assert re.search(r"delivery \d+ to endpoint \d+ is given up", caplog.text)

    @pytest.mark.parametrize("status", [401, 403, 404, 500, 503])
    def test_what_may_pass_is_tried_for_days(self, attempts, status):
        assert attempts(status)[:2] == ("exhausted", 10)

    def test_where_nobody_waits_behind_it_it_is_tried_for_days(self, attempts):
        assert attempts(400, ordered=False)[:2] == ("exhausted", 10)

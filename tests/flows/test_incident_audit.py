"""`flask ledger verify` names each incident that says something else than its body, its resolutions or the payments."""

import json

import pytest
from sqlalchemy import text

from ledger import overdue
from tests.callers import Bank
from tests.factories import INN, OTHER_INN, make_body, make_org
from tests.listeners import credit

HELD = {
    "no facts": ({}, "its facts do not say what was announced"),
    "facts that are no object": ([], "its facts do not say what was announced"),
    "nothing announced": ({"announced": {}, "external_id": None}, "its facts do not say what was announced"),
    "announced in another kind": ({"announced": 7, "external_id": None}, "its facts do not say what was announced"),
    "another amount": ({"amount": 1}, "its body says amount 145000, the row says 1"),
    "an amount that is no whole number": ({"amount": 145000.0}, "its facts do not say what was announced"),
    "a date that has no moment in UTC": (
        {"document_date": "0001-01-01T00:00:00+14:00"},
        "its facts do not say what was announced",
    ),
    "a date without an offset": ({"document_date": "2024-04-27T21:00:00"}, "its facts do not say what was announced"),
    "another date": (
        {"document_date": "2024-04-28T21:00:00Z"},
        "its body says document_date 2024-04-27T21:00:00Z, the row says 2024-04-28T21:00:00Z",
    ),
    "another payer": ({"payer_inn": OTHER_INN}, f"its body says payer_inn {INN}, the row says {OTHER_INN}"),
    "another source": ({"source": "second"}, "its facts name another source than the row"),
}
KINDS = {
    "unusable_body": "was made for money that is held, and its kind is unusable_body",
    "stuck_webhook": "was made for money that is held, and its kind is stuck_webhook",
    "endpoint_disabled": "has the body of a webhook, and its kind is endpoint_disabled",
    "unreadable_keys": "has the body of a webhook, and its kind is unreadable_keys",
    "conflict": "its facts do not say what was recorded",
}
FACTS_OF_KINDS = {
    "unusable_body": {"errors": []},
    "stuck_webhook": {"inbox_id": 7, "received_at": "2026-03-01T12:00:00Z"},
    "conflict": {"recorded": {"source": "plain"}},
}
CHANGES = {
    "text": "resolution = 'all is well'",
    "person": "resolved_by = 'key:nobody'",
    "moment": "resolved_at = '2026-02-01 12:00:00'",
}


@pytest.fixture
def verify(app):
    return lambda: app.test_cli_runner().invoke(args=["ledger", "verify"]).output


@pytest.fixture
def holding(make_app) -> Bank:
    return Bank(make_app(UNKNOWN_INN="hold").test_client())


@pytest.fixture
def held(holding, operator) -> int:
    """Return the number of an incident that holds money of an unknown INN, beside another organisation."""
    operator.post("/organizations/", inn=OTHER_INN, name="Somebody else")
    return int(holding.send().json["incident_id"])


@pytest.fixture
def damage(database):
    """Run a statement past triggers and keys."""

    def run(statement: str, **values: object) -> None:
        with database.unguarded() as connection:
            assert connection.execute(text(statement), values).rowcount >= 1

    return run


def facts_of(database) -> dict:
    with database.connection() as connection:
        facts = connection.scalar(text("SELECT facts FROM incidents"))
    return json.loads(facts) if isinstance(facts, str) else facts


def changed(facts: dict, change: object) -> object:
    """Return facts with other members of what was announced, or other facts altogether."""
    if not change or "announced" in change:
        return change
    return {**facts, "announced": {**facts["announced"], **change}}


class TestFacts:
    @pytest.mark.parametrize("resolved", [False, True], ids=["open", "resolved"])
    @pytest.mark.parametrize(("change", "named"), HELD.values(), ids=HELD)
    def test_changed_facts_are_named(self, held, operator, database, damage, verify, change, named, resolved):
        if resolved:
            operator.post(f"/incidents/{held}/resolve/", resolution="looked at")
        facts = json.dumps(changed(facts_of(database), change))
        damage("UPDATE incidents SET facts = :facts", facts=facts)

        assert f"incidents {held}: {named}" in verify()

    @pytest.mark.parametrize("facts", ["{}", "null"])
    def test_facts_of_money_beyond_the_limit_and_of_a_conflict_are_needed_too(self, bank, damage, verify, facts):
        sent = bank.send(amount=2**63 - 1).json["operation_id"]
        incidents = [bank.send(amount=1).json["incident_id"], bank.send(operation_id=sent).json["incident_id"]]
        damage("UPDATE incidents SET facts = :facts", facts=facts)

        output = verify()

        for number in incidents:
            assert f"incidents {number}: its facts do not say what was announced" in output

    def test_another_operation_is_named_where_facts_are_lost_too(self, held, damage, verify, bank):
        bank.send()
        damage("UPDATE incidents SET facts = '{}', operation_id = (SELECT operation_id FROM payments)")

        assert f"incidents {held}: its body says operation_id" in verify()


class TestKind:
    @pytest.mark.parametrize("kind", KINDS)
    def test_kind_that_hides_money_is_named(self, held, damage, verify, kind):
        damage("UPDATE incidents SET kind = :kind", kind=kind)

        assert f"incidents {held}: {KINDS[kind]}" in verify()

    @pytest.mark.parametrize("kind", ["unusable_body", "stuck_webhook"])
    def test_its_facts_may_be_those_of_that_kind(self, held, damage, verify, kind):
        damage("UPDATE incidents SET kind = :kind, facts = :facts", kind=kind, facts=json.dumps(FACTS_OF_KINDS[kind]))

        assert f"incidents {held}: {KINDS[kind]}" in verify()

    def test_conflict_with_a_payment_that_does_not_exist_is_named(self, held, database, damage, verify):
        facts = json.dumps({**facts_of(database), **FACTS_OF_KINDS["conflict"]})
        damage("UPDATE incidents SET kind = 'conflict', facts = :facts", facts=facts)

        assert f"incidents {held}: is a conflict with a payment that does not exist" in verify()

    def test_unusable_body_that_can_be_read_is_no_finding(self, client, bank, check_ledger):
        """It was refused for its Content-Type; its bank repeats it."""
        assert bank.push(make_body(), content_type="text/plain").status_code == 415

        check_ledger()


class TestStuck:
    @pytest.fixture
    def queueing(self, make_app):
        return make_app(BALANCE_UPDATES="queued", UNKNOWN_INN="hold")

    @pytest.fixture
    def stuck(self, queueing, operator, clock) -> int:
        """Return the number of the incident about a webhook that waits for too long."""
        Bank(queueing.test_client()).send()
        clock.move(hours=1)
        with queueing.app_context():
            overdue.look(now=clock())
        (incident,) = operator.get("/incidents/").json["items"]
        return int(incident["id"])

    def test_webhook_that_waits_is_no_finding(self, stuck, check_ledger):
        check_ledger()

    def test_webhook_that_was_credited_is_no_finding(self, stuck, app, queueing, check_ledger):
        with app.app_context():
            make_org()
        credit(queueing)

        check_ledger()

    def test_webhook_that_was_held_is_no_finding(self, stuck, queueing, database, check_ledger):
        credit(queueing)
        assert database.count("incidents") == 2

        check_ledger()

    def test_webhook_that_is_nowhere_is_named(self, stuck, damage, verify):
        damage("DELETE FROM inbox")

        assert f"incidents {stuck}: announces money that is not credited, held or in the inbox" in verify()


class TestResolutions:
    @pytest.fixture
    def resolved(self, held, operator) -> int:
        operator.post(f"/incidents/{held}/resolve/", resolution="looked at")
        return held

    @pytest.fixture
    def resolved_twice(self, resolved, holding, operator, clock) -> int:
        """The bank repeats what was resolved without a credit; it is resolved again."""
        clock.move(hours=1)
        body = operator.get(f"/incidents/{resolved}/").json["facts"]["announced"]
        operation = operator.get(f"/incidents/{resolved}/").json["operation_id"]
        assert holding.send(operation_id=operation, amount=body["amount"]).json["incident_id"] == resolved
        operator.post(f"/incidents/{resolved}/resolve/", resolution="looked at again")
        return resolved

    def test_incident_that_was_opened_again_is_no_finding(self, resolved, holding, operator, check_ledger):
        operation = operator.get(f"/incidents/{resolved}/").json["operation_id"]
        holding.send(operation_id=operation)
        assert operator.get(f"/incidents/{resolved}/").json["resolved_at"] is None

        check_ledger()

    def test_incident_that_was_resolved_twice_is_no_finding(self, resolved_twice, check_ledger):
        check_ledger()

    def test_incident_that_nobody_has_resolved_is_named(self, held, damage, verify):
        damage(
            "UPDATE incidents SET resolved_at = created_at, resolved_by = 'shell:root', "
            "resolution = 'the bank was called'"
        )

        assert f"incidents {held}: is resolved, and no row of incident_resolutions says how" in verify()

    @pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
    def test_incident_that_tells_its_resolution_otherwise_is_named(self, resolved, damage, verify, change):
        damage(f"UPDATE incidents SET {change}")

        assert f"incidents {resolved}: its newest resolution says {change.split()[0]}" in verify()

    @pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
    def test_changed_resolution_is_named(self, resolved, damage, verify, change):
        damage(f"UPDATE incident_resolutions SET {change}")

        assert f"incidents {resolved}: its newest resolution says {change.split()[0]}" in verify()

    @pytest.mark.parametrize(
        ("change", "numbers"),
        [
            ("DELETE FROM incident_resolutions WHERE number = 1", "2"),
            ("UPDATE incident_resolutions SET number = 7 WHERE number = 2", "1, 7"),
        ],
    )
    def test_missing_resolution_is_named(self, resolved_twice, damage, verify, change, numbers):
        damage(change)

        named = f"incidents {resolved_twice}: its resolutions have the numbers {numbers}: rows before or between are"
        assert named in verify()

    def test_missing_newest_resolution_is_named(self, resolved_twice, damage, verify):
        damage("DELETE FROM incident_resolutions WHERE number = 2")

        assert f"incidents {resolved_twice}: its newest resolution says resolved_at" in verify()

    def test_resolutions_of_an_incident_that_is_gone_are_named(self, resolved, damage, verify):
        damage("DELETE FROM incidents")

        assert f"incident_resolutions incident_id {resolved}: no incident has this id" in verify()

    def test_assignment_without_a_payment_is_named(self, resolved, damage, verify):
        for table in ("incidents", "incident_resolutions"):
            damage(f"UPDATE {table} SET resolution = :note", note=f"assigned to {OTHER_INN}")

        named = f"incidents {resolved}: was assigned to {OTHER_INN}, and no payment has credited its operation"
        assert named in verify()

    def test_assignment_is_no_finding(self, held, operator, check_ledger, clock):
        clock.move(hours=1)
        assert operator.post(f"/incidents/{held}/assign/", inn=OTHER_INN).status_code == 200

        check_ledger()

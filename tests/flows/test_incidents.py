"""What is authentic and cannot be counted is held for a person, who assigns or resolves it; nothing is lost."""

import json

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

import cli.output
import services
from auth import api_keys
from errors import UnusableBody
from tests.callers import Bank, Operator
from tests.factories import INN, OTHER_INN, START, make_body, make_org


@pytest.fixture
def holding_bank(make_app) -> Bank:
    """A bank whose announcements for unknown INNs are held."""
    return Bank(make_app(UNKNOWN_INN="hold").test_client())


def test_unknown_inn_on_hold_keeps_the_money_for_a_person(holding_bank, operator, database):
    answer = holding_bank.send()

    assert (answer.status_code, answer.json["status"]) == (202, "held")
    assert answer.json["payment_id"] is None
    assert database.count("organizations") == 0
    incident = operator.get(f"/incidents/{answer.json['incident_id']}/").json
    assert incident["kind"] == "unknown_inn"
    assert incident["operation_id"] == answer.json["operation_id"]
    assert incident["facts"]["announced"]["amount"] == 145000


def test_known_inn_is_credited_on_hold_too(holding_bank, context):
    make_org()

    assert holding_bank.send().json["status"] == "credited"


def test_two_held_operations_that_agree_in_everything_else_are_both_kept(holding_bank, operator):
    first, second = holding_bank.send().json, holding_bank.send().json

    assert first["incident_id"] != second["incident_id"]
    kept = {incident["operation_id"] for incident in operator.get("/incidents/").json["items"]}
    assert kept == {first["operation_id"], second["operation_id"]}


def test_assigning_credits_the_chosen_organisation_once(holding_bank, operator, context, check_ledger):
    make_org(OTHER_INN)
    body = make_body()
    held = holding_bank.push(body).json

    assigned = operator.post(f"/incidents/{held['incident_id']}/assign/", inn=OTHER_INN)

    assert (assigned.status_code, assigned.json["status"]) == (200, "credited")
    assert operator.get(f"/organizations/{OTHER_INN}/balance/").json["balance"] == 145000
    (payment,) = operator.get(f"/organizations/{OTHER_INN}/payments/").json["items"]
    assert payment["payer_inn"] == INN
    assert holding_bank.push(body).json["status"] == "duplicate"
    incident = operator.get(f"/incidents/{held['incident_id']}/").json
    assert (incident["resolution"], incident["resolved_by"]) == (f"assigned to {OTHER_INN}", "key:operator")
    check_ledger()


def test_assigning_twice_is_refused(holding_bank, operator, context, check_ledger):
    make_org(OTHER_INN)
    held = holding_bank.send().json
    operator.post(f"/incidents/{held['incident_id']}/assign/", inn=OTHER_INN)

    again = operator.post(f"/incidents/{held['incident_id']}/assign/", inn=OTHER_INN)

    assert (again.status_code, again.json["type"]) == (409, "urn:kopeck:problem:incident-not-open")
    check_ledger()


def test_assigning_to_an_unknown_inn_changes_nothing(holding_bank, operator, database):
    held = holding_bank.send().json
    before = database.rows()

    answer = operator.post(f"/incidents/{held['incident_id']}/assign/", inn=OTHER_INN)

    assert (answer.status_code, answer.json["type"]) == (409, "urn:kopeck:problem:incident-not-assignable")
    assert database.rows() == before


def test_money_credited_by_a_repeat_cannot_be_assigned_as_well(holding_bank, operator, context, check_ledger):
    body = make_body()
    held = holding_bank.push(body).json
    make_org(INN)
    make_org(OTHER_INN)
    assert holding_bank.push(body).json["status"] == "credited"

    answer = operator.post(f"/incidents/{held['incident_id']}/assign/", inn=OTHER_INN)

    assert (answer.status_code, answer.json["type"]) == (409, "urn:kopeck:problem:incident-not-assignable")
    assert operator.get(f"/organizations/{OTHER_INN}/balance/").json["balance"] == 0
    check_ledger()


def test_money_over_the_limit_can_go_to_another_organisation(bank, operator, context, check_ledger):
    make_org(OTHER_INN)
    bank.send(amount=2**63 - 1)
    held = bank.send(amount=5).json

    assert operator.post(f"/incidents/{held['incident_id']}/assign/", inn=INN).status_code == 409
    assert operator.post(f"/incidents/{held['incident_id']}/assign/", inn=OTHER_INN).status_code == 200
    assert operator.get(f"/organizations/{OTHER_INN}/balance/").json["balance"] == 5
    check_ledger()


def test_unusable_body_cannot_be_assigned_but_resolved(bank, operator, context):
    make_org()
    bank.send(amount=0)
    (incident,) = operator.get("/incidents/").json["items"]

    assert operator.post(f"/incidents/{incident['id']}/assign/", inn=INN).status_code == 409
    resolved = operator.post(f"/incidents/{incident['id']}/resolve/", resolution="the bank sent it again")
    assert resolved.status_code == 200
    assert resolved.json["resolved_at"] == "2026-03-01T12:00:00Z"
    assert operator.post(f"/incidents/{incident['id']}/resolve/", resolution="twice").status_code == 409


def test_lists_tell_open_from_resolved(bank, operator):
    bank.send(amount=0)
    bank.send(amount=-1)
    newest, oldest = operator.get("/incidents/").json["items"]
    operator.post(f"/incidents/{oldest['id']}/resolve/", resolution="seen")

    def ids(state: str) -> list[int]:
        return [incident["id"] for incident in operator.get("/incidents/", state=state).json["items"]]

    assert ids("open") == [newest["id"]]
    assert ids("resolved") == [oldest["id"]]
    assert ids("all") == [newest["id"], oldest["id"]]


def test_held_money_resolved_away_is_open_again_when_the_bank_repeats_it(holding_bank, operator):
    body = make_body()
    held = holding_bank.push(body).json
    operator.post(f"/incidents/{held['incident_id']}/resolve/", resolution="the bank takes it back")

    assert holding_bank.push(body).json == held
    (incident,) = operator.get("/incidents/").json["items"]
    assert (incident["id"], incident["seen_count"], incident["resolved_at"]) == (held["incident_id"], 2, None)
    assert incident["resolution"] == "the bank takes it back"


def test_each_resolution_is_kept_when_an_incident_is_opened_and_resolved_again(
    holding_bank, operator, context, clock, database, check_ledger
):
    make_org(OTHER_INN)
    body = make_body()
    number = holding_bank.push(body).json["incident_id"]
    operator.post(f"/incidents/{number}/resolve/", resolution="the bank takes it back")
    clock.move(hours=1)
    holding_bank.push(body)
    clock.move(hours=1)
    assert context.test_cli_runner().invoke(args=["incidents", "resolve", str(number), "and again"]).exit_code == 0
    holding_bank.push(body)
    operator.post(f"/incidents/{number}/assign/", inn=OTHER_INN)

    incident = operator.get(f"/incidents/{number}/").json
    shell = cli.output.operator()
    expected = [
        ("2026-03-01T12:00:00Z", "key:operator", "the bank takes it back"),
        ("2026-03-01T14:00:00Z", shell, "and again"),
        ("2026-03-01T14:00:00Z", "key:operator", f"assigned to {OTHER_INN}"),
    ]
    kept = [
        tuple(each[name] for name in ("resolved_at", "resolved_by", "resolution")) for each in incident["resolutions"]
    ]
    assert kept == expected
    assert operator.get("/incidents/", state="all").json["items"] == [incident]
    shown = context.test_cli_runner().invoke(args=["incidents", "show", str(number)]).output
    assert [line.split()[-1] for line in shown.splitlines() if line.startswith("resolved  ")] == [
        "back",
        "again",
        OTHER_INN,
    ]
    check_ledger()


def test_resolution_cannot_be_changed_or_taken_away(bank, operator, database):
    bank.push(b"{}")
    (incident,) = operator.get("/incidents/").json["items"]
    operator.post(f"/incidents/{incident['id']}/resolve/", resolution="seen")

    for statement in ("UPDATE incident_resolutions SET resolved_by = 'x'", "DELETE FROM incident_resolutions"):
        with pytest.raises(DBAPIError, match="append-only"), database.connection() as connection:
            connection.exec_driver_sql(statement)
    assert database.count("incident_resolutions") == 1


def test_refused_resolution_leaves_no_trace(holding_bank, operator, database):
    held = holding_bank.send().json
    operator.post(f"/incidents/{held['incident_id']}/assign/", inn=OTHER_INN)

    assert database.count("incident_resolutions") == 0


def test_key_that_is_named_like_a_person_at_the_shell_is_still_a_key(app, client, bank, context):
    bank.push(b"{}")
    shell = cli.output.operator()
    for name in (shell, "key:operator"):
        impostor = Operator(client, api_keys.create(name=name, scopes=list(api_keys.SCOPES), now=START))
        bank.push(json.dumps({"n": name}).encode())
        number = impostor.get("/incidents/").json["items"][0]["id"]
        resolved = impostor.post(f"/incidents/{number}/resolve/", resolution="x").json

        assert resolved["resolved_by"] == f"key:{name}"


def test_unusable_body_resolved_stays_resolved_when_repeated(bank, operator):
    bank.push(b"{}")
    (incident,) = operator.get("/incidents/").json["items"]
    operator.post(f"/incidents/{incident['id']}/resolve/", resolution="told the bank")
    bank.push(b"{}")

    assert operator.get("/incidents/").json["items"] == []
    assert operator.get(f"/incidents/{incident['id']}/").json["seen_count"] == 2


@pytest.mark.parametrize(
    "note",
    [
        f"assigned to {OTHER_INN}",
        f"Assigned to {OTHER_INN}",
        f"ASSIGNED TO {OTHER_INN}",
        f"  assigned to {OTHER_INN}",
        f"assigned  to {OTHER_INN}",
        f"\u00a0assigned\u00a0to {OTHER_INN}",
        f"assigned to INN {OTHER_INN}",
        "assigned to",
        "assigned to: accounting",
    ],
)
def test_note_cannot_pass_for_an_assignment(holding_bank, operator, context, database, note):
    number = holding_bank.send().json["incident_id"]
    before = database.rows()

    answer = operator.post(f"/incidents/{number}/resolve/", resolution=note)
    shell = context.test_cli_runner().invoke(args=["incidents", "resolve", str(number), note])
    with pytest.raises(UnusableBody):
        services.resolve_incident(number, resolution=note, by="x", now=START)

    assert (answer.status_code, answer.json["type"]) == (400, "urn:kopeck:problem:unusable-body")
    (problem,) = answer.json["errors"]
    assert problem["pointer"] == "#/resolution"
    assert "/assign/" in problem["detail"]
    assert (shell.exit_code, shell.output.startswith("Error: ")) == (1, True)
    assert "flask incidents assign" in shell.output
    assert database.rows() == before


@pytest.mark.parametrize("note", ["was assigned to them by phone", "assigned together", "reassigned to sales"])
def test_note_may_hold_these_words_elsewhere(holding_bank, operator, note):
    number = holding_bank.send().json["incident_id"]

    assert operator.post(f"/incidents/{number}/resolve/", resolution=note).json["resolution"] == note


ANNOUNCED = {
    "source": "plain",
    "amount": 145000,
    "payer_inn": INN,
    "document_number": "PAY-328",
    "document_date": "2024-04-27T21:00:00Z",
}
REWRITTEN = {
    "nothing": {},
    "null": None,
    "a list": [],
    "a text": "x",
    "a number": 7,
    "nothing announced": {"announced": {}, "external_id": None},
    "a text announced": {"announced": "x", "external_id": None},
    "no external id": {"announced": ANNOUNCED},
    **{
        f"{name} {value!r:.20}": {"announced": {**ANNOUNCED, name: value}, "external_id": None}
        for name, value in (
            ("amount", "much"),
            ("amount", -5),
            ("amount", 2**63),
            ("amount", 1.5),
            ("payer_inn", 7),
            ("payer_inn", "x"),
            ("document_number", None),
            ("document_number", "7" * 51),
            ("document_date", 12),
            ("document_date", "yesterday"),
            ("document_date", "0001-01-01T00:00:00+14:00"),
            ("document_date", "2024-04-27T21:00:00"),
        )
    },
}


@pytest.mark.parametrize("kind", ["unknown_inn", "conflict"])
@pytest.mark.parametrize("facts", REWRITTEN.values(), ids=REWRITTEN)
def test_rewritten_facts_are_not_credited_and_break_nothing(
    holding_bank, operator, context, run, database, facts, kind
):
    make_org(OTHER_INN)
    number = holding_bank.send().json["incident_id"]
    if kind == "conflict" and isinstance(facts, dict):
        facts = {**facts, "recorded": {"source": "another"}}
    with database.unguarded() as connection:
        values = {"kind": kind, "facts": json.dumps(facts)}
        connection.execute(text("UPDATE incidents SET kind = :kind, facts = :facts"), values)

    answer = operator.post(f"/incidents/{number}/assign/", inn=OTHER_INN)

    assert (answer.status_code, answer.json["type"]) == (409, "urn:kopeck:problem:incident-not-assignable")
    result = run("incidents", "assign", str(number), OTHER_INN)
    assert (result.exit_code, result.output.startswith("Error: ")) == (1, True)
    assert operator.get("/incidents/").status_code == 200
    assert run("incidents", "list").exit_code == run("incidents", "show", str(number)).exit_code == 0


@pytest.mark.parametrize("change", ["facts = '{}'", "operation_id = NULL"])
def test_person_is_sent_to_the_audit_where_facts_were_changed(holding_bank, operator, context, database, change):
    make_org(OTHER_INN)
    number = holding_bank.send().json["incident_id"]
    with database.unguarded() as connection:
        connection.execute(text(f"UPDATE incidents SET {change}"))

    answer = operator.post(f"/incidents/{number}/assign/", inn=OTHER_INN)

    assert answer.json["detail"] == "Its facts were changed; see `flask ledger verify`."


def test_unknown_incident_is_not_found(operator):
    assert operator.get("/incidents/999/").status_code == 404
    assert operator.post("/incidents/999/resolve/", resolution="x").status_code == 404
    assert operator.post("/incidents/999/assign/", inn=INN).status_code == 404

"""REST: organisations, balances, statements in pages and as CSV, payments, the dry run, health."""

import csv
import io
from datetime import timedelta

import flask
import pytest

import pagination
import signing
from auth import api_keys
from ledger import organizations, statements
from tests.callers import Bank, Operator
from tests.factories import INN, KEY_ID, OLD_SECRET, SECRET, START, make_body, make_org

LOG = f"/organizations/{INN}/log/"


def test_registered_organisation_is_listed_with_an_empty_balance(operator):
    answer = operator.post("/organizations/", inn="7707083893", name="Банк «Пример»")

    assert answer.status_code == 201
    expected = {
        "inn": "7707083893",
        "name": "Банк «Пример»",
        "balance": 0,
        "currency": "RUB",
        "version": 0,
        "inn_checksum_ok": True,
        "created_at": "2026-03-01T12:00:00Z",
    }
    assert answer.json == expected
    assert operator.get("/organizations/7707083893/").json == expected
    assert operator.get("/organizations/").json == {"items": [expected], "next": None}


def test_organisation_is_registered_once(operator):
    operator.post("/organizations/", inn=INN)

    again = operator.post("/organizations/", inn=INN, name="Another")

    assert (again.status_code, again.json["type"]) == (409, "urn:kopeck:problem:organization-exists")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"inn": "123"}, "#/inn"),
        ({"inn": INN, "name": "a\nb"}, "#/name"),
        ({"inn": INN, "name": "x" * 256}, "#/name"),
        ({"name": "no inn"}, "#/inn"),
        ({"inn": INN, "nmae": "misspelt"}, "#"),
    ],
)
def test_registration_of_the_wrong_shape_is_pointed_at(operator, body, pointer):
    answer = operator.post("/organizations/", **body)

    assert answer.status_code == 400
    assert [error["pointer"] for error in answer.json["errors"]] == [pointer]
    assert "nmae" not in answer.text


@pytest.mark.parametrize("path", ["", "balance/", "log/", "payments/"])
@pytest.mark.parametrize("inn", ["7707083893", "123", "12345678901234567890", "１２３４５６７８９０", "%00", "x"])
def test_unknown_organisation_is_not_found(client, database, path, inn):
    answer = client.get(f"/api/v1/organizations/{inn}/{path}")

    assert answer.status_code == 404
    assert answer.content_type == "application/problem+json"


@pytest.mark.parametrize("path", ["/api/v1/organizations/1234567890/balance", "/api/organizations/1234567890/balance/"])
def test_balance_answers_at_its_other_addresses(bank, client, path):
    bank.send()

    assert client.get(path).json["balance"] == 145000


def test_organisations_come_in_pages(operator, context):
    inns = [make_org(f"{7_700_000_000 + number}") for number in range(5)]

    assert _walk(operator, "/organizations/", "inn", limit=2) == [inns[:2], inns[2:4], inns[4:]]


def test_log_comes_newest_first_in_pages(bank, operator):
    for amount in (1, 2, 3, 4, 5):
        bank.send(amount=amount)

    assert _walk(operator, LOG, "delta", limit=2) == [[5, 4], [3, 2], [1]]


def test_payments_come_newest_first_in_pages(bank, operator, clock):
    for amount in (1, 2, 3, 4):
        bank.send(amount=amount)
        clock.move(seconds=1)

    assert _walk(operator, f"/organizations/{INN}/payments/", "amount", limit=3) == [[4, 3, 2], [1]]


def test_page_that_was_read_is_not_moved_by_new_credits(bank, operator):
    for amount in (1, 2, 3):
        bank.send(amount=amount)
    first = operator.get(LOG, limit=2).json
    bank.send(amount=4)

    second = operator.get(LOG, limit=2, cursor=first["next"]).json

    assert [entry["delta"] for entry in second["items"]] == [1]


def test_log_within_a_span_has_its_beginning_and_not_its_end(bank, operator, clock):
    for amount in (1, 2, 3, 4):
        bank.send(amount=amount)
        clock.move(hours=1)
    since, until = START + timedelta(hours=1), START + timedelta(hours=3)

    page = operator.get(LOG, **{"from": since.isoformat(), "to": until.isoformat()}).json

    assert [entry["delta"] for entry in page["items"]] == [3, 2]


def test_plus_of_a_zone_may_come_as_a_space(bank, client):
    bank.send()

    query = "from=2026-03-01T15:00:00+03:00&to=2026-03-01T15:00:01+03:00"
    assert len(client.get(f"/api/v1{LOG}?{query}").json["items"]) == 1


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 501}, "limit"),
        ({"limit": "many"}, "limit"),
        ({"from": "yesterday"}, "from"),
        ({"from": "2024-04-27T21:00:00"}, "from"),
        ({"format": "xml"}, "format"),
        ({"untill": "2026-03-01T00:00:00Z"}, "#"),
    ],
)
def test_query_of_the_wrong_shape_is_pointed_at(bank, client, query, parameter):
    bank.send()

    answer = client.get(f"/api/v1{LOG}", query_string=query)

    assert answer.status_code == 400
    assert [error["parameter"] for error in answer.json["errors"]] == [parameter]


@pytest.mark.parametrize(
    "cursor", ["!", "x", "MTA", "LTE", "é", "MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkw", "AA", "MS41", "76Gp"]
)
@pytest.mark.parametrize("path", [LOG, f"/organizations/{INN}/payments/", "/organizations/", "/incidents/"])
def test_made_up_cursor_is_refused_or_harmless(bank, client, path, cursor):
    bank.send()

    answer = client.get(f"/api/v1{path}", query_string={"cursor": cursor})

    assert answer.status_code in (200, 404)
    assert answer.status_code == 200 or answer.json["type"] == "urn:kopeck:problem:page-unknown"


@pytest.mark.parametrize("ask", [{"query_string": {"format": "csv"}}, {"headers": {"Accept": "text/csv"}}])
def test_log_as_csv_has_every_row_and_disarms_formulas(bank, client, ask):
    bank.send(amount=1, document_number='=HYPERLINK("http://x")')
    bank.send(amount=2, document_number="№ 7, копия")
    bank.send(amount=3, document_number="x;\u200b＝1+1;-2-3")

    answer = client.get(f"/api/v1{LOG}", **ask)

    assert answer.content_type == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["delta"] for row in rows] == ["3", "2", "1"]
    assert [row["document_number"] for row in rows] == [
        "x;\u200b'＝1+1;'-2-3",
        "№ 7, копия",
        '\'=HYPERLINK("http://x")',
    ]
    assert rows[0]["created_at"] == "2026-03-01T12:00:00Z"


def test_export_that_cannot_begin_is_a_problem(make_app, bank, database):
    bank.send()
    client = make_app().test_client()
    with database.unguarded() as connection:
        connection.exec_driver_sql("ALTER TABLE payments RENAME TO gone")
    try:
        answer = client.get(f"/api/v1{LOG}?format=csv")
    finally:
        with database.unguarded() as connection:
            connection.exec_driver_sql("ALTER TABLE gone RENAME TO payments")

    assert (answer.status_code, answer.content_type) == (503, "application/problem+json")


def test_payments_as_csv_have_every_row(bank, client):
    bank.send(amount=1)
    bank.send(amount=2)

    answer = client.get(f"/api/v1/organizations/{INN}/payments/?format=csv")

    assert sorted(row["amount"] for row in csv.DictReader(io.StringIO(answer.text))) == ["1", "2"]


def test_export_is_read_in_parts_and_loses_none(bank, context):
    for amount in range(1, 8):
        bank.send(amount=amount)
    listing = statements.log_list(organizations.find(INN).id, pagination.Span())

    assert [row.delta for row in listing.rows(at_a_time=2)] == [7, 6, 5, 4, 3, 2, 1]


class TestVerify:
    """The dry run tells what the door would do, and writes nothing."""

    def ask(self, client, body: bytes, *, signature: str | None = None, query: str = ""):
        headers = {"X-Signature": signing.sign(body, SECRET) if signature is None else signature}
        return client.post(
            f"/api/v1/webhooks/verify/{query}", data=body, headers=headers, content_type="application/json"
        ).json

    def test_good_webhook_would_be_credited(self, bank, client, database):
        bank.send(amount=1000)
        before = database.rows()

        answer = self.ask(client, make_body(amount=500))

        assert answer == {
            "signature": {
                "valid": True,
                "scheme": "x-signature",
                "key_id": KEY_ID,
                "key_position": 0,
                "age_seconds": None,
                "reason": None,
            },
            "outcome": "credited",
            "http_status": 200,
            "inn": INN,
            "balance": 1000,
            "balance_after": 1500,
            "errors": [],
        }
        assert database.rows() == before

    def test_old_secret_is_told_from_the_new_one(self, client, database):
        body = make_body()

        answer = self.ask(client, body, signature=signing.sign(body, OLD_SECRET))

        assert answer["signature"]["key_position"] == 1

    def test_repeat_would_be_a_duplicate_and_other_facts_a_conflict(self, bank, client):
        body = make_body(amount=1000)
        bank.push(body)

        duplicate = self.ask(client, body)
        conflict = self.ask(client, body.replace(b"1000", b"2000"))

        assert (duplicate["outcome"], duplicate["balance_after"]) == ("duplicate", 1000)
        assert (conflict["outcome"], conflict["balance_after"]) == ("conflict", 1000)

    def test_unusable_body_is_pointed_at(self, client, database):
        answer = self.ask(client, make_body(amount=0))

        assert (answer["outcome"], answer["http_status"]) == ("unusable", 400)
        assert [error["pointer"] for error in answer["errors"]] == ["#/amount"]
        assert database.count("incidents") == 0

    def test_bad_signature_is_explained_and_the_body_not_read(self, client, database):
        answer = self.ask(client, b"not JSON", signature="0" * 64)

        assert (answer["signature"]["valid"], answer["outcome"], answer["http_status"]) == (False, "refused", 401)
        assert "raw body" in answer["signature"]["reason"]
        assert answer["errors"] == []

    def test_money_over_the_limit_would_be_held(self, bank, client):
        bank.send(amount=2**63 - 1)

        answer = self.ask(client, make_body(amount=1))

        assert (answer["outcome"], answer["http_status"], answer["balance_after"]) == ("held", 202, 2**63 - 1)

    @pytest.mark.parametrize(("policy", "outcome", "after"), [("create", "credited", 145000), ("hold", "held", None)])
    def test_unknown_inn_follows_the_policy(self, make_app, policy, outcome, after):
        answer = self.ask(make_app(UNKNOWN_INN=policy).test_client(), make_body())

        assert (answer["outcome"], answer["balance"], answer["balance_after"]) == (outcome, None, after)

    def test_unknown_bank_is_not_found(self, client, database):
        assert self.ask(client, make_body(), query="?bank=nobody")["status"] == 404

    def test_dry_run_and_door_agree(self, bank, client, check_ledger):
        bodies = [make_body(amount=amount) for amount in (1, 2, 0)]
        for body in [*bodies, *bodies]:
            foretold = self.ask(client, body)
            answer = bank.push(body)
            assert answer.status_code == foretold["http_status"]
            assert answer.json.get("status") == foretold["outcome"] or foretold["outcome"] == "unusable"
        check_ledger()


class TestAccess:
    """In production every call but the webhook's own asks for a key with the right scope."""

    PATHS = (
        ("GET", "/api/v1/organizations/"),
        ("GET", f"/api/v1/organizations/{INN}/"),
        ("GET", f"/api/v1/organizations/{INN}/balance/"),
        ("GET", f"/api/organizations/{INN}/balance/"),
        ("GET", f"/api/v1/organizations/{INN}/log/"),
        ("GET", f"/api/v1/organizations/{INN}/payments/"),
        ("GET", "/api/v1/incidents/"),
        ("GET", "/api/v1/incidents/1/"),
        ("POST", "/api/v1/webhooks/verify/"),
        ("POST", "/api/v1/organizations/"),
        ("POST", "/api/v1/incidents/1/resolve/"),
        ("POST", "/api/v1/incidents/1/assign/"),
    )

    @pytest.mark.parametrize(("method", "path"), PATHS)
    def test_production_asks_for_a_key_before_it_reads_anything(self, make_app, context, method, path):
        client = make_app(KOPECK_ENV="production").test_client()
        revoked = api_keys.create(name="revoked", scopes=list(api_keys.SCOPES), now=START)
        api_keys.revoke("revoked", now=START)

        for headers in ({}, *({"Authorization": text} for text in ("Bearer", "Basic a2V5Og==", f"Bearer {revoked}"))):
            answer = client.open(path, method=method, headers=headers, data=b"{not even JSON")
            assert (answer.status_code, answer.json["type"]) == (401, "urn:kopeck:problem:key-refused")
            assert answer.headers["WWW-Authenticate"] == "Bearer"

    @pytest.mark.parametrize(("method", "path"), PATHS)
    def test_key_without_the_scope_is_refused(self, make_app, context, method, path):
        client = make_app(KOPECK_ENV="production").test_client()
        token = api_keys.create(name="nothing", scopes=[], now=START)

        answer = client.open(path, method=method, headers={"Authorization": f"Bearer {token}"})

        assert (answer.status_code, answer.json["type"]) == (403, "urn:kopeck:problem:scope-missing")

    @pytest.mark.parametrize(("method", "path"), PATHS)
    def test_key_with_the_one_scope_goes_through(self, make_app, context, method, path):
        app = make_app(KOPECK_ENV="production")
        with app.test_request_context(path, method=method):
            scope = app.view_functions[flask.request.endpoint].access
        token = api_keys.create(name="one", scopes=[scope], now=START)

        answer = app.test_client().open(path, method=method, headers={"Authorization": f"Bearer {token}"})

        assert answer.status_code not in (401, 403)

    def test_development_reads_are_open_and_writes_are_not(self, client, database):
        assert client.get("/api/v1/organizations/").status_code == 200
        assert client.post("/api/v1/organizations/", json={"inn": INN}).status_code == 401

    @pytest.mark.parametrize("remote", ["192.0.2.1", "10.0.0.1", "2001:db8::1"])
    def test_development_answers_this_machine_only(self, client, database, remote):
        answer = client.get("/api/v1/organizations/", environ_base={"REMOTE_ADDR": remote})

        assert (answer.status_code, answer.json["type"]) == (403, "urn:kopeck:problem:loopback-only")

    @pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:80", "[::2]"])
    def test_development_refuses_other_host_names(self, client, database, host):
        answer = client.get("/api/v1/organizations/", headers={"Host": host})

        assert (answer.status_code, answer.json["type"]) == (403, "urn:kopeck:problem:loopback-only")

    @pytest.mark.parametrize("host", ["localhost", "localhost:8000", "127.0.0.1:8000", "[::1]", "[::1]:8000"])
    def test_development_answers_to_every_name_of_this_machine(self, client, database, host):
        remote = {"REMOTE_ADDR": "::1" if "[" in host else "127.0.0.1"}

        assert client.get("/api/v1/organizations/", headers={"Host": host}, environ_base=remote).status_code == 200

    def test_key_that_is_shown_must_be_good_in_development_too(self, client, database):
        for authorization in ("Bearer wrong", "kpk_without-bearer", "Basic a2V5Og=="):
            answer = client.get("/api/v1/organizations/", headers={"Authorization": authorization})
            assert answer.status_code == 401

    def test_production_webhook_needs_no_key(self, make_app, check_ledger):
        client = make_app(KOPECK_ENV="production").test_client()

        assert Bank(client).send().json["status"] == "credited"
        check_ledger()

    def test_key_is_kept_as_a_hash_only(self, context, database):
        token = api_keys.create(name="hashed", scopes=[], now=START)

        assert token not in str(database.rows())

    def test_resolver_is_named_after_the_key(self, make_app, bank, context):
        bank.send(amount=0)
        operator = Operator(
            make_app(KOPECK_ENV="production").test_client(),
            api_keys.create(name="anna", scopes=list(api_keys.SCOPES), now=START),
        )
        (incident,) = operator.get("/incidents/").json["items"]

        resolved = operator.post(f"/incidents/{incident['id']}/resolve/", resolution="seen")

        assert resolved.json["resolved_by"] == "key:anna"


def _walk(operator: Operator, path: str, member: str, *, limit: int) -> list[list[object]]:
    """Read every page of a list and return one member of each item, page by page."""
    pages, cursor = [], None
    while True:
        page = operator.get(path, limit=limit, **({"cursor": cursor} if cursor else {})).json
        pages.append([item[member] for item in page["items"]])
        cursor = page["next"]
        if cursor is None:
            return pages

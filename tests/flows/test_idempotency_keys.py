"""How a call with an Idempotency-Key is kept: for whom, for how long, what is not kept, and what it must look like."""

import json
from contextlib import suppress
from datetime import timedelta

import pytest

import limits
from auth import api_keys
from database.session import shared_transaction, snapshot, transaction
from errors import OrganizationExists
from ledger import organizations
from tests.callers import Bank, Operator
from tests.factories import INN, OTHER_INN, SECRETS_KEY, START, make_org

ENDPOINT = {"url": "https://example.com/"}
REUSED = "urn:kopeck:problem:idempotency-key-reused"


@pytest.fixture
def call(client, operator):
    def call(key: str = "k", *, to: str = "/endpoints/", by: str = operator.key, **options: object):
        headers = {"Authorization": f"Bearer {by}", "Idempotency-Key": key}
        return client.post(f"/api/v1{to}", headers=headers, **(options or {"json": ENDPOINT}))

    return call


def another(name: str = "another") -> str:
    return api_keys.create(name=name, scopes=list(api_keys.SCOPES), now=START)


def test_endpoint_is_made_once_and_hears_of_each_event_once(call, bank, operator, context):
    first, again = call(), call()

    assert first.json == again.json
    assert len(operator.get("/endpoints/").json["items"]) == 1
    bank.send()
    assert len(operator.get("/deliveries/").json["items"]) == 1


def test_another_key_is_another_call(call, operator):
    assert call("k").json["id"] != call("K").json["id"]


@pytest.mark.parametrize("key", ["k", "!", "~" * 255, '"8e03978e-40d5-43dd-bc93-6894a57f9324"', "a,b;c='d'%00"])
def test_key_of_any_visible_signs_is_taken(call, key):
    assert call(key).json == call(key).json


@pytest.mark.parametrize("key", ["", " ", "k" * 256, "a b", "ключ", "a\tb", "a\x7fb", "é"])
def test_key_of_another_form_is_refused(call, database, key):
    before = database.rows()
    answer = call(key.encode().decode("latin-1"))

    assert (answer.status_code, answer.json["type"]) == (400, "urn:kopeck:problem:idempotency-key-invalid")
    assert database.rows() == before


DIFFERENT = {
    "body": {"json": {"url": "https://example.com/2"}},
    "bytes of the body": {"data": json.dumps(ENDPOINT, indent=1), "content_type": "application/json"},
    "query": {"json": ENDPOINT, "query_string": "a=b"},
    "path": {"json": ENDPOINT, "to": "/organizations/"},
}


@pytest.mark.parametrize("options", DIFFERENT.values(), ids=DIFFERENT)
def test_key_is_refused_for_another_request(call, database, options):
    call()
    before = database.rows()

    answer = call(**options)

    assert (answer.status_code, answer.json["type"]) == (409, REUSED)
    assert database.rows() == before


def test_last_slash_makes_no_other_request(call):
    assert call(to="/endpoints").json == call(to="/endpoints/").json


def test_each_caller_has_keys_of_its_own(call, context):
    assert call(by=another()).json["id"] != call().json["id"]


def test_answer_is_given_to_nobody_without_the_scope(call, operator, context, database):
    token = another()
    call(by=token)
    api_keys.revoke("another", now=START)

    assert call(by=token).status_code == 401


def test_answer_is_kept_for_a_day_and_no_longer(call, clock, database):
    first = call()
    clock.move(seconds=limits.IDEMPOTENCY_SECONDS - 1)
    assert call().json == first.json
    clock.move(seconds=1)

    late = call()

    assert (late.status_code, late.json["id"] != first.json["id"]) == (201, True)
    assert database.count("idempotency_keys") == 1


def test_answers_that_are_too_old_are_removed_by_the_next_call_of_anybody(call, clock, context, database):
    for number in range(3):
        call(f"k{number}")
    clock.move(days=1)

    call("new", by=another())

    assert database.count("idempotency_keys") == 1


def test_number_of_answers_is_limited_for_each_caller(call, database, context):
    call()
    fill(database, limits.IDEMPOTENCY_CALLS_MAX - 1)

    refused = call("more")
    assert (refused.status_code, refused.json["type"]) == (409, "urn:kopeck:problem:limit-reached")
    assert call().headers["Idempotent-Replayed"] == "true"
    assert call(by=another()).status_code == 201


def test_answer_that_was_kept_is_given_also_when_calls_at_once_went_above_the_limit(call, database, context):
    call()
    fill(database, limits.IDEMPOTENCY_CALLS_MAX + 5)

    assert call().headers["Idempotent-Replayed"] == "true"


def fill(database, count: int) -> None:
    """Copy the one row that there is, so many times."""
    numbers = {
        "postgresql": f"SELECT n FROM generate_series(1, {count}) AS n",
        "sqlite": f"WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < {count}) SELECT n FROM s",
        "mariadb": f"SELECT seq AS n FROM seq_1_to_{count}",
    }[database.family]
    id_ = "gen_random_uuid()" if database.family == "postgresql" else "n"
    with database.unguarded() as connection:
        connection.exec_driver_sql(
            "INSERT INTO idempotency_keys SELECT "
            + f"{id_}, caller_id, {'n' if database.family != 'postgresql' else 'n::text'}, request_sha256, status, "
            + f"answer, created_at FROM idempotency_keys, ({numbers}) AS numbers"
        )


class TestFailures:
    def test_refusal_is_not_kept_and_the_same_may_succeed_later(self, call, context):
        body = {"url": "https://example.com/", "organization": OTHER_INN}
        assert call(json=body).status_code == 404
        make_org(OTHER_INN)

        assert call(json=body).status_code == 201

    @pytest.mark.parametrize(
        "options", [{"json": {"url": 1}}, {"data": b"{", "content_type": "application/json"}, {"data": b"url"}]
    )
    def test_body_that_cannot_be_used_uses_up_no_key(self, call, database, options):
        assert call(**options).status_code in (400, 415)
        assert database.count("idempotency_keys") == 0
        assert call().status_code == 201

    def test_body_that_is_too_large_is_refused_before_anything_else(self, call, database):
        assert call(data=b"x" * (limits.BODY_BYTES_MAX + 1)).status_code == 413
        assert database.count("idempotency_keys") == 0

    def test_crash_leaves_nothing_and_the_same_succeeds_later(self, call, database, operator, monkeypatch):
        with database.unguarded() as connection:
            connection.exec_driver_sql("ALTER TABLE endpoints RENAME TO away")
        answer = call()
        with database.unguarded() as connection:
            connection.exec_driver_sql("ALTER TABLE away RENAME TO endpoints")

        assert answer.status_code in (500, 503)
        assert (database.count("idempotency_keys"), database.count("endpoints")) == (0, 0)
        assert call().status_code == 201

    def test_refused_assignment_moves_nothing(self, call, make_app, operator, database, check_ledger):
        held = Bank(make_app(UNKNOWN_INN="hold").test_client()).send().json["incident_id"]
        before = database.rows()

        answer = call(to=f"/incidents/{held}/assign/", json={"inn": OTHER_INN})

        assert answer.status_code == 409
        assert database.rows() == before
        check_ledger()


class TestSecrets:
    def test_answer_is_stored_encrypted(self, call, database):
        secret = call().json["secret"]

        assert secret not in str(database.rows())
        assert secret.removeprefix("whsec_").encode().hex() not in str(database.rows())

    def test_answer_that_is_copied_to_another_row_is_not_given_out(self, call, database, context):
        first, mine = call("first", by=another()), call("mine")
        assert first.json != mine.json
        with database.unguarded() as connection:
            answer = "(SELECT answer FROM (SELECT answer FROM idempotency_keys WHERE {key} = 'first') AS other)"
            quoted = "`key`" if database.family == "mariadb" else '"key"'
            connection.exec_driver_sql(
                f"UPDATE idempotency_keys SET answer = {answer.format(key=quoted)} WHERE {quoted} = 'mine'"
            )

        stolen = call("mine")

        assert (stolen.status_code, stolen.json["type"]) == (409, "urn:kopeck:problem:secret-unreadable")
        assert first.json["secret"] not in stolen.text

    def test_answer_can_be_read_as_long_as_its_key_is_listed(self, call, make_app, operator):
        first = call().json
        new = "another-key-that-encrypts-0123456789-abcdef"
        statuses = []
        for keys in (f"{new},{SECRETS_KEY}", new):
            client = make_app(SECRETS_KEYS=keys).test_client()
            headers = {"Authorization": f"Bearer {operator.key}", "Idempotency-Key": "k"}
            answer = client.post("/api/v1/endpoints/", json=ENDPOINT, headers=headers)
            statuses.append((answer.status_code, answer.json.get("secret")))

        assert statuses == [(201, first["secret"]), (409, None)]


class TestSharedTransaction:
    def test_use_cases_within_see_what_was_written_and_are_committed_together(self, context, database):
        with shared_transaction():
            make_org()
            assert organizations.find(INN).inn == INN
            assert database.family == "sqlite" or database.count("organizations") == 0
            with transaction():
                make_org(OTHER_INN)

        assert database.count("organizations") == 2

    def test_error_of_the_last_takes_back_the_first(self, context, database):
        with pytest.raises(LookupError), shared_transaction():
            make_nothing(make_org())

        assert database.count("organizations") == 0

    def test_error_that_was_caught_within_commits_nothing(self, context, database):
        with pytest.raises(RuntimeError, match="was caught"), shared_transaction(), suppress(OrganizationExists):
            make_org(make_org())

        assert database.count("organizations") == 0
        make_org()

    def test_does_not_nest_and_allows_no_snapshot(self, context):
        with pytest.raises(RuntimeError), shared_transaction(), snapshot():
            pass
        with pytest.raises(RuntimeError, match="inside another"), transaction(), transaction():
            pass

    def test_is_over_when_it_has_ended(self, context, database):
        with shared_transaction():
            pass
        with pytest.raises(LookupError), transaction():
            make_nothing()

        assert organizations.seed([(INN, "")], now=START + timedelta(days=1)) == 1


def make_nothing(_after: str = "") -> None:
    raise LookupError


def test_call_of_a_limited_key_is_kept_for_it_alone(client, context, operator, database):
    make_org()
    shop = Operator(client, api_keys.create(name="shop", scopes=["endpoints:write"], organization=INN, now=START))
    number = shop.post("/endpoints/", **ENDPOINT).json["id"]
    headers = {"Authorization": f"Bearer {shop.key}", "Idempotency-Key": "k"}

    # Deleted by then, it is not the key's own any more; the answer is.
    answers = [client.delete(f"/api/v1/endpoints/{number}/", headers=headers).status_code for _ in range(2)]

    assert answers == [204, 204]

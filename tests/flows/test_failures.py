"""What a caller sees when the server is in trouble: a problem that says what to do, and nothing from inside."""

import logging
import socket
import threading

import pytest
from flask import Flask
from sqlalchemy import make_url, select

from app import create_app
from database import connection_settings
from database.extension import db
from database.session import transaction
from models import Organization
from tests.callers import Bank
from tests.databases import Database, only
from tests.factories import SECRET, START, make_body, make_config, make_org

DEAD_DATABASES = {
    "postgresql": "postgresql://kopeck:pass-word@127.0.0.1:9/kopeck",
    "mariadb": "mariadb://kopeck:pass-word@127.0.0.1:9/kopeck",
    "sqlite": "sqlite:///{}/folder",
}


@pytest.fixture(params=DEAD_DATABASES)
def dead(request, tmp_path) -> Flask:
    """An app whose database does not answer."""
    (tmp_path / "folder").mkdir()
    return create_app(make_config(make_url(DEAD_DATABASES[request.param].format(tmp_path))))


def test_webhook_without_a_database_may_be_sent_again(dead, caplog):
    with caplog.at_level(logging.ERROR):
        answer = Bank(dead.test_client()).send()

    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert answer.json["type"] == "urn:kopeck:problem:database-unavailable"
    assert answer.headers["X-Request-Id"] in caplog.text
    assert "pass-word" not in caplog.text + answer.text


@only("postgresql")  # an address can ask for a read-only session here alone
def test_standby_that_only_reads_may_be_asked_again(database):
    url = database.url.update_query_dict({"options": "-c default_transaction_read_only=on"})
    app = create_app(make_config(url))

    assert Bank(app.test_client()).send().status_code == 503
    with app.app_context():
        db.engine.dispose()


@only("postgresql")  # the others know whole seconds only
def test_row_locked_for_too_long_may_be_asked_again(database, context, monkeypatch):
    make_org()
    monkeypatch.setitem(connection_settings.POSTGRESQL, "lock_timeout", "'50ms'")
    app = create_app(make_config(database.url))
    with transaction() as session:
        session.execute(select(Organization.id).with_for_update())
        thread_answers: list[int] = []
        thread = threading.Thread(target=lambda: thread_answers.append(Bank(app.test_client()).send().status_code))
        thread.start()
        thread.join()

    assert thread_answers == [503]
    with app.app_context():
        db.engine.dispose()


def test_database_that_accepts_and_then_says_nothing_is_given_up_on():
    """PostgreSQL's driver alone limits this by the time to connect; MariaDB's takes the minute of a statement."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://kopeck:x@127.0.0.1:{silent.getsockname()[1]}/kopeck"
        app = create_app(make_config(make_url(url)))

        assert Bank(app.test_client()).send().status_code == 503


def test_bad_signature_needs_no_database(dead):
    assert Bank(dead.test_client()).push(make_body(), signature="0" * 64).status_code == 401


def test_unusable_body_without_a_database_may_be_sent_again(dead):
    assert Bank(dead.test_client()).send(amount=0).status_code == 503


def test_process_is_alive_but_not_ready_without_a_database(dead):
    client = dead.test_client()

    assert client.get("/healthz").status_code == 200
    assert client.get("/readyz").status_code == 503


def test_process_is_ready_with_its_tables(client, database):
    assert (client.get("/readyz").status_code, client.get("/readyz").json) == (200, {"status": "ok"})


def test_process_is_ready_with_the_tables_of_the_next_version_but_not_of_one_before(make_app, context, database):
    client = make_app().test_client()
    with database.unguarded() as connection:
        (newest,) = connection.exec_driver_sql("SELECT version_num FROM alembic_version").one()
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
        later = client.get("/readyz").status_code
        connection.exec_driver_sql("DELETE FROM alembic_version")
        none = client.get("/readyz").status_code
        connection.exec_driver_sql(f"INSERT INTO alembic_version VALUES ('{newest}')")

    assert (later, none, client.get("/readyz").status_code) == (200, 503, 200)


def test_process_is_not_ready_without_its_tables(database):
    empty = Database(database.family)
    empty.create()
    app = create_app(make_config(empty.url))
    try:
        answer = app.test_client().get("/readyz")
        assert answer.status_code == 503
        assert "flask db upgrade" in answer.json["detail"]
        assert Bank(app.test_client()).send().status_code == 503
    finally:
        with app.app_context():
            db.engine.dispose()
        empty.drop()


def test_row_that_breaks_a_constraint_is_a_crash_and_logged_without_what_was_in_it(make_app, caplog):
    """A constraint that stops us is our fault, not an outage: nobody is told to send the same again."""
    app = make_app()

    def break_a_constraint() -> None:
        with transaction() as session:
            session.add(Organization(inn="PRIVATE-INN", balance=-1, created_at=START))

    app.add_url_rule("/break", "break", break_a_constraint)

    answer = app.test_client().get("/break")

    assert answer.status_code == 500
    assert "in: INSERT INTO organizations" in caplog.text
    assert "break_a_constraint" in caplog.text
    assert "PRIVATE" not in caplog.text


def test_crash_says_nothing_inside_and_logs_the_request_id(make_app, caplog):
    app = make_app()
    app.add_url_rule("/crash", "crash", lambda: 1 / len([]))

    answer = app.test_client().get("/crash")

    assert answer.status_code == 500
    assert answer.content_type == "application/problem+json"
    assert "division" not in answer.text
    assert answer.json["request_id"] == answer.headers["X-Request-Id"]
    assert answer.json["request_id"] in caplog.text


@pytest.mark.parametrize("path", ["/", "/api/v1/nothing/", "/api/v1/webhook/", "/%00", "/api/v1/incidents/x/"])
def test_unknown_path_is_a_problem(client, path):
    answer = client.get(path)

    assert (answer.status_code, answer.content_type) == (404, "application/problem+json")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("GET", "/api/v1/webhook/bank/", "POST"), ("DELETE", "/api/v1/organizations/", "GET")],
)
def test_wrong_method_is_a_problem_that_names_the_right_ones(client, method, path, allowed):
    answer = client.open(path, method=method)

    assert (answer.status_code, answer.content_type) == (405, "application/problem+json")
    assert allowed in answer.headers["Allow"]


@pytest.mark.parametrize(
    ("path", "status"), [("/api/v1/organizations/", 200), ("/nothing", 404), ("/api/v1/webhook/bank/", 405)]
)
def test_no_answer_is_cached_or_sniffed(client, database, path, status):
    answer = client.get(path)

    assert answer.status_code == status
    assert answer.headers.getlist("Cache-Control") == ["no-store"]
    assert answer.headers.getlist("X-Content-Type-Options") == ["nosniff"]
    assert answer.headers.getlist("X-Frame-Options") == ["DENY"]
    assert answer.headers.getlist("Content-Security-Policy") == ["default-src 'none'; frame-ancestors 'none'"]


def test_nothing_secret_is_logged(bank, caplog):
    with caplog.at_level(logging.DEBUG):
        bank.send()
        bank.push(make_body(), signature="0" * 64)
        bank.send(amount=0)

    assert SECRET not in caplog.text

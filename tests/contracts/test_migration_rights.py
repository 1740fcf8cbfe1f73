"""Rights that migrations need are looked at before their first statement, and named; then the same command goes on."""

import re

import click
import flask_migrate
import pymysql
import pytest
from sqlalchemy import create_engine, inspect, text

from app import create_app
from database.extension import db
from tests import clusters, databases
from tests.callers import Bank
from tests.clusters import MariadbCluster
from tests.databases import Database
from tests.factories import make_config, make_org

ALL = "SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, DROP, INDEX, TRIGGER"
needs_mariadb = pytest.mark.skipif("mariadb" not in clusters.available(), reason="no MariaDB can be started here")
needs_postgresql = pytest.mark.skipif("postgresql" not in databases.SERVERS, reason="no PostgreSQL here")


@pytest.fixture(scope="module")
def cluster():
    with MariadbCluster(log_bin="binlog", sync_binlog="1") as cluster:
        yield cluster


@pytest.fixture
def administer(cluster):
    """Execute as the administrator, on a database made anew."""
    with pymysql.connect(unix_socket=str(cluster._socket), user="root", autocommit=True) as connection:

        def administer(*statements):
            for statement in statements:
                connection.cursor().execute(statement)

        administer("SET GLOBAL log_bin_trust_function_creators = 0")
        administer("DROP DATABASE IF EXISTS kopeck", "CREATE DATABASE kopeck", "CREATE OR REPLACE USER o@'127.0.0.1'")
        yield administer


@pytest.fixture
def app(cluster):
    app = create_app(make_config(cluster.url.set(username="o")))
    yield app
    with app.app_context():
        db.session.remove()
        db.engine.dispose()


def refusal():
    with pytest.raises(click.ClickException) as refused:
        flask_migrate.upgrade()
    assert inspect(db.engine).get_table_names() == []
    db.session.remove()
    return refused.value.message


@needs_mariadb
def test_ordinary_user_of_a_mariadb_with_a_binary_log_is_told_before_anything_is_made(app, administer):
    administer("GRANT ALL PRIVILEGES ON kopeck.* TO o@'127.0.0.1'")
    with app.app_context():
        message = refusal()
        assert "SET GLOBAL log_bin_trust_function_creators = 1" in message
        assert "GRANT SUPER ON *.* TO 'o'@'127.0.0.1'" in message
        assert "not available" not in message

        administer("SET GLOBAL log_bin_trust_function_creators = 1")
        flask_migrate.upgrade()
        make_org()
        assert Bank(app.test_client()).send().json["status"] == "credited"
        flask_migrate.downgrade(revision="0003")


@needs_mariadb
def test_grant_that_the_refusal_names_is_enough(app, administer):
    """Both for triggers beside a binary log and for everything else: what it says is executed as it stands."""
    administer("GRANT SELECT ON kopeck.* TO o@'127.0.0.1'")
    with app.app_context():
        message = refusal()
        assert "SELECT" not in message
        for _ in range(2):
            administer(*re.findall(r"GRANT [A-Z, ]+ ON \S+ TO '\w+'@'[\d.]+'", message))
            db.engine.dispose()
            message = ""
            try:
                flask_migrate.upgrade()
                break
            except click.ClickException as error:
                message = error.message
        assert message == ""
        flask_migrate.downgrade(revision="base")


@needs_mariadb
@pytest.mark.parametrize("right", ALL.split(", "))
def test_right_that_is_missing_is_named(app, administer, right):
    others = ", ".join(other for other in ALL.split(", ") if other != right)
    administer("SET GLOBAL log_bin_trust_function_creators = 1", f"GRANT {others} ON kopeck.* TO o@'127.0.0.1'")
    with app.app_context():
        message = refusal()

    if right == "SELECT":
        assert "SELECT command denied" in message
    else:
        assert f"GRANT {right} ON `kopeck`.* TO 'o'@'127.0.0.1'" in message


@needs_mariadb
def test_upgrade_that_has_nothing_to_do_needs_no_rights(app, administer):
    administer("SET GLOBAL log_bin_trust_function_creators = 1", f"GRANT {ALL} ON kopeck.* TO o@'127.0.0.1'")
    with app.app_context():
        flask_migrate.upgrade()
        db.engine.dispose()
        before = inspect(db.engine).get_table_names()
        administer("REVOKE TRIGGER, CREATE, DROP ON kopeck.* FROM o@'127.0.0.1'")
        flask_migrate.upgrade()

        assert inspect(db.engine).get_table_names() == before
    assert app.test_client().get("/readyz").json == {"status": "ok"}


@pytest.fixture
def postgresql():
    """A database of PostgreSQL, and a user who may connect to it, with how to administer both."""
    database = Database("postgresql")
    database.create()
    user = f"{database.name}_user"
    engine = create_engine(database.url, isolation_level="AUTOCOMMIT")

    def administer(*statements):
        with engine.connect() as connection:
            for statement in statements:
                connection.execute(text(statement.format(user=user)))

    administer("CREATE USER \"{user}\" PASSWORD 'x'", "REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    app = create_app(make_config(database.url.set(username=user, password="x", host=database.url.host or "127.0.0.1")))
    yield app, administer
    with app.app_context():
        db.session.remove()
        db.engine.dispose()
    administer('DROP OWNED BY "{user}"', 'DROP USER "{user}"')
    engine.dispose()
    database.drop()


@needs_postgresql
def test_user_of_postgresql_who_may_make_no_tables_is_told_the_grant(postgresql):
    app, administer = postgresql
    with app.app_context():
        message = refusal()
        (grant,) = re.findall(r'GRANT USAGE, CREATE ON SCHEMA "public" TO "\w+"', message)
        administer(grant)
        flask_migrate.upgrade()
    assert app.test_client().get("/readyz").json == {"status": "ok"}


@needs_postgresql
def test_user_of_postgresql_whose_tables_belong_to_another_is_told_so(postgresql):
    app, administer = postgresql
    administer('GRANT USAGE, CREATE ON SCHEMA public TO "{user}"')
    with app.app_context():
        flask_migrate.upgrade(revision="0003")
        administer("ALTER TABLE payments OWNER TO CURRENT_USER")
        with pytest.raises(click.ClickException, match="does not own payments"):
            flask_migrate.upgrade()
        administer('ALTER TABLE payments OWNER TO "{user}"')
        flask_migrate.upgrade()


@needs_postgresql
def test_search_path_that_leads_nowhere_is_named(postgresql):
    app, administer = postgresql
    administer('ALTER USER "{user}" SET search_path = nowhere')
    with app.app_context(), pytest.raises(click.ClickException, match="search_path"):
        flask_migrate.upgrade()


@needs_postgresql
def test_schema_with_capitals_gets_tables_and_later_migrations(postgresql):
    app, administer = postgresql
    administer('CREATE SCHEMA "Kopeck" AUTHORIZATION "{user}"', 'ALTER USER "{user}" SET search_path = "Kopeck"')
    with app.app_context():
        flask_migrate.upgrade(revision="0003")
        flask_migrate.upgrade()
        assert "payments" in inspect(db.engine).get_table_names(schema="Kopeck")
    assert app.test_client().get("/readyz").json == {"status": "ok"}

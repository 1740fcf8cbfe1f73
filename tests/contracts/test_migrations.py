"""Migrations: numbered, equal to the models, down and up again on each database."""

import re

import flask_migrate
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect

import context as app_context
from app import create_app
from config import ROOT
from database.extension import db
from tests import databases
from tests.callers import Bank
from tests.databases import Database
from tests.factories import make_config


@pytest.fixture(params=databases.FAMILIES)
def fresh(request):
    """An app on a database of its own that has no tables yet."""
    database = Database(request.param)
    database.create()
    app = create_app(make_config(database.url), app_context.wall_clock)
    yield app, database
    with app.app_context():
        db.engine.dispose()
    database.drop()


def test_migrations_are_numbered_in_a_row():
    names = sorted(path.name for path in (ROOT / "migrations" / "versions").glob("*.py"))

    assert [name[:5] for name in names] == [f"{number:04}_" for number in range(1, len(names) + 1)]
    for number, name in enumerate(names, 1):
        text = (ROOT / "migrations" / "versions" / name).read_text()
        assert re.search(rf'^revision = "{number:04}"$', text, re.MULTILINE)


def test_tables_are_those_of_the_models(fresh):
    app, database = fresh
    database.migrate(app)

    with app.app_context(), db.engine.connect() as connection:
        options = {"compare_type": True, "compare_server_default": True}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), db.metadata) == []


def test_down_leaves_nothing_and_up_again_works(fresh):
    app, database = fresh
    database.migrate(app)
    assert Bank(app.test_client()).send().status_code == 200
    with app.app_context():
        flask_migrate.downgrade(revision="base", x_arg="lose-rows=yes")
        assert set(inspect(db.engine).get_table_names()) <= {"alembic_version"}
        db.session.remove()
    database.migrate(app)

    assert Bank(app.test_client()).send().json["status"] == "credited"


def literals(condition: str) -> frozenset[str]:
    """Return the words in quotation marks: the values of an enum, however a database writes the list of them."""
    return frozenset(re.findall(r"'([^']*)'", condition))


def test_every_constraint_of_the_models_is_in_the_tables(fresh):
    app, database = fresh
    database.migrate(app)

    with app.app_context():
        inspector = inspect(db.engine)
        for table in db.metadata.sorted_tables:
            checks = {
                check["name"]: literals(check["sqltext"]) for check in inspector.get_check_constraints(table.name)
            }
            declared = [c for c in table.constraints if type(c).__name__ == "CheckConstraint"]
            assert {str(c.name): literals(str(c.sqltext)) for c in declared}.items() <= checks.items(), table.name
            uniques = {tuple(unique["column_names"]) for unique in inspector.get_unique_constraints(table.name)}
            wanted = {
                tuple(column.name for column in c.columns)
                for c in table.constraints
                if type(c).__name__ == "UniqueConstraint"
            }
            assert wanted <= uniques, table.name
            assert len(inspector.get_foreign_keys(table.name)) == len(table.foreign_keys)


def columns() -> dict[str, set[str]]:
    inspector = inspect(db.engine)
    return {
        name: {column["name"] for column in inspector.get_columns(name)}
        for name in inspector.get_table_names()
        if name != "alembic_version"
    }


def test_each_downgrade_names_what_it_drops(fresh):
    app, database = fresh
    database.migrate(app)
    script = ScriptDirectory(str(ROOT / "migrations"))

    with app.app_context():
        for step in script.walk_revisions():
            before = columns()
            flask_migrate.downgrade(revision=step.down_revision or "base")
            after = columns()
            derived, loses = getattr(step.module, "DERIVED", ()), step.module.LOSES
            assert (
                {name for name, condition in loses.items() if not condition}
                <= before.keys() - after.keys()
                <= loses.keys()
            )
            gone = {f"{name}.{column}" for name in after for column in before[name] - after[name]}
            renamed = {f"{name}.{column}" for name in after for column in after[name] - before[name]}
            named = {column for column in gone if column.split(".")[1] in loses.get(column.split(".")[0], "")}
            assert len(gone - named - set(derived)) == len(renamed), f"{step.revision} drops {gone} and loses {loses}"

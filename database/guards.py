"""Whether a database still refuses what its tables are made to refuse: keys, constraints and triggers.

Called by the audit with the tables of the models. Reads the catalog, writes nothing.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    CheckConstraint,
    Connection,
    ForeignKeyConstraint,
    Inspector,
    MetaData,
    Table,
    UniqueConstraint,
    inspect,
    text,
)

from database import append_only

CASTS = re.compile(r"::(?:character varying|text|bpchar|bigint|integer|smallint)(?:\(\d+\))?(?:\[\])?", re.IGNORECASE)
TOKENS = re.compile(r"'[^']*'|\w+|<>|<=|>=|[<>+*/-]")
LIST_WORDS = frozenset({"in", "any", "array"})
"""How a list of values is written differs: IN (…) here, = ANY (ARRAY[…]) there."""


@dataclass(frozen=True, kw_only=True)
class Fallen:
    """A guard that does not stand, and what that is."""

    table: str
    problem: str


def fallen(connection: Connection, metadata: MetaData) -> Iterator[Fallen]:
    """Yield each key, constraint and trigger that is missing, disabled, or says something else than it should."""
    inspector = inspect(connection)
    present = set(inspector.get_table_names())
    for table in metadata.sorted_tables:
        problems = _problems(inspector, table) if table.name in present else iter(["the table is missing"])
        for problem in problems:
            yield Fallen(table=table.name, problem=problem)
    yield from _fallen_triggers(connection)
    if connection.dialect.name == "postgresql":
        yield from _idle(connection)


def _problems(inspector: Inspector, table: Table) -> Iterator[str]:
    columns = {column["name"]: column for column in inspector.get_columns(table.name)}
    for column in table.columns:
        if column.name not in columns:
            yield f"the column {column.name} is missing"
        elif columns[column.name]["nullable"] and not column.nullable:
            yield f"the column {column.name} may be empty"
    if inspector.get_pk_constraint(table.name)["constrained_columns"] != [c.name for c in table.primary_key.columns]:
        yield "the primary key is missing or another one"
    yield from _missing_keys(inspector, table)
    checks = {check["name"]: _tokens(check["sqltext"]) for check in inspector.get_check_constraints(table.name)}
    for constraint in table.constraints:
        if isinstance(constraint, CheckConstraint) and checks.get(str(constraint.name)) != _tokens(constraint.sqltext):
            yield f"the constraint {constraint.name} is missing or another one"


def _missing_keys(inspector: Inspector, table: Table) -> Iterator[str]:
    unique = {tuple(key["column_names"]) for key in inspector.get_unique_constraints(table.name)}
    foreign = {
        (*key["constrained_columns"], key["referred_table"], *key["referred_columns"])
        for key in inspector.get_foreign_keys(table.name)
    }
    for constraint in table.constraints:
        names = tuple(column.name for column in getattr(constraint, "columns", ()))
        if isinstance(constraint, UniqueConstraint) and names not in unique:
            yield f"nothing keeps {' and '.join(names)} unique"
        elif isinstance(constraint, ForeignKeyConstraint):
            (referred,) = {element.column.table.name for element in constraint.elements}
            if (*names, referred, *(element.column.name for element in constraint.elements)) not in foreign:
                yield f"nothing keeps {' and '.join(names)} to rows of {referred}"


def _tokens(condition: object) -> list[str]:
    """Return what a condition says, without what each database writes in its own way."""
    words = TOKENS.findall(CASTS.sub("", str(condition)))
    return [word if word.startswith("'") else word.lower() for word in words if word.lower() not in LIST_WORDS]


def _fallen_triggers(connection: Connection) -> Iterator[Fallen]:
    found = append_only.found(connection)
    for trigger in append_only.triggers(connection.dialect.name):
        if found.get(trigger.name) != trigger.definition:
            problem = f"the trigger {trigger.name} is missing, disabled or another one"
            yield Fallen(table=trigger.table, problem=problem)


IDLE = """
SELECT relname AS table, 'the constraint ' || conname || ' does not hold for older rows' AS problem
FROM pg_constraint JOIN pg_class ON pg_class.oid = conrelid
WHERE NOT convalidated AND pg_table_is_visible(pg_class.oid)
UNION ALL
SELECT DISTINCT relname, 'its foreign keys are disabled'
FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid
WHERE tgisinternal AND tgenabled NOT IN ('O', 'A') AND pg_table_is_visible(pg_class.oid)
UNION ALL
SELECT relname, 'the index ' || indexrelid::regclass || ' is not valid'
FROM pg_index JOIN pg_class ON pg_class.oid = indrelid
WHERE NOT indisvalid AND pg_table_is_visible(pg_class.oid)
"""
"""What PostgreSQL has, and does not hold rows to."""


def _idle(connection: Connection) -> Iterator[Fallen]:
    for row in connection.execute(text(IDLE)):
        found: dict[str, Any] = {**row._mapping}
        yield Fallen(**found)

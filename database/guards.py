"""Whether a database still refuses what its tables are made to refuse, and does nothing to them of its own accord.

Looks for what is missing or weaker, and for what somebody added. Called by the audit with the tables of the models.
Reads the catalog, writes nothing.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

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
from database.columns import MYSQL_FAMILY

CASTS = re.compile(r"::(?:character varying|text|bpchar|bigint|integer|smallint)(?:\(\d+\))?(?:\[\])?", re.IGNORECASE)
TOKENS = re.compile(r"'[^']*'|\w+|<>|!=|<=|>=|[<>=+*/-]")
ANY_OF = re.compile(r"= ANY \(ARRAY\b", re.IGNORECASE)
"""How PostgreSQL writes IN (…)."""

NOTHING = "NO ACTION"


@dataclass(frozen=True, kw_only=True)
class Fallen:
    """A guard that does not stand, and what that is."""

    table: str
    problem: str


class ForeignKey(NamedTuple):
    """What a foreign key keeps, and what it does to rows by itself; nothing is "" for each database."""

    columns: tuple[str, ...]
    referred: str
    referred_columns: tuple[str, ...]
    on_delete: str
    on_update: str


def fallen(connection: Connection, metadata: MetaData) -> Iterator[Fallen]:
    """Yield each guard that is missing, disabled or says something else than it should, and each thing not of ours."""
    inspector = inspect(connection)
    present = set(inspector.get_table_names())
    for table in metadata.sorted_tables:
        problems = _problems(inspector, table) if table.name in present else iter(["the table is missing"])
        for problem in problems:
            yield Fallen(table=table.name, problem=problem)
    yield from _fallen_triggers(connection)
    yield from _added_triggers(connection, metadata)
    catalog = CATALOG.get(connection.dialect.name)
    for row in connection.execute(text(catalog)) if catalog else ():
        if row.table in metadata.tables:
            yield Fallen(table=row.table, problem=row.problem)


def _problems(inspector: Inspector, table: Table) -> Iterator[str]:
    columns = {column["name"]: column for column in inspector.get_columns(table.name)}
    for column in table.columns:
        if column.name not in columns:
            yield f"the column {column.name} is missing"
        elif columns[column.name]["nullable"] and not column.nullable:
            yield f"the column {column.name} may be empty"
    if inspector.get_pk_constraint(table.name)["constrained_columns"] != [c.name for c in table.primary_key.columns]:
        yield "the primary key is missing or another one"
    yield from _missing_unique(inspector, table)
    yield from _other_foreign_keys(inspector, table)
    checks = {check["name"]: _tokens(check["sqltext"]) for check in inspector.get_check_constraints(table.name)}
    for constraint in table.constraints:
        if isinstance(constraint, CheckConstraint) and checks.get(str(constraint.name)) != _tokens(constraint.sqltext):
            yield f"the constraint {constraint.name} is missing or another one"


def _missing_unique(inspector: Inspector, table: Table) -> Iterator[str]:
    unique = {tuple(key["column_names"]) for key in inspector.get_unique_constraints(table.name)}
    for constraint in table.constraints:
        names = tuple(column.name for column in getattr(constraint, "columns", ()))
        if isinstance(constraint, UniqueConstraint) and names not in unique:
            yield f"nothing keeps {' and '.join(names)} unique"


def _other_foreign_keys(inspector: Inspector, table: Table) -> Iterator[str]:
    """Compare foreign keys with the model's: one that deletes by itself passes triggers by on MariaDB."""
    wanted = {key[:3]: key for key in map(_foreign_key, table.foreign_key_constraints)}
    found = list(_foreign_keys(inspector, table.name))
    for kept, key in wanted.items():
        if kept not in {other[:3] for other in found}:
            yield f"nothing keeps {' and '.join(key.columns)} to rows of {key.referred}"
    for other in found:
        names, ours = f"{' and '.join(other.columns)} to rows of {other.referred}", wanted.get(other[:3])
        if ours is None:
            yield f"the foreign key of {names} is not ours"
            continue
        for event in ("on_delete", "on_update"):
            does, should = getattr(other, event), getattr(ours, event)
            if does != should:
                on = event.replace("_", " ").upper()
                yield f"the foreign key of {names} says {on} {does or NOTHING}, and should say {should or NOTHING}"


def _foreign_key(constraint: ForeignKeyConstraint) -> ForeignKey:
    (referred,) = {element.column.table.name for element in constraint.elements}
    return ForeignKey(
        columns=tuple(column.name for column in constraint.columns),
        referred=referred,
        referred_columns=tuple(element.column.name for element in constraint.elements),
        on_delete=_action(constraint.ondelete),
        on_update=_action(constraint.onupdate),
    )


def _foreign_keys(inspector: Inspector, table: str) -> Iterator[ForeignKey]:
    connection: Any = inspector.bind
    if connection.dialect.name != "sqlite":
        for key in inspector.get_foreign_keys(table):
            actions = (_action(key["options"].get(event)) for event in ("ondelete", "onupdate"))
            columns, referred = tuple(key["constrained_columns"]), tuple(key["referred_columns"])
            # A schema is there only if it is another one, in which a table may have the name of ours.
            target = ".".join(filter(None, (key["referred_schema"], key["referred_table"])))
            yield ForeignKey(columns, target, referred, *actions)
        return
    # Asked directly: of two keys with the same columns the inspector shows one.
    rows = connection.execute(text("SELECT * FROM pragma_foreign_key_list(:table) ORDER BY id, seq"), {"table": table})
    for _id, parts in groupby(rows.mappings(), key=lambda row: row["id"]):
        key, *others = parts
        columns, referred = (tuple(part[end] for part in (key, *others)) for end in ("from", "to"))
        yield ForeignKey(columns, key["table"], referred, _action(key["on_delete"]), _action(key["on_update"]))


def _action(words: str | None) -> str:
    # Both refuse, and each database has its own word for what is not said.
    return "" if words is None or words in ("RESTRICT", NOTHING) else words


def _tokens(condition: object) -> list[str]:
    """Return what a condition says, without what each database writes in its own way."""
    words = TOKENS.findall(ANY_OF.sub("IN", CASTS.sub("", str(condition))))
    return [word if word.startswith("'") else word.lower().replace("!=", "<>") for word in words]


def _fallen_triggers(connection: Connection) -> Iterator[Fallen]:
    found = append_only.found(connection)
    for trigger in append_only.triggers(connection.dialect.name):
        if found.get(trigger.name) != trigger.definition:
            problem = f"the trigger {trigger.name} is missing, disabled or another one"
            yield Fallen(table=trigger.table, problem=problem)


def _added_triggers(connection: Connection, metadata: MetaData) -> Iterator[Fallen]:
    """Name each trigger that is not ours, one that is disabled too: nobody can tell what it did before."""
    dialect = "mariadb" if connection.dialect.name in MYSQL_FAMILY else connection.dialect.name
    ours = {(trigger.table, trigger.name) for trigger in append_only.triggers(dialect)}
    for table, name in connection.execute(text(TRIGGERS[dialect])):
        if table in metadata.tables and (table, name) not in ours:
            yield Fallen(table=table, problem=f"the trigger {name} is not ours")


TRIGGERS = {
    "postgresql": (
        "SELECT relname, tgname FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid "
        "WHERE NOT tgisinternal AND pg_table_is_visible(pg_class.oid) ORDER BY relname, tgname"
    ),
    "mariadb": (
        "SELECT event_object_table, trigger_name FROM information_schema.triggers "
        "WHERE event_object_schema = database() ORDER BY event_object_table, trigger_name"
    ),
    "sqlite": "SELECT lower(tbl_name), name FROM sqlite_master WHERE type = 'trigger' ORDER BY tbl_name, name",
}
"""Every trigger that somebody made, beside its table."""

POSTGRESQL = """
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
UNION ALL
SELECT relname, 'the constraint ' || conname || ' is DEFERRABLE: rows can break it until their transaction ends'
FROM pg_constraint JOIN pg_class ON pg_class.oid = conrelid
WHERE condeferrable AND pg_table_is_visible(pg_class.oid)
UNION ALL
SELECT relname, 'the rule ' || rulename || ' is not ours'
FROM pg_rewrite JOIN pg_class ON pg_class.oid = ev_class
WHERE pg_table_is_visible(pg_class.oid)
UNION ALL
SELECT relname, 'it is UNLOGGED or temporary: its rows are lost when the server crashes'
FROM pg_class
WHERE relpersistence <> 'p' AND pg_table_is_visible(oid)
UNION ALL
SELECT relname, 'the table ' || inhrelid::regclass || ' inherits from it: its rows are read as rows of this one'
FROM pg_inherits JOIN pg_class ON pg_class.oid = inhparent
WHERE pg_table_is_visible(pg_class.oid)
"""
"""What PostgreSQL has and does not hold rows to, and what changes what it is told."""

MARIADB = """
SELECT table_name AS `table`, concat('its engine is ', engine, ', not InnoDB') AS problem
FROM information_schema.tables
WHERE table_schema = database() AND engine <> 'InnoDB'
"""

CATALOG = {"postgresql": POSTGRESQL, "mariadb": MARIADB, "mysql": MARIADB}

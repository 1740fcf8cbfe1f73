"""Which tables only grow, and the triggers that refuse every other change of them, on each database.

Called by the migrations that make the triggers and by whoever looks whether they stand. Changes nothing by itself.
"""

from dataclasses import dataclass

from sqlalchemy import Connection, Row, text

from database.columns import MYSQL_FAMILY

KEYS = {
    "balance_log": (("organization_id", "version"), ("payment_id",)),
    "delivery_attempts": (("delivery_id", "number"),),
    "incident_resolutions": (("incident_id", "number"),),
}
"""The tables that only grow, each with its unique columns: a new row must not take the place of an old one."""


@dataclass(frozen=True, kw_only=True)
class Trigger:
    """A trigger by name, and the text of its definition as the database itself gives it back."""

    table: str
    name: str
    definition: str


def triggers(dialect: str) -> list[Trigger]:
    """Return the triggers of all tables that only grow."""
    make = {"sqlite": _sqlite, "postgresql": _postgresql}.get(dialect, _mariadb)
    return [trigger for table in KEYS for trigger in make(table)]


def found(connection: Connection) -> dict[str, str]:
    """Return the definitions of the triggers that stand and fire, by name."""
    dialect = connection.dialect.name
    if dialect in MYSQL_FAMILY:
        query = (
            "SELECT trigger_name, action_timing, event_manipulation, event_object_table, action_statement "
            "FROM information_schema.triggers WHERE trigger_schema = database()"
        )
        return {row[0]: _mariadb_definition(*row) for row in connection.execute(text(query))}
    return {row.name: _plain(row) for row in connection.execute(text(_FOUND[dialect]))}


_FOUND = {
    "sqlite": "SELECT name, sql AS definition FROM sqlite_master WHERE type = 'trigger'",
    # One that is disabled does not fire. The function is what refuses: its text belongs to the definition.
    "postgresql": (
        "SELECT tgname AS name, pg_get_triggerdef(pg_trigger.oid, true) || ' ' || prosrc AS definition "
        "FROM pg_trigger JOIN pg_proc ON pg_proc.oid = tgfoid JOIN pg_class ON pg_class.oid = tgrelid "
        "WHERE NOT tgisinternal AND tgenabled IN ('O', 'A') AND pg_table_is_visible(pg_class.oid)"
    ),
}


def _plain(row: Row[tuple[str, str]]) -> str:
    return " ".join(row.definition.split())


def _sqlite(table: str) -> list[Trigger]:
    refusal = f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
    # INSERT OR REPLACE deletes what stands in its way without asking the other triggers, by any key and by the number
    # that SQLite gives each row.
    keys = " OR ".join(
        ["rowid = NEW.rowid"]
        + [f"({', '.join(key)}) = ({', '.join(f'NEW.{column}' for column in key)})" for key in KEYS[table]]
    )
    replaces = f"EXISTS (SELECT 1 FROM {table} WHERE {keys})"  # noqa: S608 - names of ours
    definitions = {
        f"{table}_no_update": f"BEFORE UPDATE ON {table} {refusal}",
        f"{table}_no_delete": f"BEFORE DELETE ON {table} {refusal}",
        f"{table}_no_replace": f"BEFORE INSERT ON {table} WHEN {replaces} {refusal}",
    }
    return [
        Trigger(table=table, name=name, definition=f"CREATE TRIGGER {name} {definition}")
        for name, definition in definitions.items()
    ]


def _mariadb(table: str) -> list[Trigger]:
    refusal = f"SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = '{table} is append-only'"
    return [
        Trigger(table=table, name=name, definition=_mariadb_definition(name, "BEFORE", event, table, refusal))
        for event in ("UPDATE", "DELETE")
        if (name := f"{table}_no_{event.lower()}")
    ]


def _mariadb_definition(name: str, timing: str, event: str, table: str, statement: str) -> str:
    return f"CREATE TRIGGER {name} {timing} {event} ON {table} FOR EACH ROW {statement}"


def _postgresql(table: str) -> list[Trigger]:
    refusal = f"EXECUTE FUNCTION refuse_change_of_{table}() BEGIN RAISE EXCEPTION '{table} is append-only'; END"
    definitions = {
        f"{table}_no_change": f"BEFORE DELETE OR UPDATE ON {table} FOR EACH ROW {refusal}",
        f"{table}_no_truncate": f"BEFORE TRUNCATE ON {table} FOR EACH STATEMENT {refusal}",
    }
    return [
        Trigger(table=table, name=name, definition=f"CREATE TRIGGER {name} {definition}")
        for name, definition in definitions.items()
    ]

"""Which tables only grow, which rows stay, and the triggers that refuse every other change of them, on each database.

Called by the migrations that make the triggers and by whoever looks whether they stand. Changes nothing by itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, Row, text

from database.columns import MYSQL_FAMILY

Unique = tuple[tuple[str, ...], ...]
Keys = Mapping[str, Unique]
"""Unique columns, by table."""

KEYS: Keys = {
    "balance_log": (("organization_id", "version"), ("payment_id",), ("debit_id",)),
    "transfers": (("number",), ("operation_id",)),
    "overdraft_limits": (("organization_id", "number"),),
    "delivery_attempts": (("delivery_id", "number"),),
    "incident_resolutions": (("incident_id", "number"),),
}
"""The tables that only grow, each with its unique columns: a new row must not take the place of an old one."""

PARTS = {
    "delivery_attempts": ("deliveries", "delivery_id"),
    "incident_resolutions": ("incidents", "incident_id"),
}
"""Those of them whose rows are parts of a row of another table: they may go together with it, and never without."""

STAYS = {
    "deliveries": "OLD.due_at IS NOT NULL OR OLD.lease IS NOT NULL OR OLD.status = 'pending'",
    "incidents": "OLD.resolved_at IS NULL OR substr(OLD.resolution, 1, 12) = 'assigned to '",
}
"""The rows that cannot be deleted: what is still to be done, and what explains to whom money was credited."""


@dataclass(frozen=True, kw_only=True)
class Trigger:
    """A trigger by name, what makes it, and the text of its definition as the database itself gives it back."""

    table: str
    name: str
    statement: str
    definition: str


def triggers(dialect: str, keys: Keys = KEYS) -> list[Trigger]:
    """Return the triggers of all these tables, or of those that an older version had."""
    grow, stay = {"sqlite": (_sqlite, _sqlite_stay), "postgresql": (_postgresql, _postgresql_stay)}.get(
        dialect, (_mariadb, _mariadb_stay)
    )
    return [trigger for table in keys for trigger in grow(table, keys[table])] + [stay(table) for table in STAYS]


def functions(dialect: str, keys: Keys = KEYS) -> dict[str, str]:
    """Return what makes PostgreSQL's functions that refuse, by name; on the others triggers refuse by themselves."""
    if dialect != "postgresql":
        return {}
    bodies = {f"refuse_change_of_{table}": _change_body(table) for table in keys}
    bodies |= {f"refuse_deletion_of_{table}": _deletion_body(table) for table in STAYS}
    return {
        name: f"CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ {body} $$"
        for name, body in bodies.items()
    }


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
    # SQLite puts names into quotation marks when a table is renamed.
    return " ".join(row.definition.replace('"', "").split())


def _sqlite(table: str, unique: Unique) -> list[Trigger]:
    refusal = f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
    # INSERT OR REPLACE deletes what stands in its way without asking the other triggers, by any key and by the number
    # that SQLite gives each row.
    taken = " OR ".join(
        ["rowid = NEW.rowid"]
        + [f"({', '.join(key)}) = ({', '.join(f'NEW.{column}' for column in key)})" for key in unique]
    )
    replaces = f"EXISTS (SELECT 1 FROM {table} WHERE {taken})"  # noqa: S608 - names of ours
    alone = ""
    if table in PARTS:
        whole, column = PARTS[table]
        # A cascade comes here when the whole is gone already.
        alone = f"WHEN EXISTS (SELECT 1 FROM {whole} WHERE id = OLD.{column}) "  # noqa: S608 - names of ours
    return [
        _sqlite_trigger(table, f"{table}_no_update", f"BEFORE UPDATE ON {table} {refusal}"),
        _sqlite_trigger(table, f"{table}_no_delete", f"BEFORE DELETE ON {table} {alone}{refusal}"),
        _sqlite_trigger(table, f"{table}_no_replace", f"BEFORE INSERT ON {table} WHEN {replaces} {refusal}"),
    ]


def _sqlite_stay(table: str) -> Trigger:
    refusal = f"BEGIN SELECT RAISE(ABORT, '{_why(table)}'); END"
    return _sqlite_trigger(table, f"{table}_no_delete", f"BEFORE DELETE ON {table} WHEN {STAYS[table]} {refusal}")


def _sqlite_trigger(table: str, name: str, rest: str) -> Trigger:
    statement = f"CREATE TRIGGER {name} {rest}"
    return Trigger(table=table, name=name, statement=statement, definition=statement)


def _mariadb(table: str, _unique: Unique) -> list[Trigger]:
    # A cascade passes the triggers of MariaDB by.
    refusal = f"SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = '{table} is append-only'"
    return [_mariadb_trigger(table, event, refusal) for event in ("UPDATE", "DELETE")]


def _mariadb_stay(table: str) -> Trigger:
    refusal = f"SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = '{_why(table)}'"
    return _mariadb_trigger(table, "DELETE", f"IF {STAYS[table]} THEN {refusal}; END IF")


def _mariadb_trigger(table: str, event: str, refusal: str) -> Trigger:
    name = f"{table}_no_{event.lower()}"
    statement = _mariadb_definition(name, "BEFORE", event, table, refusal)
    return Trigger(table=table, name=name, statement=statement, definition=statement)


def _mariadb_definition(name: str, timing: str, event: str, table: str, statement: str) -> str:
    return f"CREATE TRIGGER {name} {timing} {event} ON {table} FOR EACH ROW {statement}"


def _postgresql(table: str, _unique: Unique) -> list[Trigger]:
    function, body = f"EXECUTE FUNCTION refuse_change_of_{table}()", _change_body(table)
    return [
        _postgresql_trigger(
            table, f"{table}_no_change", f"BEFORE DELETE OR UPDATE ON {table} FOR EACH ROW {function}", body
        ),
        _postgresql_trigger(
            table, f"{table}_no_truncate", f"BEFORE TRUNCATE ON {table} FOR EACH STATEMENT {function}", body
        ),
    ]


def _postgresql_stay(table: str) -> Trigger:
    rest = f"BEFORE DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION refuse_deletion_of_{table}()"
    return _postgresql_trigger(table, f"{table}_no_delete", rest, _deletion_body(table))


def _postgresql_trigger(table: str, name: str, rest: str, body: str) -> Trigger:
    statement = f"CREATE TRIGGER {name} {rest}"
    return Trigger(table=table, name=name, statement=statement, definition=f"{statement} {body}")


def _change_body(table: str) -> str:
    refusal = f"RAISE EXCEPTION '{table} is append-only';"
    if table not in PARTS:
        return f"BEGIN {refusal} END"
    whole, column = PARTS[table]
    # In the schema of the table itself: another one may come before it, with an empty table of the same name.
    query = f"SELECT EXISTS (SELECT 1 FROM %I.{whole} WHERE id = $1)"  # noqa: S608 - names of ours
    return (
        f"DECLARE belongs boolean; BEGIN IF TG_OP = 'DELETE' THEN EXECUTE format('{query}', TG_TABLE_SCHEMA) "
        f"INTO belongs USING OLD.{column}; IF NOT belongs THEN RETURN OLD; END IF; END IF; {refusal} END"
    )


def _deletion_body(table: str) -> str:
    return f"BEGIN IF {STAYS[table]} THEN RAISE EXCEPTION '{_why(table)}'; END IF; RETURN OLD; END"


def _why(table: str) -> str:
    return f"this row of {table} is not finished, or explains money"

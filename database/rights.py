"""Which rights a migration would lack, named before its first statement: half of one stays on MariaDB.

Called by migrations/env.py. Changes nothing.
"""

from collections.abc import Collection

from sqlalchemy import Connection, exc, text

from database.columns import MYSQL_FAMILY

DENIED, BINARY_LOG = 1142, 1419
"""MariaDB's errors for a right that is missing, and for triggers while a binary log is kept."""

NEEDED = {
    "INSERT": "INSERT INTO {absent} VALUES (1)",
    "UPDATE": "UPDATE {absent} SET id = 1",
    "DELETE": "DELETE FROM {absent}",
    "CREATE": "CREATE TABLE {absent}_copy LIKE {absent}",
    "ALTER": "ALTER TABLE {absent} ADD COLUMN id INTEGER",
    "DROP": "DROP TABLE {absent}",
    "INDEX": "CREATE INDEX id ON {absent} (id)",
    "TRIGGER": "CREATE TRIGGER {absent} BEFORE UPDATE ON {absent} FOR EACH ROW SET @kopeck = 1",
}
"""What needs each right, asked of a table that is not there: MariaDB looks at the rights first.

SELECT is missed before, and named, when the version of the tables is read. REFERENCES is granted and never asked for.
"""

OWNED = """
SELECT relname FROM pg_class
WHERE relnamespace = quote_ident(current_schema())::regnamespace AND relkind = 'r' AND relname = ANY (:tables)
    AND NOT pg_has_role(relowner, 'USAGE')
ORDER BY relname
"""


def problem(connection: Connection, tables: Collection[str]) -> str | None:
    """Say which rights are missing and how they are granted, or None; `tables` are those that migrations change."""
    if connection.dialect.name in MYSQL_FAMILY:
        return _problem_of_mariadb(connection)
    if connection.dialect.name == "postgresql":
        return _problem_of_postgresql(connection, tables)
    return None


def _problem_of_mariadb(connection: Connection) -> str | None:
    errors = {right: _error(connection, statement) for right, statement in NEEDED.items()}
    name, user = connection.execute(text("SELECT DATABASE(), CURRENT_USER()")).one()
    missing = [right for right, error in errors.items() if error == DENIED]
    problems = []
    if missing:
        rights = ", ".join(missing)
        problems.append(
            f"the right{'s' * (len(missing) > 1)} {rights}: GRANT {rights} ON `{name}`.* TO {_quoted(user)}"
        )
    if BINARY_LOG in errors.values():
        problems.append(
            "the right to make triggers while a binary log is kept: SET GLOBAL log_bin_trust_function_creators = 1, "
            f"or GRANT SUPER ON *.* TO {_quoted(user)}"
        )
    return f"The database user lacks {'; and '.join(problems)}" if problems else None


def _error(connection: Connection, statement: str) -> int | None:
    try:
        connection.exec_driver_sql(statement.format(absent="kopeck_absent"))
    except exc.DBAPIError as error:
        if error.connection_invalidated:
            raise
        return int(error.orig.args[0]) if error.orig else None
    return None


def _quoted(user: str) -> str:
    return "@".join(f"'{part}'" for part in user.rsplit("@", 1))


def _problem_of_postgresql(connection: Connection, tables: Collection[str]) -> str | None:
    user, schema, may_create, may_program = connection.execute(
        text(
            "SELECT current_user, current_schema(), has_schema_privilege(current_schema(), 'CREATE'), "
            "has_language_privilege('plpgsql', 'USAGE')"
        )
    ).one()
    # The path ends in the schema of temporary tables, where none of ours may come to be.
    if schema is None or schema.startswith("pg_temp"):
        return "The search_path of the database user names no schema that is there and may be used"
    if not may_create:
        return f'The database user lacks the right to make tables: GRANT USAGE, CREATE ON SCHEMA "{schema}" TO "{user}"'
    if not may_program:
        return f'The database user lacks the right to make triggers: GRANT USAGE ON LANGUAGE plpgsql TO "{user}"'
    others = connection.scalars(text(OWNED), {"tables": list(tables)}).all()
    if others:
        return f"The database user {user} does not own {', '.join(others)}. Migrate as the user who does"
    return None

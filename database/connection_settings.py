"""What each connection asks of its server: the limits, and what our statements and values take for granted.

Used by database.engine. The defaults of a server, a database or a user may be anything; a session may set all of these.
"""

from typing import Any

from sqlalchemy.engine import Connection

from limits import LOCK_SECONDS, STATEMENT_SECONDS

POOLED = "kopeck_pooled"
"""Noted beside a connection that leads to a pooler: each transaction may run on another connection of the server."""

POSTGRESQL = {
    "lock_timeout": f"'{LOCK_SECONDS}s'",
    "idle_in_transaction_session_timeout": f"'{STATEMENT_SECONDS}s'",
    # What is answered with a 2xx is on disk; a server that also waits for a standby goes on doing so.
    "synchronous_commit": "replace(current_setting('synchronous_commit'), 'off', 'on')",
    "default_transaction_isolation": "'read committed'",
    # Temporary tables would come first, also those that another client of a pooler has left: they come last.
    "search_path": "concat_ws(', ', nullif(current_setting('search_path'), ''), 'pg_temp')",
    "datestyle": "'ISO, YMD'",
    "timezone": "'UTC'",
    "standard_conforming_strings": "'on'",
    "transform_null_equals": "'off'",
    # A column of values goes there as an array, in which NULL would otherwise be the four letters.
    "array_nulls": "'on'",
    # A policy that hides rows from us is then an error; otherwise there would be fewer rows.
    "row_security": "'off'",
    # The catalog is compared with what our migrations have made.
    "quote_all_identifiers": "'off'",
}
"""Settings of PostgreSQL, each with an expression for its value."""

MARIADB = {
    "sql_mode": "'TRADITIONAL'",
    "time_zone": "'+00:00'",
    "innodb_lock_wait_timeout": str(LOCK_SECONDS),
    # Idle ones are ended by the server: one that fell silent in mid-transaction would keep its locks for hours.
    "wait_timeout": str(STATEMENT_SECONDS),
    "foreign_key_checks": "1",
    "unique_checks": "1",
    "innodb_strict_mode": "1",
    "completion_type": "'NO_CHAIN'",
    "sql_auto_is_null": "0",
    "sql_safe_updates": "0",
    "sql_big_selects": "1",
    "sql_select_limit": "18446744073709551615",
    "sql_quote_show_create": "1",
}
"""Settings of MariaDB and MySQL."""

MARIADB_ONLY = {
    "check_constraint_checks": "1",
    # The driver waits STATEMENT_SECONDS for each part of an answer; an export may take longer as a whole.
    "max_statement_time": "0",
}


class PostgresqlSettings:
    """Has each connection of one engine ask for POSTGRESQL, and for a time that a statement may take."""

    def __init__(self, statement_seconds: int) -> None:
        asked = {**POSTGRESQL, "statement_timeout": f"'{statement_seconds}s'"}
        self._for_session = _set(asked, only_here="pg_backend_pid() <> %(pid)s")
        self._for_transaction = _set(asked, only_here="true")

    def ask(self, connection: Any, record: Any) -> None:
        """Ask on a new connection, for good; behind a pooler find that out, and leave its connections as they are.

        PgBouncer names another process than the one that answers. What a session sets would reach others there, or
        get lost, and a prepared statement likewise.
        """
        try:
            connection.autocommit = True
            process = {"pid": connection.info.backend_pid}
            (is_direct, *_) = connection.execute(self._for_session, process, prepare=False).fetchone()
            connection.autocommit = False
        except Exception:
            connection.close()
            raise
        if not is_direct:
            record.info[POOLED] = True
            connection.prepare_threshold = None

    def ask_again(self, connection: Connection) -> None:
        """Ask at the beginning of a transaction, for this one alone, if a pooler decides where it runs."""
        if POOLED in connection.info:
            connection.exec_driver_sql(self._for_transaction)


def mariadb_command() -> str:
    """Return the statement with which each connection to MariaDB or MySQL begins."""
    return f"SET SESSION {_listed(MARIADB)} /*M!, {_listed(MARIADB_ONLY)} */"


def _set(asked: dict[str, str], *, only_here: str) -> str:
    """Return a statement that sets everything, for this transaction only where a condition says so."""
    settings = ", ".join(f"set_config('{name}', {value}, {only_here})" for name, value in asked.items())
    return f"SELECT NOT ({only_here}), {settings}"


def _listed(asked: dict[str, str]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in asked.items())

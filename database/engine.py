"""How connections to three databases are set up so that they behave alike.

Called by database.extension, and by whoever makes an engine without Flask. Knows no table.
"""

import select as sockets
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

from psycopg.types.array import ListBinaryDumper
from sqlalchemy import URL, NullPool, create_engine, event, exc
from sqlalchemy.engine import Connection, Engine

from database.columns import MYSQL_FAMILY
from database.connection_settings import PostgresqlSettings, mariadb_command
from database.session import WRITES
from limits import CONNECT_SECONDS, LOCK_SECONDS, POOL_CONNECTIONS, POOL_SECONDS, STATEMENT_SECONDS

SQLITE_PAUSE_SECONDS = 0.0003
"""How long to wait before asking again whether another process has let go of the file."""

ISOLATION = "READ COMMITTED"
"""Every decision is made on rows that are locked or by a unique constraint, so this is enough on the two servers.

MariaDB's default would read old balances and lock gaps.
"""


LOCK_WAIT = "kopeck_lock_wait"
"""The execution option with a LockWait, for a connection that waits for SQLite's write lock in its own way."""


@dataclass(frozen=True, kw_only=True)
class LockWait:
    """How a connection waits for SQLite's write lock."""

    seconds: float
    pause_seconds: float = SQLITE_PAUSE_SECONDS
    say: Callable[[], None] = lambda: None
    """Called once, if it must wait at all."""

    error: type[Exception] | None = None
    """What is raised in place of SQLite's own error when the time is over."""


USUAL_WAIT = LockWait(seconds=LOCK_SECONDS)


def engine_options(url: URL) -> dict[str, Any]:
    """Return what create_engine() is given for a database of this family."""
    family = url.get_backend_name()
    if family == "sqlite":
        own = {"connect_args": {"timeout": LOCK_SECONDS}}
    elif family in MYSQL_FAMILY:
        own = _mariadb_options()
    else:
        own = _postgresql_options()
    return {
        # A log line about a failed statement must not carry what a bank sent.
        "hide_parameters": True,
        "pool_size": POOL_CONNECTIONS,
        "max_overflow": 0,
        "pool_timeout": POOL_SECONDS,
        **own,
    }


def migration_engine(url: URL) -> Engine:
    """Make an engine for migrations: a statement may take as long as a large table needs, a lock as long as ever."""
    options = {name: value for name, value in engine_options(url).items() if not name.startswith(("pool_", "max_"))}
    arguments = options["connect_args"]
    for name in ("read_timeout", "write_timeout"):
        arguments.pop(name, None)
    engine = create_engine(url, poolclass=NullPool, **options)
    prepare(engine, statement_seconds=0)
    if engine.dialect.name == "sqlite":
        # A table to which others refer is made anew by taking it away first.
        event.listen(engine, "connect", lambda connection, _record: connection.execute("PRAGMA foreign_keys = OFF"))
    return engine


def prepare(engine: Engine, *, statement_seconds: int = STATEMENT_SECONDS) -> None:
    """Have each connection of an engine set up as the guarantees ask for.

    A statement may take `statement_seconds` on PostgreSQL, or for ever if that is 0.
    """
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    elif engine.dialect.name == "postgresql":
        settings = PostgresqlSettings(statement_seconds)
        # Before SQLAlchemy itself asks for anything: it remembers some of what it finds.
        event.listen(engine, "connect", settings.ask, insert=True)
        event.listen(engine, "begin", settings.ask_again)
        event.listen(engine, "connect", _prefer_binary_arrays)
        event.listen(engine, "checkout", _refuse_dead)


def _prefer_binary_arrays(connection: Any, _record: object) -> None:
    """Send arrays in PostgreSQL's binary format: as text each value would be searched for signs to be escaped."""
    connection.adapters.register_dumper(list, ListBinaryDumper)


def _refuse_dead(connection: Any, _record: object, _proxy: object) -> None:
    """Tell the pool that a connection was closed by the server, without asking the server.

    PostgreSQL has nothing to say to a connection that is idle, except that it ends.
    """
    if sockets.select([connection.fileno()], [], [], 0)[0]:
        raise exc.DisconnectionError("the server closed this connection")


def _prepare_sqlite(connection: Any, _record: object) -> None:
    # The driver's own BEGIN would come too late to stop two readers from both writing; ours is below.
    connection.isolation_level = None
    for pragma in (
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = ON",
        # Without it INSERT OR REPLACE would get past the triggers that keep the log append-only.
        "recursive_triggers = ON",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    options = connection.get_execution_options()
    if not options.get(WRITES):
        connection.exec_driver_sql("BEGIN")
        return
    # The driver would wait inside of SQLite, where it stops everything else in a process that serves with greenlets.
    connection.exec_driver_sql("PRAGMA busy_timeout = 0")
    try:
        _begin_writing(connection, options.get(LOCK_WAIT) or USUAL_WAIT)
    finally:
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {LOCK_SECONDS * 1000}")


def _begin_writing(connection: Connection, wait: LockWait) -> None:
    ends_at = time.monotonic() + wait.seconds
    for attempt in count():
        try:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            return
        except exc.OperationalError as error:
            # The low byte: in the others SQLite says what it is busy with.
            busy = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY
            if busy and wait.error and time.monotonic() > ends_at:
                raise wait.error from error
            if not busy or time.monotonic() > ends_at:
                raise
        if attempt == 0:
            wait.say()
        time.sleep(wait.pause_seconds)


def _postgresql_options() -> dict[str, Any]:
    return {
        # Its connections are looked at for nothing: see _refuse_dead.
        "pool_pre_ping": False,
        "isolation_level": ISOLATION,
        "connect_args": {
            "connect_timeout": CONNECT_SECONDS,
            "client_encoding": "utf8",
            # A server that vanished without a word is noticed by what the network no longer confirms.
            "tcp_user_timeout": STATEMENT_SECONDS * 1000,
            "keepalives_idle": STATEMENT_SECONDS // 3,
            "keepalives_interval": STATEMENT_SECONDS // 3,
            "keepalives_count": 2,
        },
    }


def _mariadb_options() -> dict[str, Any]:
    return {
        "pool_pre_ping": True,
        "isolation_level": ISOLATION,
        "connect_args": {
            "init_command": mariadb_command(),
            "charset": "utf8mb4",
            "connect_timeout": CONNECT_SECONDS,
            "read_timeout": STATEMENT_SECONDS,
            "write_timeout": STATEMENT_SECONDS,
        },
    }

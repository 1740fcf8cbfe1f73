"""How connections to three databases are set up so that they behave alike.

Called by database.extension, and by whoever makes an engine without Flask. Knows no table.
"""

import select as sockets
import sqlite3
import stat
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from psycopg.types.array import ListBinaryDumper
from sqlalchemy import URL, NullPool, create_engine, event, exc
from sqlalchemy.engine import Connection, Engine

from config import end_if
from database.columns import MYSQL_FAMILY
from database.session import WRITES
from limits import CONNECT_SECONDS, LOCK_SECONDS, POOL_CONNECTIONS, POOL_SECONDS, STATEMENT_SECONDS

SQLITE_PAUSE_SECONDS = 0.0003
"""How long to wait before asking again whether another process has let go of the file."""

ISOLATION = "READ COMMITTED"
"""Every decision is made on rows that are locked or by a unique constraint, so this is enough on the two servers.

MariaDB's default would read old balances and lock gaps.
"""


def engine_options(url: URL) -> dict[str, Any]:
    """Return what create_engine() is given for a database of this family."""
    family = url.get_backend_name()
    if family == "sqlite":
        own = {"connect_args": {"timeout": LOCK_SECONDS}}
    elif family in MYSQL_FAMILY:
        own = _mariadb_options()
    else:
        own = _postgresql_options(url)
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
    if "options" in arguments:
        arguments["options"] += " -c statement_timeout=0"
    engine = create_engine(url, poolclass=NullPool, **options)
    prepare(engine)
    return engine


def make_file(url: URL) -> None:
    """Make a SQLite file that only its owner reads, and its folder, or end the process and say why that is impossible.

    One that is there already loses what others may, and what its group may unless somebody let the group write.
    """
    if url.get_backend_name() != "sqlite" or not url.database:
        return
    file = Path(url.database)
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not file.exists():
            file.touch(mode=0o600)
    except OSError as error:
        end_if([f"DATABASE_URL names {file}, which cannot be made or opened: {error.strerror}"])
    for suffix in ("", "-wal", "-shm"):
        _close_to_others(file.with_name(file.name + suffix))


def _close_to_others(file: Path) -> None:
    # One that is gone or belongs to somebody else stays as it is.
    with suppress(OSError):
        mode = stat.S_IMODE(file.stat().st_mode)
        kept = mode & (0o770 if mode & stat.S_IWGRP else 0o700)
        if kept != mode:
            file.chmod(kept)


def prepare(engine: Engine) -> None:
    """Have each connection of an engine set up as the guarantees ask for."""
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    elif engine.dialect.name == "postgresql":
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
    if not connection.get_execution_options().get(WRITES):
        connection.exec_driver_sql("BEGIN")
        return
    # The driver would wait inside of SQLite, where it stops everything else in a process that serves with greenlets.
    connection.exec_driver_sql("PRAGMA busy_timeout = 0")
    try:
        _begin_writing(connection, ends_at=time.monotonic() + LOCK_SECONDS)
    finally:
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {LOCK_SECONDS * 1000}")


def _begin_writing(connection: Connection, *, ends_at: float) -> None:
    while True:
        try:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            return
        except exc.OperationalError as error:
            # The low byte: in the others SQLite says what it is busy with.
            busy = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() > ends_at:
                raise
        time.sleep(SQLITE_PAUSE_SECONDS)


def _postgresql_options(url: URL) -> dict[str, Any]:
    limits = (
        f"-c lock_timeout={LOCK_SECONDS}s -c statement_timeout={STATEMENT_SECONDS}s "
        f"-c idle_in_transaction_session_timeout={STATEMENT_SECONDS}s"
    )
    asked = url.query.get("options", "")
    return {
        # Its connections are looked at for nothing: see _refuse_dead.
        "pool_pre_ping": False,
        "isolation_level": ISOLATION,
        "connect_args": {
            "connect_timeout": CONNECT_SECONDS,
            "options": f"{limits} {asked}".strip(),
            # A server that vanished without a word is noticed by what the network no longer confirms.
            "tcp_user_timeout": STATEMENT_SECONDS * 1000,
            "keepalives_idle": STATEMENT_SECONDS // 3,
            "keepalives_interval": STATEMENT_SECONDS // 3,
            "keepalives_count": 2,
        },
    }


def _mariadb_options() -> dict[str, Any]:
    # Idle ones are ended by the server: one that fell silent in mid-transaction would keep its locks for hours.
    session = (
        f"sql_mode='TRADITIONAL', time_zone='+00:00', innodb_lock_wait_timeout={LOCK_SECONDS}, "
        f"wait_timeout={STATEMENT_SECONDS}"
    )
    return {
        "pool_pre_ping": True,
        "isolation_level": ISOLATION,
        "connect_args": {
            "init_command": f"SET SESSION {session}",
            "connect_timeout": CONNECT_SECONDS,
            "read_timeout": STATEMENT_SECONDS,
            "write_timeout": STATEMENT_SECONDS,
        },
    }

"""How three databases are made to behave alike: connections, column types, transaction(), snapshot().

Called by models, the ledger and the use cases. Knows no table and decides nothing about money.
"""

import os
import random
import secrets
import select as sockets
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache, wraps
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from psycopg.types.array import ListBinaryDumper
from sqlalchemy import (
    URL,
    ColumnElement,
    DateTime,
    Dialect,
    Insert,
    MetaData,
    Row,
    Select,
    String,
    Table,
    TableValuedAlias,
    TypeDecorator,
    Update,
    Uuid,
    any_,
    bindparam,
    event,
    exc,
    func,
    select,
    text,
    update,
)
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.engine import Connection, CursorResult, Engine, Result
from sqlalchemy.orm import DeclarativeBase, Session

from config import end_if
from errors import TryAgain
from limits import (
    CONNECT_SECONDS,
    DEADLOCK_PAUSE_SECONDS,
    DEADLOCK_TRIES_MAX,
    LOCK_SECONDS,
    POOL_CONNECTIONS,
    POOL_SECONDS,
    STATEMENT_SECONDS,
)

DEADLOCK_STATES = ("40P01", "40001")
"""The SQLSTATE of a deadlock, on PostgreSQL and on MariaDB."""

LOCK_TIMEOUT_STATE = "55P03"
LOCK_TIMEOUT_ERROR = 1205
"""How PostgreSQL (its SQLSTATE) and MariaDB (its own number) call a lock that was waited for in vain."""

MYSQL_FAMILY = ("mysql", "mariadb")

WRITES = "kopeck_writes"
"""The execution option by which transaction() tells SQLite to take the write lock at once."""

SQLITE_PAUSE_SECONDS = 0.0003
"""How long to wait before asking again whether another process has let go of the file."""

UseCase = TypeVar("UseCase", bound=Callable[..., Any])

AnyRow = Row[*tuple[Any, ...]]
"""A row of whatever columns were selected."""


class Base(DeclarativeBase):
    """The typed base of every table; constraints have predictable names so that migrations can speak of them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


db = SQLAlchemy(model_class=Base)
if TYPE_CHECKING:
    Model = Base
else:  # Flask-SQLAlchemy makes the class at run time, where a type checker cannot follow.
    Model = db.Model


class UtcDateTime(TypeDecorator[datetime]):
    """A moment in microseconds that goes in aware and comes back aware, in UTC, from every database."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> Any:
        """Choose the column type that keeps microseconds."""
        if dialect.name == "postgresql":
            return dialect.type_descriptor(DateTime(timezone=True))
        if dialect.name in MYSQL_FAMILY:
            return dialect.type_descriptor(mysql.DATETIME(fsp=6))
        return dialect.type_descriptor(DateTime())

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse naive times; hand over UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a naive time cannot be stored")
        moment = value.astimezone(UTC)
        return moment if dialect.name == "postgresql" else moment.replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give the time back aware, in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def uuid_type() -> Uuid[UUID]:
    """Return a UUID column: native on PostgreSQL, elsewhere 32 hex digits, which sort as UUIDs do."""
    return Uuid(native_uuid=False).with_variant(postgresql.UUID(), "postgresql")


def new_id(now: datetime) -> UUID:
    """Return a fresh UUIDv7 (RFC 9562): milliseconds first, so that ids sort by time."""
    milliseconds = int(now.timestamp() * 1000)
    return UUID(int=milliseconds << 80 | 0x7 << 76 | secrets.randbits(12) << 64 | 0b10 << 62 | secrets.randbits(62))


def init_app(app: Flask, url: URL) -> None:
    """Attach the database to the app; nothing connects before the first statement."""
    app.config["SQLALCHEMY_DATABASE_URI"] = url
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = _engine_options(url)
    if url.get_backend_name() == "sqlite" and url.database:
        _make_folder(os.path.dirname(url.database))
    db.init_app(app)
    with app.app_context():
        _prepare(db.engine)


def _make_folder(folder: str) -> None:
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        end_if([f"DATABASE_URL names a file in {folder}, which cannot be made: {error.strerror}"])


@contextmanager
def transaction() -> Iterator[Session]:
    """Open the one transaction of a use case: commit at the end, roll back on any exception, refuse to nest."""
    session = db.session()
    if session.info.get(WRITES):
        raise RuntimeError("transaction() was opened inside another one; only a use case opens one")
    # Whatever the request has read so far was read without a lock: start anew.
    session.rollback()
    session.info[WRITES] = True
    try:
        session.connection(execution_options={WRITES: True})
        yield session
        session.commit()
    except BaseException:
        session.rollback()
        raise
    finally:
        del session.info[WRITES]


def survives_deadlock(use_case: UseCase) -> UseCase:
    """Run a use case again, a few times, when its transaction lost a deadlock or had to give in to another.

    The order of locks leaves PostgreSQL none; MariaDB's unique indexes make waiters of one key lock each other out
    when the first of them rolls back. Everything was rolled back, so running again is safe.
    """

    @wraps(use_case)
    def persistent(*args: Any, **kwargs: Any) -> Any:
        for attempt in range(1, DEADLOCK_TRIES_MAX):
            try:
                return use_case(*args, **kwargs)
            except (exc.OperationalError, TryAgain) as error:
                if isinstance(error, exc.OperationalError) and not _is_deadlock(error):
                    raise
                time.sleep(random.uniform(0, attempt * DEADLOCK_PAUSE_SECONDS))  # noqa: S311 - not a secret
        return use_case(*args, **kwargs)

    return persistent  # type: ignore[return-value]


@contextmanager
def snapshot() -> Iterator[Session]:
    """Open a read-only view in which every statement sees the database as of the first one."""
    session = db.session()
    if session.info.get(WRITES):
        raise RuntimeError("snapshot() was opened inside transaction(), whose work it would throw away")
    session.rollback()
    # SQLite's plain BEGIN reads from one snapshot until its end, in WAL mode, without hindering writers.
    level = {} if db.engine.dialect.name == "sqlite" else {"isolation_level": "REPEATABLE READ"}
    try:
        session.connection(execution_options=level)
        if db.engine.dialect.name == "postgresql":
            session.execute(text("SET LOCAL statement_timeout = 0"))
            session.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        yield session
    finally:
        session.rollback()


def look_up(query: Select[Any]) -> Sequence[AnyRow]:
    """Return the rows of one query that needs no transaction around it: on PostgreSQL one round trip and not three."""
    options = {"isolation_level": "AUTOCOMMIT"} if db.engine.dialect.name == "postgresql" else {}
    with db.engine.connect() as connection:
        return connection.execution_options(**options).execute(query).all()


def table_of(model: type[Base]) -> Table:
    """Return the table behind a model."""
    table = model.__table__
    assert isinstance(table, Table)
    return table


def inserted_id(result: Result[*tuple[Any, ...]]) -> int:
    """Return the number that the database gave to the one row of an INSERT."""
    assert isinstance(result, CursorResult)
    assert result.inserted_primary_key is not None
    return int(result.inserted_primary_key[0])


def affected(result: Result[*tuple[Any, ...]]) -> int:
    """Return how many rows an UPDATE found."""
    assert isinstance(result, CursorResult)
    return result.rowcount


def insert(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows, which all have the same columns, in one round trip."""
    _insert(connection, table, rows, passing_over=())


def insert_absent(
    connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]], *, unique: str | tuple[str, ...]
) -> int | None:
    """Insert rows in one round trip, passing over those whose `unique` columns are taken; other errors stay errors.

    Returns how many were inserted, or None on MariaDB, which cannot tell. MariaDB passes over any unique key that is
    taken; the other one here is an id that was just made.
    """
    inserted = _insert(connection, table, rows, passing_over=(unique,) if isinstance(unique, str) else unique)
    return None if connection.dialect.name in MYSQL_FAMILY else inserted


def among(column: ColumnElement[Any], name: str, dialect: str) -> ColumnElement[bool]:
    """Compare a column with a list that is handed over as the parameter `name`, of any length in the same words.

    PostgreSQL gets the list as one array, so that a statement is planned once and not for each length.
    """
    if dialect == "postgresql":
        return column == any_(bindparam(name, type_=_array_of(column)))
    return column.in_(bindparam(name, expanding=True))


def _array_of(column: ColumnElement[Any]) -> postgresql.ARRAY[Any]:
    """Return the type of an array of a column's values; text without its length, to which a cast would cut it."""
    return postgresql.ARRAY(String() if isinstance(column.type, String) else column.type)


def _insert(
    connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]], *, passing_over: tuple[str, ...]
) -> int:
    dialect, columns = connection.dialect.name, tuple(rows[0])
    statement = _insert_statement(dialect, table, columns, passing_over)
    if dialect == "postgresql":
        return affected(connection.execute(statement, _arrays(rows, columns)))
    return affected(connection.execute(statement, rows))


@cache
def _insert_statement(dialect: str, table: Table, columns: tuple[str, ...], passing_over: tuple[str, ...]) -> Insert:
    """Build an INSERT of many rows that tells how many; on PostgreSQL each column is one array, elsewhere rows are."""
    statement: mysql.Insert | postgresql.Insert | sqlite.Insert
    if dialect in MYSQL_FAMILY:
        statement = mysql.insert(table)
        if passing_over:
            # Not INSERT IGNORE: that would also swallow values that are cut off or missing.
            statement = statement.on_duplicate_key_update({passing_over[0]: table.c[passing_over[0]]})
    elif dialect == "postgresql":
        statement = postgresql.insert(table).from_select(columns, select(_given(table, columns)))
        if passing_over:
            statement = statement.on_conflict_do_nothing(index_elements=list(passing_over))
    else:
        statement = sqlite.insert(table)
        if passing_over:
            statement = statement.on_conflict_do_nothing(index_elements=list(passing_over))
    return statement.execution_options(preserve_rowcount=True)


def update_each(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Update each row that is named by its `id` with the other members, which are the same in all."""
    if not rows:
        return
    dialect, columns = connection.dialect.name, tuple(rows[0])
    statement = _update_statement(dialect, table, columns)
    if dialect == "postgresql":
        connection.execute(statement, _arrays(rows, columns))
    else:
        connection.execute(statement, [{f"its_{column}": row[column] for column in columns} for row in rows])


@cache
def _update_statement(dialect: str, table: Table, columns: tuple[str, ...]) -> Update:
    """Build an UPDATE of many rows; on PostgreSQL each column is one array, elsewhere rows follow each other."""
    changed = [column for column in columns if column != "id"]
    if dialect == "postgresql":
        given = _given(table, columns)
        return update(table).where(table.c.id == given.c.id).values({column: given.c[column] for column in changed})
    values: dict[str, Any] = {column: bindparam(f"its_{column}") for column in changed}
    return update(table).where(table.c.id == bindparam("its_id")).values(values)


def _given(table: Table, columns: tuple[str, ...]) -> TableValuedAlias:
    """Return PostgreSQL's table of the values that are handed over as one array for each column."""
    arrays = (bindparam(f"its_{column}", type_=_array_of(table.c[column])) for column in columns)
    return func.unnest(*arrays).table_valued(*columns).render_derived()


def _arrays(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> dict[str, list[Any]]:
    return {f"its_{column}": [row[column] for row in rows] for column in columns}


def is_lost_connection(error: Exception) -> bool:
    """Tell whether the server went away, which leaves open whether a commit that was under way went through."""
    return isinstance(error, exc.DBAPIError) and error.connection_invalidated


def is_contention(error: Exception) -> bool:
    """Tell whether another transaction's locks are what stood in the way: a deadlock, or waiting in vain."""
    if not isinstance(error, exc.OperationalError) or error.orig is None:
        return False
    timed_out = getattr(error.orig, "sqlstate", None) == LOCK_TIMEOUT_STATE or error.orig.args[:1] == (
        LOCK_TIMEOUT_ERROR,
    )
    return timed_out or _is_deadlock(error)


def _is_deadlock(error: exc.OperationalError) -> bool:
    return getattr(error.orig, "sqlstate", None) in DEADLOCK_STATES


def _engine_options(url: URL) -> dict[str, Any]:
    options: dict[str, Any] = {
        # A log line about a failed statement must not carry what a bank sent.
        "hide_parameters": True,
        "pool_size": POOL_CONNECTIONS,
        "max_overflow": 0,
        "pool_timeout": POOL_SECONDS,
    }
    if url.get_backend_name() == "sqlite":
        return {**options, "connect_args": {"timeout": LOCK_SECONDS}}
    # PostgreSQL's connections are looked at for nothing: see _refuse_dead.
    options["pool_pre_ping"] = url.get_backend_name() in MYSQL_FAMILY
    # Every decision is made on rows that are locked or by a unique constraint, so READ COMMITTED is
    # enough; MariaDB's default would read old balances and lock gaps.
    options["isolation_level"] = "READ COMMITTED"
    if url.get_backend_name() in MYSQL_FAMILY:
        # Idle ones are ended by the server: one that fell silent in mid-transaction would keep its locks for hours.
        session = (
            f"sql_mode='TRADITIONAL', time_zone='+00:00', innodb_lock_wait_timeout={LOCK_SECONDS}, "
            f"wait_timeout={STATEMENT_SECONDS}"
        )
        options["connect_args"] = {
            "init_command": f"SET SESSION {session}",
            "connect_timeout": CONNECT_SECONDS,
            "read_timeout": STATEMENT_SECONDS,
            "write_timeout": STATEMENT_SECONDS,
        }
    else:
        limits = (
            f"-c lock_timeout={LOCK_SECONDS}s -c statement_timeout={STATEMENT_SECONDS}s "
            f"-c idle_in_transaction_session_timeout={STATEMENT_SECONDS}s"
        )
        asked = url.query.get("options", "")
        options["connect_args"] = {
            "connect_timeout": CONNECT_SECONDS,
            "options": f"{limits} {asked}".strip(),
            # A server that vanished without a word is noticed by what the network no longer confirms.
            "tcp_user_timeout": STATEMENT_SECONDS * 1000,
            "keepalives_idle": STATEMENT_SECONDS // 3,
            "keepalives_interval": STATEMENT_SECONDS // 3,
            "keepalives_count": 2,
        }
    return options


def _prepare(engine: Engine) -> None:
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

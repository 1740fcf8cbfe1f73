"""One `flask db` at a time: another one waits until the first has ended, and says so.

Used by migrations/env.py. On SQLite the write lock is the lock, so there it may be any program that writes.
"""

from collections.abc import Callable

from sqlalchemy import Connection, exc, func, select

from database.columns import MYSQL_FAMILY
from database.engine import LOCK_WAIT, LockWait
from database.failures import is_contention
from database.session import WRITES
from limits import MIGRATION_WAIT_SECONDS

NAME = "kopeck migrations"
PAUSE_SECONDS = 0.05
"""How long to wait before SQLite is asked again: the other one takes seconds."""


class HeldByAnotherError(Exception):
    """Another one has not ended in MIGRATION_WAIT_SECONDS."""


def prepare(connection: Connection, *, say: Callable[[], None]) -> Connection:
    """Have the first statement on SQLite wait for the write lock as take() waits elsewhere; `say` is called once."""
    wait = LockWait(seconds=MIGRATION_WAIT_SECONDS, pause_seconds=PAUSE_SECONDS, say=say, error=HeldByAnotherError)
    return connection.execution_options(**{WRITES: True, LOCK_WAIT: wait})


def take(connection: Connection, *, say: Callable[[], None]) -> None:
    """Hold the lock until the transaction ends, on MariaDB until the connection does; on SQLite it is held already."""
    if connection.dialect.name == "postgresql":
        _take_on_postgresql(connection, say)
    elif connection.dialect.name in MYSQL_FAMILY:
        _take_on_mariadb(connection, say)


def _take_on_postgresql(connection: Connection, say: Callable[[], None]) -> None:
    key = func.hashtext(NAME)
    if connection.scalar(select(func.pg_try_advisory_xact_lock(key))):
        return
    say()
    usual = connection.scalar(select(func.current_setting("lock_timeout")))
    connection.execute(select(func.set_config("lock_timeout", f"{MIGRATION_WAIT_SECONDS}s", True)))
    try:
        connection.execute(select(func.pg_advisory_xact_lock(key)))
    except exc.OperationalError as error:
        if is_contention(error):
            raise HeldByAnotherError from error
        raise
    connection.execute(select(func.set_config("lock_timeout", usual, True)))


def _take_on_mariadb(connection: Connection, say: Callable[[], None]) -> None:
    # The name is one of the whole server, and as long as it may be.
    name = func.concat(f"{NAME} ", func.left(func.sha2(func.database(), 256), 32))
    if connection.scalar(select(func.get_lock(name, 0))):
        return
    say()
    if not connection.scalar(select(func.get_lock(name, MIGRATION_WAIT_SECONDS))):
        raise HeldByAnotherError

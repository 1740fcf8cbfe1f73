"""What an error of the database means: our fault, somebody else's lock, or a database that is away.

Called by whoever may try again, and by whoever writes the log. Never quotes what a bank sent.
"""

import logging
import traceback

from sqlalchemy import exc

log = logging.getLogger("kopeck")


DEADLOCK_STATES = ("40P01", "40001")
"""The SQLSTATE of a deadlock, on PostgreSQL and on MariaDB."""

LOCK_TIMEOUT_STATE, LOCK_TIMEOUT_ERROR = "55P03", 1205
"""How PostgreSQL (its SQLSTATE) and MariaDB (its own number) call a lock that was waited for in vain."""

NOT_READY_STATES = ("42P01", "42S02", "42501")
"""SQLSTATEs of a table that does not exist (PostgreSQL, MariaDB) or may not be used yet (PostgreSQL)."""

NOT_READY = "its tables are not those of this version, or may not be used; run `flask db upgrade`, or grant the rights"

OUR_FAULT_CLASSES = ("22", "23", "45")
"""Classes of SQLSTATE that speak of a value, of a constraint, or of one of our triggers."""

UNKNOWN_COLUMN_STATE = "42S22"
"""MariaDB's SQLSTATE of a column that does not exist."""


def is_lost_connection(error: Exception) -> bool:
    """Return whether the server went away, which leaves open whether a commit that was under way went through."""
    return isinstance(error, exc.DBAPIError) and error.connection_invalidated


def is_contention(error: Exception) -> bool:
    """Return whether another transaction's locks are what stood in the way: a deadlock, or waiting in vain."""
    if not isinstance(error, exc.OperationalError) or error.orig is None:
        return False
    timed_out = getattr(error.orig, "sqlstate", None) == LOCK_TIMEOUT_STATE or error.orig.args[:1] == (
        LOCK_TIMEOUT_ERROR,
    )
    return timed_out or is_deadlock(error)


def is_deadlock(error: exc.OperationalError) -> bool:
    """Return whether a transaction was ended so that another one could go on."""
    return getattr(error.orig, "sqlstate", None) in DEADLOCK_STATES


def is_unavailable(error: Exception) -> bool:
    """Return whether a database error is one of its state, after which the same may be tried again safely.

    Deadlocks, time-outs, lost connections, a standby that only reads, a damaged file: the drivers agree on no one
    class for these, so all count but those that speak of our statement or our values. TimeoutError is a full pool.
    """
    if not isinstance(error, exc.DBAPIError):
        return isinstance(error, exc.TimeoutError)
    state = str(getattr(error.orig, "sqlstate", None) or "")
    if isinstance(error, exc.ProgrammingError):
        return state in NOT_READY_STATES
    # PyMySQL calls a broken CHECK and an unknown column "operational", too.
    ours = state.startswith(OUR_FAULT_CLASSES) or state == UNKNOWN_COLUMN_STATE
    return not ours and not isinstance(error, exc.IntegrityError | exc.DataError | exc.NotSupportedError)


def log_crash(where: str, error: Exception) -> None:
    """Write what went wrong for a reason of ours, with its stack."""
    if isinstance(error, exc.DBAPIError):
        # Not its message: databases quote the values that they refuse, and with them what a bank sent.
        what = f"{type(error.orig).__name__} {getattr(error.orig, 'sqlstate', '')} in: {error.statement}"
        stack = "".join(traceback.format_tb(error.__traceback__))
        log.error("%s: unexpected database error, %s\n%s", where, what, stack)
    else:
        log.error("%s: unexpected error", where, exc_info=error)


def log_unavailable(where: str, error: Exception) -> None:
    """Write that the database is not available, in one line: it comes again and again for as long as it lasts."""
    cause = getattr(error, "orig", None) or error
    reason = " ".join(str(cause).split())
    if getattr(cause, "sqlstate", None) in NOT_READY_STATES or reason.startswith("no such table"):
        # Its first line, which names a table: behind it PostgreSQL quotes the statement.
        reason = f"{NOT_READY} ({str(cause).splitlines()[0]})"
    log.error("%s: database not available: %s", where, reason)

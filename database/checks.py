"""What a database must be like, and no connection can ask it for.

Looked at by `flask db upgrade`, by `/readyz`, and when gunicorn or a worker starts. Knows no table. Each finding says
what to do.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, Row, text

from database import revisions
from database.columns import MYSQL_FAMILY
from database.failures import is_unavailable, log_crash, log_unavailable
from database.session import current_engine
from limits import CLOCK_DIFFERENCE_SECONDS_MAX

POSTGRESQL = """
SELECT current_setting('server_encoding') AS encoding, current_setting('fsync') AS fsync,
    current_setting('full_page_writes') AS whole_pages, current_setting('session_replication_role') AS role,
    current_setting('transaction_read_only') AS only_reads, clock_timestamp() AS moment
"""
MARIADB = """
SELECT @@innodb_flush_log_at_trx_commit AS flushed, @@innodb_doublewrite AS whole_pages, @@log_bin AS has_binary_log,
    @@sync_binlog AS binary_log_synced, @@read_only AS server_only_reads,
    /*M! @@tx_read_only */ /*!50720 @@transaction_read_only */ AS only_reads, UTC_TIMESTAMP(6) AS moment
"""
"""MySQL 8 has the second of the two names alone, and executes what is behind its version; MariaDB what is behind M."""

log = logging.getLogger("kopeck")

MAY_BE_LOST = "what was acknowledged may be lost when the machine stops."
ONLY_READS = "The database only reads: it is a standby, or set to be read-only. Webhooks are answered 503."


@dataclass(kw_only=True)
class Found:
    """What a look at a database has found."""

    unusable: list[str] = field(default_factory=list)
    """Tables must not be made here: they would be wrong."""

    unsafe: list[str] = field(default_factory=list)
    """Webhooks would be refused, or what was acknowledged may be lost: the server is not ready."""

    warnings: list[str] = field(default_factory=list)
    """What a person should know, and can put right while all goes on."""

    def all(self) -> list[str]:
        """Return every finding, the gravest first."""
        return self.unusable + self.unsafe + self.warnings

    def problem(self) -> str | None:
        """Return the gravest finding that keeps a server from being ready, or None."""
        return next(iter(self.unusable + self.unsafe), None)


def report(*, clock: Callable[[], datetime]) -> None:
    """Write into the log what is found when gunicorn or a worker starts; never raises, since it starts all the same."""
    try:
        for finding in [*look_now(clock=clock).all(), revisions.problem()]:
            if finding is not None:
                log.warning("%s", finding)
    except Exception as error:
        if is_unavailable(error):
            log_unavailable("start", error)
        else:
            log_crash("start", error)


def look_now(*, clock: Callable[[], datetime]) -> Found:
    """Look at the database of whoever asks."""
    with current_engine().connect() as connection:
        return look(connection, clock=clock)


def look(connection: Connection, *, clock: Callable[[], datetime]) -> Found:
    """Look at everything that a connection can read; `clock` is the one of this machine."""
    family = connection.dialect.name
    if family == "sqlite":
        return _look_at_sqlite(connection)
    # The first statement of a transaction may have to wait for a connection; the clocks are read after that.
    connection.execute(text("SELECT 1"))
    before = clock()
    row = connection.execute(text(MARIADB if family in MYSQL_FAMILY else POSTGRESQL)).one()
    after = clock()
    found = _look_at_mariadb(row) if family in MYSQL_FAMILY else _look_at_postgresql(row)
    there = row.moment if row.moment.tzinfo else row.moment.replace(tzinfo=UTC)
    found.warnings += _clock_warnings(there, before, after)
    return found


def _look_at_postgresql(row: Row[tuple[str, ...]]) -> Found:
    found = Found()
    if row.encoding != "UTF8":
        found.unusable.append(
            f"The database's encoding is {row.encoding}, which lacks letters that banks send. Make a new database "
            "with ENCODING 'UTF8' TEMPLATE template0, and move what is there by pg_dump and pg_restore."
        )
    if row.role != "origin":
        found.unusable.append(
            f"session_replication_role is {row.role}: not every trigger and foreign key holds. Set it to origin."
        )
    for name, value in (("fsync", row.fsync), ("full_page_writes", row.whole_pages)):
        if value == "off":
            found.unsafe.append(f"{name} of PostgreSQL is off: {MAY_BE_LOST} Set it to on.")
    if row.only_reads == "on":
        found.unsafe.append(ONLY_READS)
    return found


def _look_at_mariadb(row: Row[tuple[str, ...]]) -> Found:
    found = Found()
    # 3 is 1 with one sync more; MySQL does not have it.
    if row.flushed not in (1, 3):
        found.unsafe.append(f"innodb_flush_log_at_trx_commit of MariaDB is {row.flushed}: {MAY_BE_LOST} Set it to 1.")
    if row.whole_pages in (0, "OFF"):
        found.unsafe.append(f"innodb_doublewrite of MariaDB is off: {MAY_BE_LOST} Set it to ON.")
    # Newer versions of MariaDB have words, of which all but OFF refuse writes.
    if any(value not in (0, "OFF") for value in (row.server_only_reads, row.only_reads)):
        found.unsafe.append(ONLY_READS)
    # The server's default, and a danger only when the power fails.
    if row.has_binary_log and not row.binary_log_synced:
        found.warnings.append(f"sync_binlog of MariaDB is 0, and a binary log is kept: {MAY_BE_LOST} Set it to 1.")
    return found


def _look_at_sqlite(connection: Connection) -> Found:
    mode = connection.exec_driver_sql("PRAGMA journal_mode").scalar_one()
    if mode == "wal":
        return Found()
    return Found(
        warnings=[
            f"SQLite's journal_mode is {mode}, since WAL cannot be used where the file is: readers and writers wait "
            "for each other. Put the file on a disk of this machine."
        ]
    )


def _clock_warnings(there: datetime, before: datetime, after: datetime) -> list[str]:
    """Compare the database's clock with ours, which is between the two moments of the question."""
    difference = max(before - there, there - after)
    if difference <= timedelta(seconds=CLOCK_DIFFERENCE_SECONDS_MAX):
        return []
    direction = "behind" if there < before else "ahead of"
    return [
        f"The database's clock is {difference.total_seconds():.0f} seconds {direction} this machine's. "
        "Synchronise both with the same time servers."
    ]

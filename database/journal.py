"""What a migration has done so far, kept in the database: one that stopped half way goes on there when it is run again.

Called by migrations/env.py. MariaDB commits each change of a table by itself, so half a migration stays. SQLite and
PostgreSQL undo it, and keep no journal.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from sqlalchemy import Column, Integer, MetaData, String, Table, Text, delete, event, exc, insert, inspect, select
from sqlalchemy.engine import Connection

from database.columns import MYSQL_FAMILY

BYTEWISE: dict[str, Any] = {
    f"{family}_{option}": value
    for family in MYSQL_FAMILY
    for option, value in (("engine", "InnoDB"), ("charset", "utf8mb4"), ("collate", "utf8mb4_bin"))
}
JOURNAL = Table(
    "migration_journal",
    MetaData(),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("step", String(64), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("statement", Text(2**24 - 1), nullable=False),
    Column("tables_before", String(64)),
    **BYTEWISE,
)
"""There while a migration is under way, or after one that stopped half way. Its entry 0 says that a step has begun."""

LEAVES_NOTHING = re.compile(r"\s*(SELECT|WITH|SHOW|DESC|DESCRIBE|EXPLAIN|SET)\b", re.IGNORECASE)
CHANGES_ROWS = re.compile(r"\s*(INSERT|UPDATE|DELETE|REPLACE)\b", re.IGNORECASE)
COUNTER = re.compile(r" AUTO_INCREMENT=\d+")


def is_needed(connection: Connection) -> bool:
    """Return whether this database keeps half of a migration that failed."""
    return connection.dialect.name in MYSQL_FAMILY


def unfinished_step(connection: Connection) -> str | None:
    """Return which migration has stopped half way, as `upgrade 0002`, if one has."""
    if not is_needed(connection) or not _is_there(connection):
        return None
    return connection.scalar(select(JOURNAL.c.step).limit(1))


def finish_hint(unfinished: str) -> str:
    """Say what to do about a migration that has stopped half way."""
    direction, revision = unfinished.split()
    again = "flask db upgrade" if direction == "upgrade" else "flask db downgrade -1"
    return f"the {direction} of {revision} has stopped half way. First finish it: `{again}`"


@contextmanager
def keep(connection: Connection, step: str, *, repeatable: bool) -> Iterator[None]:
    """Note each statement of a step that was done, and leave out what an earlier run of the step has noted.

    The statements of a step must not depend on what the step has changed itself: they are found again by their text.
    One that looks itself what it has done already is `repeatable`; of it only the beginning is noted.
    """
    if not is_needed(connection):
        yield
        return
    if not _is_there(connection):
        JOURNAL.create(connection)
    if unfinished_step(connection) is None:
        connection.execute(insert(JOURNAL).values(number=0, step=step, digest="", statement=""))
    if repeatable:
        yield
        return
    entries = _Entries(connection, step)
    handlers: dict[str, Callable[..., bool]] = {
        "do_execute": entries.execute,
        "do_executemany": entries.execute_many,
        "do_execute_no_params": entries.execute_plain,
    }
    for name, handler in handlers.items():
        event.listen(connection.engine, name, handler)
    try:
        yield
    finally:
        for name, handler in handlers.items():
            event.remove(connection.engine, name, handler)


def clear(connection: Connection) -> None:
    """Forget the statements of a step, in the transaction that notes the step itself as done."""
    if is_needed(connection):
        connection.execute(delete(JOURNAL))


def remove(connection: Connection) -> None:
    """Drop the journal once every step is done."""
    if is_needed(connection):
        JOURNAL.drop(connection, checkfirst=True)


def _is_there(connection: Connection) -> bool:
    return inspect(connection).has_table(JOURNAL.name)


class _Entries:
    """The journal of one step: runs each statement after the entry that it begins."""

    def __init__(self, connection: Connection, step: str) -> None:
        self.connection = connection
        self.step = step
        self._settle_latest()
        rows = connection.execute(select(JOURNAL.c.number, JOURNAL.c.digest)).all()
        self.done = Counter(row.digest for row in rows)
        self.number = max(row.number for row in rows)
        self.writing = False

    def _settle_latest(self) -> None:
        """Find out whether the newest entry was done: each change is made whole or not at all, but who died knew not.

        An entry of changed rows was committed together with them.
        """
        latest = self.connection.execute(select(JOURNAL).order_by(JOURNAL.c.number.desc()).limit(1)).one()
        if latest.tables_before is not None and latest.tables_before == self._tables(latest.statement):
            self._forget(latest.number)

    def _forget(self, number: int) -> None:
        self.connection.execute(delete(JOURNAL).where(JOURNAL.c.number == number))

    def execute(self, cursor: Any, statement: str, parameters: Sequence[object], _context: Any) -> bool:
        """Stand in for the dialect's do_execute()."""
        return self._run(cursor, statement, parameters, cursor.execute)

    def execute_many(self, cursor: Any, statement: str, parameters: Sequence[object], _context: Any) -> bool:
        """Stand in for the dialect's do_executemany()."""
        return self._run(cursor, statement, parameters, cursor.executemany)

    def execute_plain(self, cursor: Any, statement: str, _context: Any) -> bool:
        """Stand in for the dialect's do_execute_no_params()."""
        return self._run(cursor, statement, None, cursor.execute)

    def _run(self, cursor: Any, statement: str, parameters: object, execute: Callable[[str, Any], object]) -> bool:
        """Return whether the statement needs nothing more from the dialect."""
        if self.writing or LEAVES_NOTHING.match(statement):
            return False
        digest = hashlib.sha256(f"{statement} {parameters!r}".encode()).hexdigest()
        if self.done[digest]:
            self.done[digest] -= 1
            cursor.execute("DO 0")
            return True
        with self._own_statements():
            self._note(statement, digest)
        try:
            execute(statement, parameters)
        except Exception:
            # When the connection is lost, the next run finds out.
            with self._own_statements(), suppress(exc.SQLAlchemyError):
                self._forget(self.number)
            raise
        return True

    @contextmanager
    def _own_statements(self) -> Iterator[None]:
        """Let what the journal itself executes pass by the journal."""
        self.writing = True
        try:
            yield
        finally:
            self.writing = False

    def _note(self, statement: str, digest: str) -> None:
        """Write that a statement begins; a change of a table first commits what came before it, this entry too."""
        tables = None if CHANGES_ROWS.match(statement) else self._tables(statement)
        self.number += 1
        entry = {"number": self.number, "step": self.step, "digest": digest, "statement": statement}
        self.connection.execute(insert(JOURNAL).values(**entry, tables_before=tables))

    def _tables(self, statement: str) -> str:
        """Return a digest of the tables that a statement names, and of all triggers."""
        names = sorted(row[0] for row in self._rows("SHOW TABLES") if row[0] != JOURNAL.name)
        found: list[object] = [names]
        for name in names:
            if re.search(rf"\b{re.escape(name)}\b", statement):
                found += [COUNTER.sub("", row[1]) for row in self._rows(f"SHOW CREATE TABLE `{name}`")]
        found += [tuple(row) for row in self._rows("SHOW TRIGGERS")]
        return hashlib.sha256(repr(found).encode()).hexdigest()

    def _rows(self, query: str) -> Sequence[Any]:
        return self.connection.exec_driver_sql(query).all()

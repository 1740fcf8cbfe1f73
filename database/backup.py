"""A consistent copy of a SQLite database while it serves, what is still in its WAL included.

Called by `flask backup`. The two servers have programs of their own for this; docs/operations.md names them.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import URL, create_engine
from sqlalchemy.orm import Session

from database.session import current_engine

STEP_PAGES = 1000
"""How many pages are copied between two reports of progress."""


class NotWhole(Exception):
    """SQLite says that the copy, and so the database itself, is damaged."""


def page_count() -> int:
    """Return how many pages the database has."""
    with current_engine().connect() as connection:
        return int(connection.exec_driver_sql("PRAGMA page_count").scalar_one())


def copy(target: Path, advance: Callable[[int], None]) -> None:
    """Copy the database into an empty file, and have SQLite check the copy; raise NotWhole or sqlite3.Error.

    `advance` is called with the pages done since it was called last.
    """
    done = 0

    def report(_status: int, remaining: int, total: int) -> None:
        nonlocal done
        advance(total - remaining - done)
        done = total - remaining

    with current_engine().connect() as connection, closing(sqlite3.connect(target)) as copied:
        # All pages as of this read: without it, each commit meanwhile would have the copy begin anew.
        connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar_one()
        source = connection.connection.driver_connection
        assert isinstance(source, sqlite3.Connection)
        source.backup(copied, pages=STEP_PAGES, progress=report)
        # One file: a copy in WAL mode would make two more beside it whenever it is opened.
        copied.execute("PRAGMA journal_mode = DELETE")
        problems = [row[0] for row in copied.execute("PRAGMA integrity_check") if row[0] != "ok"]
        problems += [f"a row of {row[0]} refers to none" for row in copied.execute("PRAGMA foreign_key_check")]
    if problems:
        raise NotWhole("; ".join(problems[:3]))


@contextmanager
def reading(path: Path) -> Iterator[Session]:
    """Open a session that reads a copy, and cannot change it."""
    read_only = {"mode": "ro", "immutable": "1", "uri": "true"}
    engine = create_engine(URL.create("sqlite", database=f"file:{quote(str(path.absolute()))}", query=read_only))
    try:
        with Session(engine) as session:
            yield session
    finally:
        engine.dispose()

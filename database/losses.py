"""What a downgrade would lose: each migration names in LOSES the tables whose rows do not survive its downgrade.

Called by migrations/env.py before the first statement of a downgrade. Changes nothing.
"""

from collections.abc import Iterable, Mapping

from sqlalchemy import inspect, text
from sqlalchemy.engine import Connection

INBOX = "inbox"

Losses = Mapping[str, str]
"""The condition of the rows that are lost, by table; an empty one means every row."""


def hold(connection: Connection, tables: Iterable[str]) -> None:
    """Keep everybody else off the tables until the downgrade ends, so that no row comes after they were counted.

    SQLite has one writer at a time anyway. MariaDB would let go with the first change of a table.
    """
    if connection.dialect.name == "postgresql":
        for table in _present(connection, tables):
            connection.execute(text(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"))


def count(connection: Connection, losses: Iterable[Losses], *, half_way: bool = False) -> dict[str, int]:
    """Return how many rows of which table the downgrades would lose, together.

    After one that stopped half way the columns of a condition may be gone already; then only whole tables count.
    """
    found: dict[str, int] = {}
    for tables in losses:
        for table in _present(connection, tables):
            condition = tables[table]
            if condition and half_way:
                continue
            where = f" WHERE {condition}" if condition else ""
            rows = connection.scalar(text(f"SELECT count(*) FROM {table}{where}"))  # noqa: S608 - names of migrations
            found[table] = max(found.get(table, 0), int(rows or 0))
    return {table: rows for table, rows in found.items() if rows}


def refusal(found: Mapping[str, int], again: str) -> str:
    """Say what a downgrade would lose, and what to do."""
    lines = [f"  {table}: {rows} {'row' if rows == 1 else 'rows'}" for table, rows in sorted(found.items())]
    waiting = (
        f"\nWhat is in {INBOX} was answered 200 and is not credited yet; the bank will not send it again. Run `flask "
        "worker` until it is empty."
        if INBOX in found
        else ""
    )
    return (
        "This downgrade would lose rows. Nothing was changed.\n"
        + "\n".join(lines)
        + waiting
        + f"\nMake a backup. Then, if they may be lost: `{again}`"
    )


def _present(connection: Connection, tables: Iterable[str]) -> list[str]:
    there = set(inspect(connection).get_table_names())
    return [table for table in tables if table in there]

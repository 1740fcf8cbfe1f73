"""Many rows in one statement, with the same words however many they are; and what tables and results tell.

Called by whoever writes inside a transaction. Opens none, and knows no table.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Insert,
    String,
    Table,
    TableValuedAlias,
    Update,
    any_,
    bindparam,
    func,
    select,
    update,
)
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.engine import Connection, CursorResult, Result

from database.columns import MYSQL_FAMILY, Base


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

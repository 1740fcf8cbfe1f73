"""The check of how ids and moments are written where a database keeps them as text.

Called by the audit, within its snapshot. Another spelling is the same id to whoever reads it, and another one to the
constraint that keeps it unique: then one operation could be counted twice.
"""

from collections.abc import Callable, Iterator
from typing import Any

from sqlalchemy import Column, Dialect, String, Table, Uuid, select, type_coerce
from sqlalchemy.orm import Session

from database.bulk import table_of
from database.columns import UtcDateTime
from ledger.findings import ROWS_AT_A_TIME, Finding
from models import BalanceLog, Debit, Organization, OverdraftLimit, Payment, Transfer

TABLES = [table_of(model) for model in (Organization, Payment, Debit, BalanceLog, Transfer, OverdraftLimit)]

KEPT_AS_TEXT = {"postgresql": (), "mariadb": (Uuid,), "mysql": (Uuid,), "sqlite": (Uuid, UtcDateTime)}
"""Which types a database has no type of its own for."""

Written = Callable[[Any], Any]
"""Gives a value as it is to be written."""


def check(session: Session) -> Iterator[Finding | int]:
    """Compare each id and each moment of the tables of money, as it is written, with what it says."""
    dialect = session.connection().dialect
    for table in TABLES:
        columns = {column.name: _written(column, dialect) for column in table.c if _is_text(column, dialect)}
        if columns:
            yield from _check_table(session, table, columns)


def _check_table(session: Session, table: Table, columns: dict[str, Written]) -> Iterator[Finding | int]:
    keys = [column.name for column in table.primary_key]
    read = table.c[tuple(dict.fromkeys([*keys, *columns]))]
    raw = [type_coerce(table.c[name], String()).label(f"raw_{name}") for name in columns]
    query = select(*read, *raw).order_by(*table.primary_key).execution_options(yield_per=ROWS_AT_A_TIME)
    for row in session.execute(query):
        for name, written in columns.items():
            value = getattr(row, name)
            if value is not None and getattr(row, f"raw_{name}") != written(value):
                where = " ".join(f"{key} {getattr(row, key)}" for key in keys)
                yield Finding(row=f"{table.name} {where}", problem=f"its {name} is not written as we write it")


def _is_text(column: Column[Any], dialect: Dialect) -> bool:
    return isinstance(column.type, KEPT_AS_TEXT[dialect.name])


def _written(column: Column[Any], dialect: Dialect) -> Written:
    return column.type.dialect_impl(dialect).bind_processor(dialect) or (lambda value: value)

"""The table of tampering: whatever is changed, removed, added, swapped or moved in a table of money is found.

With `-s` the table is printed: what was done, and what found it.
"""

import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from io import BytesIO
from typing import Any

import pytest
from sqlalchemy import Column, Connection, Table, and_, delete, insert, select, update
from sqlalchemy.exc import DatabaseError

import services
import signing
from database.bulk import table_of
from database.session import snapshot, transaction
from ledger import audit, organizations, posting, seals, transfers
from ledger.findings import Finding
from models import Account, BalanceLog, Debit, Organization, OverdraftLimit, Payment, Transfer
from tests.databases import Database
from tests.factories import INN, OTHER_INN, START, make_credit, make_debit

KEY = signing.new_private_key()
TABLES = [table_of(model) for model in (Organization, Payment, Debit, BalanceLog, Transfer, Account, OverdraftLimit)]
NO_MONEY = {("organizations", "name"), ("organizations", "created_at")}
"""What says nothing about money: a name may be changed, and nothing is counted by when somebody was registered."""

Row = dict[str, Any]


@pytest.fixture
def seal(context) -> bytes:
    """Fill every table of money, and seal it."""
    with transaction() as session:
        for inn in (INN, OTHER_INN):
            posting.post(session, [make_credit(inn=inn, amount=100), make_debit(inn=inn, amount=30)])
            posting.post(session, [make_credit(inn=inn, amount=100), make_debit(inn=inn, amount=30)])
    for inn in (INN, OTHER_INN):
        organizations.set_overdraft_limit(inn, 500, by="test", now=START)
        organizations.set_overdraft_limit(inn, 400, by="test", now=START)
        services.debit(make_debit(inn=inn, amount=900, outside=True))
    for amount in (5, 6):
        transfers.transfer(
            operation_id=uuid.uuid4(),
            debit_account="bank:plain",
            credit_account="transit:yookassa",
            amount=amount,
            note="payout",
            by="test",
            now=START,
        )
    file = BytesIO()
    with snapshot() as session:
        seals.write(session, file, key=KEY, now=START)
    return file.getvalue()


def other(value: object, column: Column[Any]) -> object:
    """Return another value of the same kind."""
    if value is None:
        return uuid.uuid4() if column.type.python_type is uuid.UUID else "other"
    if isinstance(value, int):
        return value + 1
    if isinstance(value, datetime):
        return value + timedelta(microseconds=1)
    if isinstance(value, bytes):
        return value + b" "
    if isinstance(value, uuid.UUID):
        return uuid.uuid4()
    return f"{str(value)[:-1]}{'1' if str(value)[-1] != '1' else '2'}"


def rows_of(connection: Connection, table: Table) -> list[Row]:
    return [row._asdict() for row in connection.execute(select(*table.c).order_by(*table.primary_key))]


def named(table: Table, row: Row) -> Any:
    return and_(*(column == row[column.name] for column in table.primary_key))


def changes(table: Table, rows: list[Row]) -> Iterator[tuple[str, Callable[[Connection], object]]]:
    """Yield everything that is done to a table, and what does it."""
    row = rows[0]
    for column in table.c:
        if (table.name, column.name) in NO_MONEY:
            continue
        for place, victim in (("first", rows[0]), ("last", rows[-1])):
            values = {column.name: other(victim[column.name], column)}
            yield (
                f"{column.name} of the {place} row",
                lambda c, v=victim, to=values: c.execute(update(table).where(named(table, v)).values(to)),
            )
    for place, victim in (("first", rows[0]), ("last", rows[-1])):
        yield f"the {place} row removed", lambda c, v=victim: c.execute(delete(table).where(named(table, v)))
    added = row | {column.name: other(row[column.name], column) for column in table.primary_key}
    added |= {name: uuid.uuid4() for name in ("operation_id", "payment_id") if row.get(name) is not None}
    added |= {"inn": "7736050003"} if "inn" in row else {}
    yield "a row added", lambda c: c.execute(insert(table).values(added))
    yield "two rows swapped", lambda c: swap(c, table, rows)
    if "organization_id" in row:
        owner = next(each["organization_id"] for each in rows if each["organization_id"] != row["organization_id"])
        yield (
            "a row moved to another organisation",
            lambda c: c.execute(
                update(table)
                .where(named(table, rows[-1] if rows[-1]["organization_id"] != owner else row))
                .values(
                    organization_id=owner,
                    **({"version": 99} if "version" in row else {}),
                    **({"number": 99} if "number" in row else {}),
                )
            ),
        )


def swap(connection: Connection, table: Table, rows: list[Row]) -> None:
    """Exchange all that two rows say, but for the keys by which they are found."""
    first, second = rows[0], rows[1]
    keys = {column.name for column in table.primary_key}
    unique = {"operation_id", "payment_id", "debit_id", "inn"}
    names = [name for name in first if name not in keys | unique] if table.name != "accounts" else ["kind"]
    for victim, values in ((first, second), (second, first)):
        connection.execute(update(table).where(named(table, victim)).values({name: values[name] for name in names}))


def findings(seal: bytes) -> tuple[list[str], list[str]]:
    """Return what is found by itself, and what only the seal shows."""
    alone = [f"{step.row}: {step.problem}" for step in audit.verify() if isinstance(step, Finding)]
    with snapshot() as session:
        against = list(seals.check(session, BytesIO(seal), public_key=signing.public_key(KEY)))
    return alone, [f"{step.row}: {step.problem}" for step in against]


def restore(connection: Connection, table: Table, rows: list[Row]) -> None:
    connection.execute(delete(table))
    connection.execute(insert(table), rows)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_whatever_is_done_to_a_table_of_money_is_found(database: Database, seal: bytes, table: Table):
    assert findings(seal) == ([], [])
    with database.unguarded() as connection:
        rows = rows_of(connection, table)
    missed, tried = [], 0
    for what, change in changes(table, rows):
        changed = rows
        with database.unguarded() as connection, suppress(DatabaseError):
            change(connection)
            changed = rows_of(connection, table)
        if changed == rows:
            continue  # refused by a constraint, or nothing to swap
        tried += 1
        alone, against = findings(seal)
        print(f"{table.name:18} {what:40} {(alone or against or ['MISSED'])[0]}")
        missed += [] if alone or against else [what]
        with database.unguarded() as connection:
            restore(connection, table, rows)
    assert missed == []
    assert tried >= len(table.c)
    assert findings(seal) == ([], [])

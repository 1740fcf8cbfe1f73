"""The ledger outside against the database: each acknowledged operation is in it once, any other at most once."""

import json
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

from sqlalchemy import URL, Row, create_engine, text

from tests.faults.payers import BUSY_INN, OTHER_INNS, Books

PAYMENTS = """
    SELECT p.operation_id, p.id, p.amount, p.payer_inn, o.inn, o.balance
    FROM payments p JOIN organizations o ON o.id = p.organization_id
"""
"""One statement, and so one view of the tables, on each database."""


def compare(books: Books, url: URL) -> list[str]:
    """Return what the tables and the ledger outside disagree about; the server may go on meanwhile."""
    rows = _read(url)
    found = Counter(str(UUID(str(row.operation_id))) for row in rows)
    findings = [f"operation {id_} is there {times} times" for id_, times in found.items() if times > 1]
    findings += [finding for row in rows for finding in _check_row(books, row)]
    lost = [operation for operation in books.operations.values() if operation.acknowledged and not found[operation.id]]
    findings += [f"operation {operation.id} was acknowledged and is not there" for operation in lost]
    return findings + list(_check_balances(rows))


def compare_balances(tables: Callable[[], URL], port: int) -> list[str]:
    """Return which balances the server states that are not the sums of what is in the tables.

    What the bank has given up may still arrive, so each balance is read between two looks at the tables.
    """
    before = _sums(_read(tables()))
    stated = {inn: _balance(port, inn) for inn in (BUSY_INN, *OTHER_INNS) if inn in before}
    after = _sums(_read(tables()))
    return [
        f"the balance of {inn} is said to be {kopecks}, its payments are {before[inn]} to {after[inn]}"
        for inn, kopecks in stated.items()
        if not before[inn] <= kopecks <= after[inn]
    ]


def _read(url: URL) -> list[Row[Any]]:
    engine = create_engine(url)
    with engine.connect() as connection:
        rows = list(connection.execute(text(PAYMENTS)))
    engine.dispose()
    return rows


def _check_row(books: Books, row: Row[Any]) -> Iterator[str]:
    id_ = str(UUID(str(row.operation_id)))
    operation = books.operations.get(id_)
    if operation is None:
        yield f"operation {id_} was never sent"
        return
    if (row.amount, row.payer_inn, row.inn) != (operation.amount, operation.inn, operation.inn):
        yield f"operation {id_} is {row.amount} for {row.inn}, and was {operation.amount} for {operation.inn}"
    if operation.payment_id not in (None, str(UUID(str(row.id)))):
        yield f"operation {id_} is payment {row.id}, and was acknowledged as {operation.payment_id}"


def _check_balances(rows: list[Row[Any]]) -> Iterator[str]:
    balances = {row.inn: row.balance for row in rows}
    for inn, kopecks in _sums(rows).items():
        if balances[inn] != kopecks:
            yield f"the balance of {inn} is {balances[inn]}, its payments are {kopecks}"


def _sums(rows: list[Row[Any]]) -> dict[str, int]:
    sums: defaultdict[str, int] = defaultdict(int)
    for row in rows:
        sums[row.inn] += row.amount
    return sums


def _balance(port: int, inn: str) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/organizations/{inn}/balance/") as answer:
        return int(json.load(answer)["balance"])

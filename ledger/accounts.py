"""System accounts, by code: where money of organisations comes from and goes to.

Called by whoever writes a row that names one. They are made when they are first named.
"""

from collections.abc import Collection

from sqlalchemy import Connection, select

from database.bulk import insert_absent, table_of
from enums import AccountKind
from models import CURRENCY, Account

ACCOUNTS = table_of(Account)


def code(kind: AccountKind, name: str) -> str:
    """Return the code of an account, such as `bank:plain`."""
    return f"{kind}:{name}"


def make(connection: Connection, codes: Collection[str]) -> None:
    """Make the accounts that are missing, in the caller's transaction, before it writes anything else."""
    # Looked for first: to insert one that is there would lock it on MariaDB, and everybody's rows refer to it.
    known = set(connection.scalars(select(ACCOUNTS.c.code).where(ACCOUNTS.c.code.in_(codes))))
    rows = [{"code": code, "kind": code.partition(":")[0], "currency": CURRENCY} for code in sorted(set(codes) - known)]
    if rows:
        insert_absent(connection, ACCOUNTS, rows, unique="code")

"""Locked organisations, and the rows of balance_log that move their balances: each explained, counted and chained.

Called by posting.py alone, inside its transaction.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from operator import itemgetter
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, Select, Update, func, or_, select, update

from database.bulk import among, insert, table_of, update_each
from ledger import chain
from ledger.entries import Entry, Key
from models import Account, BalanceLog, Endpoint, Organization

ORGANIZATIONS, LOG = table_of(Organization), table_of(BalanceLog)
ACCOUNTS, ENDPOINTS = table_of(Account), table_of(Endpoint)


@dataclass(frozen=True, kw_only=True)
class Locked:
    """A locked organisation; `created` when this transaction found it missing."""

    id: int
    balance: int
    version: int
    overdraft_limit: int
    outside_debits: int
    head_sha256: str
    has_subscribers: bool
    created: bool = False


class Move(NamedTuple):
    """One row of balance_log as it was just written; `has_subscribers` when an endpoint listens to it."""

    organization_id: int
    version: int
    delta: int
    balance_before: int
    balance_after: int
    payment_id: UUID | None
    debit_id: UUID | None
    counter_account: str
    overdraft_limit: int
    row_sha256: str
    has_subscribers: bool


_moved = itemgetter(*Move._fields[:-1])


def lock(connection: Connection, inns: Collection[str], codes: Collection[str]) -> tuple[dict[str, Locked], bool]:
    """Lock the organisations that exist, and read them under the lock; return them, and whether the accounts exist.

    Where no organisation exists nothing is known of the accounts either.
    """
    given = {"inns": sorted(inns), "codes": sorted(codes)}
    rows = connection.execute(_lock_query(connection.dialect.name), given).all()
    locked = {row.inn: Locked(**{name: getattr(row, name) for name in LOCKED}) for row in rows}
    return locked, bool(rows) and rows[0].account_count == len(codes)


LOCKED = ("id", "balance", "version", "overdraft_limit", "outside_debits", "head_sha256", "has_subscribers")


def write(
    connection: Connection,
    entries: Mapping[Key, Entry],
    causes: Mapping[Key, Mapping[str, Any]],
    organizations: Mapping[str, Locked],
) -> dict[Key, Move]:
    """Write a row for each entry, with running balances, and make each balance what its log says last.

    `causes` are their rows of payments and debits. Returns the moves.
    """
    ends = {inn: _End(it.balance, it.version, it.head_sha256, it.outside_debits) for inn, it in organizations.items()}
    moves: dict[Key, Move] = {}
    rows = []
    for key, entry in entries.items():
        organization, end = organizations[entry.inn], ends[entry.inn]
        row = _row(organization, end, entry, causes[key]["id"])
        sha256 = row["row_sha256"] = chain.move_sha256(end.head_sha256, entry.inn, row, causes[key])
        outside = end.outside_debits + entry.taken_outside
        ends[entry.inn] = _End(row["balance_after"], row["version"], sha256, outside)
        rows.append(row)
        moves[key] = Move._make((*_moved(row), organization.has_subscribers))
    if rows:
        insert(connection, LOG, rows)
        moved = {entry.inn: organizations[entry.inn] for entry in entries.values()}
        _allow_outside(connection, moved, ends)
        moved_ids = {"moved": [organization.id for organization in moved.values()]}
        connection.execute(_move_query(connection.dialect.name), moved_ids)
    return moves


class _End(NamedTuple):
    """Where the log of an organisation ends, with the entries that were looked at so far."""

    balance: int
    version: int
    head_sha256: str
    outside_debits: int


def _row(organization: Locked, end: _End, entry: Entry, cause_id: UUID) -> dict[str, Any]:
    is_debit, delta = entry.key.is_debit, entry.delta
    return {
        "organization_id": organization.id,
        "version": end.version + 1,
        "delta": delta,
        "balance_before": end.balance,
        "balance_after": end.balance + delta,
        "payment_id": None if is_debit else cause_id,
        "debit_id": cause_id if is_debit else None,
        "reason": entry.reason,
        "created_at": entry.moment,
        "counter_account": entry.counter_account,
        "overdraft_limit": organization.overdraft_limit,
    }


def _allow_outside(connection: Connection, moved: Mapping[str, Locked], ends: Mapping[str, _End]) -> None:
    """Note what was taken outside, before the balances move: only that lets one pass the limit. It is rare."""
    rows = [
        {"id": before.id, "outside_debits": ends[inn].outside_debits}
        for inn, before in moved.items()
        if ends[inn].outside_debits != before.outside_debits
    ]
    update_each(connection, ORGANIZATIONS, rows)


@cache
def _lock_query(dialect: str) -> Select[Any]:
    """Read organisations and lock them, in the order of their INNs on every database.

    All who lock several rows do it here, so that no two wait for each other in a circle. MariaDB locks in the order of
    the index that it reads, whatever ORDER BY says, and is therefore told which. Whether anybody listens, and how many
    of the accounts are there, is asked along with it, so that it costs no round trip.
    """
    mine = or_(ENDPOINTS.c.organization_id.is_(None), ENDPOINTS.c.organization_id == ORGANIZATIONS.c.id)
    has_subscribers = select(ENDPOINTS.c.id).where(ENDPOINTS.c.disabled_at.is_(None), mine).exists()
    account_count = select(func.count()).where(among(ACCOUNTS.c.code, "codes", dialect)).scalar_subquery()
    kept = [name for name in LOCKED if name in ORGANIZATIONS.c]
    return (
        select(
            ORGANIZATIONS.c.inn,
            *ORGANIZATIONS.c[tuple(kept)],
            has_subscribers.label("has_subscribers"),
            account_count.label("account_count"),
        )
        .with_hint(ORGANIZATIONS, "FORCE INDEX (uq_organizations_inn)", "mariadb")
        .with_hint(ORGANIZATIONS, "FORCE INDEX (uq_organizations_inn)", "mysql")
        .where(among(ORGANIZATIONS.c.inn, "inns", dialect))
        .order_by(ORGANIZATIONS.c.inn)
        .with_for_update(key_share=True)
    )


@cache
def _move_query(dialect: str) -> Update:
    """Give organisations the balance, the version and the hash of the newest row of their log."""
    log = LOG.alias("newest")
    newest = select(log).where(log.c.organization_id == ORGANIZATIONS.c.id).order_by(log.c.version.desc()).limit(1)
    return (
        update(ORGANIZATIONS)
        .where(among(ORGANIZATIONS.c.id, "moved", dialect))
        .values(
            balance=newest.with_only_columns(log.c.balance_after).scalar_subquery(),
            version=newest.with_only_columns(log.c.version).scalar_subquery(),
            head_sha256=newest.with_only_columns(log.c.row_sha256).scalar_subquery(),
        )
    )

"""Use cases: register one organisation, or many from a list, without ever touching a balance."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Select, bindparam, insert, select, update
from sqlalchemy.exc import IntegrityError

from database.bulk import insert_absent, table_of
from database.session import AnyRow, look_up, survives_deadlock, transaction
from errors import OrganizationExists, OrganizationUnknown, OverdraftInUse
from ledger import chain
from models import EMPTY_LOG_SHA256, Organization, OverdraftLimit

ORGANIZATIONS, LIMITS = table_of(Organization), table_of(OverdraftLimit)
BY_INN = select(*ORGANIZATIONS.c).where(ORGANIZATIONS.c.inn == bindparam("inn"))
"""Made once: to build a statement costs much more than to find its compiled form."""

BALANCE_BY_INN = BY_INN.with_only_columns(*ORGANIZATIONS.c["inn", "balance", "currency", "version"])


def find(inn: str) -> AnyRow:
    """Return the organisation with this INN; raise OrganizationUnknown."""
    return _found(BY_INN, inn)


def balance(inn: str) -> AnyRow:
    """Return what is asked for most often of the organisation with this INN; raise OrganizationUnknown."""
    return _found(BALANCE_BY_INN, inn)


def _found(query: Select[Any], inn: str) -> AnyRow:
    rows = look_up(query, {"inn": inn})
    if not rows:
        raise OrganizationUnknown
    return rows[0]


@survives_deadlock
def register(*, inn: str, name: str, now: datetime) -> None:
    """Register one organisation with an empty balance; raise OrganizationExists, also when another was faster."""
    try:
        with transaction() as session:
            session.execute(insert(ORGANIZATIONS).values(inn=inn, name=name, created_at=now))
    except IntegrityError:
        raise OrganizationExists from None


@survives_deadlock
def set_overdraft_limit(inn: str, limit: int, *, by: str, now: datetime) -> None:
    """Let an organisation owe so many kopecks; raise OrganizationUnknown, or OverdraftInUse when it owes more."""
    with transaction() as session:
        found = select(*ORGANIZATIONS.c).where(ORGANIZATIONS.c.inn == inn).with_for_update(key_share=True)
        organization = session.execute(found).one_or_none()
        if organization is None:
            raise OrganizationUnknown
        if organization.balance < -limit and limit < organization.overdraft_limit:
            raise OverdraftInUse
        mine = LIMITS.c.organization_id == organization.id
        last = session.execute(select(*LIMITS.c).where(mine).order_by(LIMITS.c.number.desc()).limit(1)).one_or_none()
        row: dict[str, Any] = {"number": last.number + 1 if last else 1, "overdraft_limit": limit}
        row |= {"set_by": by, "set_at": now}
        sha256 = chain.limit_sha256(last.row_sha256 if last else EMPTY_LOG_SHA256, inn, row)
        session.execute(insert(LIMITS).values(organization_id=organization.id, **row, row_sha256=sha256))
        session.execute(
            update(ORGANIZATIONS).where(ORGANIZATIONS.c.id == organization.id).values(overdraft_limit=limit)
        )


@survives_deadlock
def seed(rows: Sequence[tuple[str, str]], *, now: datetime) -> int:
    """Register many (INN, name) at once and return how many were new; those that exist keep what they have.

    An organisation that a webhook created has no name yet, and takes the one given here. The number counts those
    that were missing at the start: it is too high when two lists with the same INNs are registered at once.
    """
    names = dict(rows)
    with transaction() as session:
        there = session.execute(
            select(Organization.id, Organization.inn, Organization.name)
            .where(Organization.inn.in_(names))
            .order_by(Organization.inn)
        ).all()
        # In the order of the ledger: first those that are there, by INN, then those that are not.
        for row in there:
            if names[row.inn] and not row.name:
                nameless = (Organization.id == row.id, Organization.name == "")
                session.execute(update(Organization).where(*nameless).values(name=names[row.inn]))
        new = sorted(names.keys() - {row.inn for row in there})
        if new:
            insert_absent(
                session.connection(),
                ORGANIZATIONS,
                [{"inn": inn, "name": names[inn], "created_at": now} for inn in new],
                unique="inn",
            )
    return len(new)

"""Use cases: register one organisation, or many from a list, without ever touching a balance."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.exc import IntegrityError

from database.bulk import insert_absent, table_of
from database.session import AnyRow, look_up, survives_deadlock, transaction
from errors import OrganizationExists, OrganizationUnknown
from models import Organization

ORGANIZATIONS = table_of(Organization)
BY_INN = select(*ORGANIZATIONS.c).where(ORGANIZATIONS.c.inn == bindparam("inn"))
"""Made once: to build a statement costs much more than to find its compiled form."""


def find(inn: str) -> AnyRow:
    """Return the organisation with this INN; raise OrganizationUnknown."""
    rows = look_up(BY_INN, {"inn": inn})
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

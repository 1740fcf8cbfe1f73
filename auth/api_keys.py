"""Use cases: create, revoke and recognise API keys; only their SHA-256 is kept.

A key is 32 random bytes, so a plain hash is enough: there is nothing to guess. A slow one would only cost time.
"""

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import bindparam, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from database.bulk import affected, table_of
from database.session import AnyRow, current_session, look_up, survives_deadlock, transaction
from errors import KeyRefused, OrganizationUnknown, ScopeMissing
from models import ApiKey, Organization

SCOPES = {
    "organizations:read": "list organisations, read balances, statements and payments",
    "organizations:write": "register organisations",
    "incidents:read": "read incidents, the stored bodies included",
    "incidents:write": "resolve incidents and assign their money to organisations",
    "ledger:read": "read the trial balance of all accounts",
    "endpoints:read": "read endpoints, events and deliveries",
    "endpoints:write": "register and change endpoints, have events sent again",
    "webhooks:verify": "ask what the webhook door would do with a request",
}


ONE_ORGANIZATION = ("organizations:read", "endpoints:read", "endpoints:write")
"""The scopes that a key of one organisation may have; what the others allow concerns all organisations."""


@dataclass(frozen=True, kw_only=True)
class Own:
    """The only organisation that a caller may see."""

    id: int
    inn: str


GOOD_KEYS = (
    select(*table_of(ApiKey).c["id", "name", "scopes", "organization_id"], table_of(Organization).c.inn)
    .select_from(ApiKey)
    .outerjoin(Organization, Organization.id == ApiKey.organization_id)
    .where(ApiKey.key_sha256 == bindparam("key_sha256"), ApiKey.revoked_at.is_(None))
)
"""Made once: every read asks it."""


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Whose API key it is; `own` is None for a key of all organisations."""

    id: int
    name: str
    own: Own | None


class NameTaken(Exception):
    """A key of this name exists, perhaps revoked."""


@survives_deadlock
def create(*, name: str, scopes: Sequence[str], organization: str | None = None, now: datetime) -> str:
    """Create a key, for one organisation or for all, and return it; this is the only time that it can be seen.

    Raises NameTaken or OrganizationUnknown.
    """
    token = f"kpk_{secrets.token_urlsafe(32)}"
    try:
        with transaction() as session:
            row = {"name": name, "key_sha256": _hash(token), "scopes": " ".join(sorted(scopes)), "created_at": now}
            organization_id = None if organization is None else _organization_id(session, organization)
            session.add(ApiKey(**row, organization_id=organization_id))
    except IntegrityError:
        raise NameTaken from None
    return token


@survives_deadlock
def revoke(name: str, *, now: datetime) -> bool:
    """Stop a key from working; return whether there was one that still did."""
    with transaction() as session:
        revoked = session.execute(
            update(ApiKey).where(ApiKey.name == name, ApiKey.revoked_at.is_(None)).values(revoked_at=now)
        )
    return affected(revoked) == 1


def listed() -> Sequence[AnyRow]:
    """Return every key, revoked ones too, without anything secret."""
    keys = (
        select(ApiKey.name, ApiKey.scopes, ApiKey.created_at, ApiKey.revoked_at, Organization.inn)
        .outerjoin(Organization, Organization.id == ApiKey.organization_id)
        .order_by(ApiKey.id)
    )
    return current_session().execute(keys).all()


def authorize(token: str, scope: str) -> Caller:
    """Return whose key it is if it is good for the scope; raise KeyRefused or ScopeMissing.

    Looked up by its hash, which the caller cannot choose, so the time that takes tells nothing.
    """
    # Not by the session, which would keep its connection while what is asked for is looked up on another one.
    keys = look_up(GOOD_KEYS, {"key_sha256": _hash(token)})
    if not keys:
        raise KeyRefused("The API key is unknown or revoked.")
    (key,) = keys
    if scope not in key.scopes.split():
        raise ScopeMissing(f"This API key lacks the scope {scope}.")
    own = None if key.organization_id is None else Own(id=key.organization_id, inn=key.inn)
    return Caller(id=key.id, name=key.name, own=own)


def _organization_id(session: Session, inn: str) -> int:
    organization_id = session.scalar(select(Organization.id).where(Organization.inn == inn))
    if organization_id is None:
        raise OrganizationUnknown
    return organization_id


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()

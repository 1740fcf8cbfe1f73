"""Use cases: create, revoke and recognise API keys; only their SHA-256 is kept.

A key is 32 random bytes, so a plain hash is enough: there is nothing to guess. A slow one would only cost time.
"""

import hashlib
import secrets
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError

from database.bulk import affected
from database.session import AnyRow, current_session, survives_deadlock, transaction
from errors import KeyRefused, ScopeMissing
from models import ApiKey

SCOPES = {
    "organizations:read": "list organisations, read balances, statements and payments",
    "organizations:write": "register organisations",
    "incidents:read": "read incidents, the stored bodies included",
    "incidents:write": "resolve incidents and assign their money to organisations",
    "endpoints:read": "read endpoints, events and deliveries",
    "endpoints:write": "register and change endpoints, have events sent again",
    "webhooks:verify": "ask what the webhook door would do with a request",
}


class NameTaken(Exception):
    """A key of this name exists, perhaps revoked."""


@survives_deadlock
def create(*, name: str, scopes: Sequence[str], now: datetime) -> str:
    """Create a key and return it; this is the only time that it can be seen. Raise NameTaken."""
    token = f"kpk_{secrets.token_urlsafe(32)}"
    try:
        with transaction() as session:
            session.add(ApiKey(name=name, key_sha256=_hash(token), scopes=" ".join(sorted(scopes)), created_at=now))
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
    return (
        current_session()
        .execute(select(ApiKey.name, ApiKey.scopes, ApiKey.created_at, ApiKey.revoked_at).order_by(ApiKey.id))
        .all()
    )


def authorize(token: str, scope: str) -> str:
    """Return the name of the key if it is good for the scope; raise KeyRefused or ScopeMissing.

    Looked up by its hash, which the caller cannot choose, so the time that takes tells nothing.
    """
    key = (
        current_session()
        .execute(
            select(ApiKey.name, ApiKey.scopes).where(ApiKey.key_sha256 == _hash(token), ApiKey.revoked_at.is_(None))
        )
        .one_or_none()
    )
    if key is None:
        raise KeyRefused("The API key is unknown or revoked.")
    if scope not in key.scopes.split():
        raise ScopeMissing(f"This API key lacks the scope {scope}.")
    return str(key.name)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()

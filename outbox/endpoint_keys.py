"""What an endpoint's events are signed with: made, kept encrypted, read again.

Called by the use cases of endpoints and by the claims of a worker.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

import signing
from encryption import SecretCipher
from enums import Scheme
from errors import SecretUnreadable


@dataclass(frozen=True, kw_only=True)
class Key:
    """What an endpoint's events are signed with; `until` is when an old key stops, None for the newest."""

    secret: str = field(repr=False)
    private_key: str | None = field(repr=False)
    until: datetime | None


def new_key(scheme: Scheme) -> Key:
    """Make the newest key of an endpoint."""
    if scheme is Scheme.STANDARD:
        return Key(secret=signing.new_standard_secret(), private_key=signing.new_private_key(), until=None)
    return Key(secret=signing.new_secret(), private_key=None, until=None)


def public_key(key: Key) -> str | None:
    """Return the `whpk_…` that verifies v1a; None for a key of the schemes that have only a secret."""
    return None if key.private_key is None else signing.public_key(key.private_key)


def decrypt_keys(
    cipher: SecretCipher, secrets: str, *, endpoint_id: int, unbound_allowed: bool = False
) -> tuple[Key, ...]:
    """Decrypt the keys of an endpoint, the newest first; raise SecretUnreadable.

    What is bound to no row is read only if a person vouches that it belongs to this one.
    """
    try:
        text = cipher.decrypt(secrets, bound_to=_place(endpoint_id))
    except SecretUnreadable:
        if not unbound_allowed:
            raise
        text = cipher.decrypt_unbound(secrets)
    return tuple(
        Key(**{**key, "until": key["until"] and datetime.fromisoformat(key["until"])}) for key in json.loads(text)
    )


def encrypt_keys(cipher: SecretCipher, keys: Iterable[Key], *, endpoint_id: int) -> str:
    """Encrypt the keys of an endpoint, the newest first, as its row keeps them."""
    text = json.dumps([{**vars(key), "until": key.until and key.until.isoformat()} for key in keys])
    return cipher.encrypt(text, bound_to=_place(endpoint_id))


def _place(endpoint_id: int) -> str:
    """Name the row: with the secrets of another endpoint nothing is signed for this one."""
    return f"endpoints.secrets/{endpoint_id}"

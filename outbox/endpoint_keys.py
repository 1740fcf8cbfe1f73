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


def decrypt_keys(cipher: SecretCipher, secrets: str) -> tuple[Key, ...]:
    """Decrypt the keys of an endpoint, the newest first."""
    return tuple(
        Key(**{**key, "until": key["until"] and datetime.fromisoformat(key["until"])})
        for key in json.loads(cipher.decrypt(secrets))
    )


def encrypt_keys(cipher: SecretCipher, keys: Iterable[Key]) -> str:
    """Encrypt the keys of an endpoint, the newest first, as the table keeps them."""
    return cipher.encrypt(json.dumps([{**vars(key), "until": key.until and key.until.isoformat()} for key in keys]))

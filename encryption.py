"""Secrets at rest: encrypted before they go into the database, decrypted after they come out; and names for secrets.

Called by whoever stores or uses what must not be read there. Never reads a setting or a table.
"""

import base64
import binascii
import hmac
import os
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from config import SECRET_CHARACTERS_MIN
from errors import SecretUnreadable

PURPOSE = b"kopeck secrets at rest"
"""Makes the derived keys good for this alone; with another value nothing that is stored could be decrypted."""

BOUND_PURPOSE = b"kopeck secrets at rest, bound to their place"

BOUND = "a1."
"""What begins a text that is bound to its place: AES-256-GCM with the place as associated data."""

NONCE_BYTES = 12

NAMING = b"kopeck names of secrets"
"""Makes the keys of names others than those that encrypt."""

KEY_ID_CHARACTERS = 12


class SecretCipher:
    """Encrypts with the newest key and decrypts with any, so that keys can be changed while secrets are stored.

    What is encrypted is bound to its place, such as `endpoints.secrets/17`: copied anywhere else it cannot be read.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        """Take the texts of SECRETS_KEYS, newest first; raise ValueError when there is none or one is short."""
        if not keys or any(len(key) < SECRET_CHARACTERS_MIN for key in keys):
            raise ValueError(f"SECRETS_KEYS needs one key or more, each of at least {SECRET_CHARACTERS_MIN} characters")
        self._ciphers = [AESGCM(_derived(key, BOUND_PURPOSE)) for key in keys]
        self._unbound = MultiFernet([Fernet(base64.urlsafe_b64encode(_derived(key, PURPOSE))) for key in keys])
        self._naming_keys = [_derived(key, NAMING) for key in keys]
        self._names: dict[str, tuple[str, ...]] = {}

    def __repr__(self) -> str:
        return "<SecretCipher>"

    def encrypt(self, text: str, *, bound_to: str) -> str:
        """Encrypt a text for one place, named by table, column and row; the same text gives another result each time.

        The name must be one that whoever writes to the table cannot choose: a primary key.
        """
        nonce = os.urandom(NONCE_BYTES)
        encrypted = self._ciphers[0].encrypt(nonce, text.encode(), bound_to.encode())
        return BOUND + base64.urlsafe_b64encode(nonce + encrypted).decode()

    def decrypt(self, text: str, *, bound_to: str) -> str:
        """Decrypt what encrypt() made for this place; raise SecretUnreadable when no key fits or it is not as made."""
        if text.startswith(BOUND):
            for cipher in self._ciphers:
                try:
                    sealed = base64.b64decode(text[len(BOUND) :].encode(), altchars=b"-_", validate=True)
                    return cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], bound_to.encode()).decode()
                except (InvalidTag, binascii.Error, ValueError):
                    continue
        raise SecretUnreadable

    def decrypt_unbound(self, text: str) -> str:
        """Decrypt what an earlier version stored, bound to nothing; only to bind it, as it may have been copied."""
        try:
            return self._unbound.decrypt(text.encode()).decode()
        except (InvalidToken, ValueError):
            raise SecretUnreadable from None

    def encrypt_unbound(self, text: str) -> str:
        """Encrypt a text as an earlier version reads it; for a migration that is taken back."""
        return self._unbound.encrypt(text.encode()).decode()

    def key_id(self, secret: str) -> str:
        """Return a short name for a secret; without SECRETS_KEYS nobody can find out by it whether a guess is right."""
        return self.key_ids(secret)[0]

    def key_ids(self, secret: str) -> tuple[str, ...]:
        """Return the names that a secret has had with each of the keys, the newest first."""
        # Kept, since each webhook asks for one: there are as many as there are secrets in the settings.
        if (names := self._names.get(secret)) is None:
            names = self._names[secret] = tuple(_name(secret, key) for key in self._naming_keys)
        return names


def _name(secret: str, key: bytes) -> str:
    return hmac.digest(key, secret.encode(), "sha256").hex()[:KEY_ID_CHARACTERS]


def _derived(key: str, purpose: bytes) -> bytes:
    # No salt: there is nowhere to keep one, and the keys are random texts rather than passwords.
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=purpose).derive(key.encode())

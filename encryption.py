"""Secrets at rest: encrypted before they go into the database, decrypted after they come out.

Called by whoever stores or uses the keys of an endpoint. Never reads a setting or a table.
"""

import base64
from collections.abc import Sequence

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from config import SECRET_CHARACTERS_MIN
from errors import SecretUnreadable

PURPOSE = b"kopeck secrets at rest"
"""Makes the derived keys good for this alone; with another value nothing that is stored could be decrypted."""


class SecretCipher:
    """Encrypts with the newest key and decrypts with any, so that keys can be changed while secrets are stored."""

    def __init__(self, keys: Sequence[str]) -> None:
        """Take the texts of SECRETS_KEYS, newest first; raise ValueError when there is none or one is short."""
        if not keys or any(len(key) < SECRET_CHARACTERS_MIN for key in keys):
            raise ValueError(f"SECRETS_KEYS needs one key or more, each of at least {SECRET_CHARACTERS_MIN} characters")
        self._fernets = MultiFernet([Fernet(_derived(key)) for key in keys])

    def __repr__(self) -> str:
        return "<SecretCipher>"

    def encrypt(self, text: str) -> str:
        """Encrypt a text; the same text gives another result each time."""
        return self._fernets.encrypt(text.encode()).decode()

    def decrypt(self, text: str) -> str:
        """Decrypt what encrypt() made; raise SecretUnreadable when no key fits or it is not as it was made."""
        try:
            return self._fernets.decrypt(text.encode()).decode()
        except (InvalidToken, ValueError):
            raise SecretUnreadable(
                "A stored secret cannot be decrypted: SECRETS_KEYS must still list the key that it was encrypted with; "
                "if it does, the stored text was changed."
            ) from None


def _derived(key: str) -> bytes:
    # No salt: there is nowhere to keep one, and the keys are random texts rather than passwords.
    derived = HKDF(algorithm=SHA256(), length=32, salt=None, info=PURPOSE).derive(key.encode())
    return base64.urlsafe_b64encode(derived)

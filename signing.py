"""The only signing code: verify() for the two ways in which a bank may sign, sign…() for those and for our own events.

Called by the banks, the deliveries, the CLI and the tests, which therefore sign for real. Never parses a body.
"""

import base64
import binascii
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from secrets import token_bytes, token_hex

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from werkzeug.datastructures import Headers

from enums import SignatureScheme
from errors import SecretUnusable, SignatureRejected

TOLERANCE_SECONDS = 300
"""How far a Standard Webhooks timestamp may be from our clock, either way."""

X_SIGNATURE = re.compile(r"(?:sha256=)?([0-9A-Fa-f]{64})", re.ASCII)
DOCUMENT_SIGNATURE = re.compile(r"[0-9a-f]{128}", re.ASCII)
WHOLE_SECONDS = re.compile(r"[0-9]{1,12}", re.ASCII)

MESSAGE_ID_CHARACTERS_MAX = 255
"""The longest `webhook-id` by which a repeat is known."""

SECRET_BYTES = 32
"""How many random bytes a new secret has; an ed25519 private key is as long by its nature."""

PRIVATE_KEYS_KEPT = 256
"""How many private keys stay ready for use: to make one ready costs about as much as to sign with it."""


@dataclass(frozen=True, kw_only=True)
class Signature:
    """A signature that held: by which scheme, with which secret, how old; `message_id` where that was signed too."""

    scheme: SignatureScheme
    key_position: int
    age_seconds: int | None
    message_id: str | None = None


def sign(body: bytes, secret: str) -> str:
    """Return the X-Signature of a raw body: lower-case hex of HMAC-SHA256, keyed with the secret's UTF-8 bytes."""
    return hmac.digest(secret.encode(), body, "sha256").hex()


def sign_standard(body: bytes, secret: str, *, message_id: str, timestamp: int) -> str:
    """Return the `webhook-signature` of a body as Standard Webhooks (v1) defines it.

    The key is the base64 text after an optional `whsec_`; raises ValueError when the secret is not base64.
    Source: the Standard Webhooks specification and its reference libraries.
    """
    signed = _standard_text(body, message_id, timestamp)
    digest = hmac.digest(_standard_key(secret), signed, "sha256")
    return f"v1,{base64.b64encode(digest).decode()}"


def sign_ed25519(body: bytes, private_key: str, *, message_id: str, timestamp: int) -> str:
    """Return the `webhook-signature` of a body as Standard Webhooks (v1a) defines it.

    The key is the base64 text of the 32-byte seed after an optional `whsk_`; raises ValueError when it is not.
    Source: the Standard Webhooks specification and its reference library in Go.
    """
    signed = _standard_text(body, message_id, timestamp)
    return f"v1a,{base64.b64encode(_private_key(private_key).sign(signed)).decode()}"


def new_secret() -> str:
    """Make a secret for X-Signature: 64 hex characters."""
    return token_hex(SECRET_BYTES)


def new_standard_secret() -> str:
    """Make a secret for v1: `whsec_` and base64."""
    return f"whsec_{base64.b64encode(token_bytes(SECRET_BYTES)).decode()}"


def new_private_key() -> str:
    """Make a private key for v1a: `whsk_` and base64 of its seed."""
    return f"whsk_{base64.b64encode(token_bytes(SECRET_BYTES)).decode()}"


def public_key(private_key: str) -> str:
    """Return what a receiver verifies v1a with: `whpk_` and base64 of the public key."""
    return f"whpk_{base64.b64encode(_private_key(private_key).public_key().public_bytes_raw()).decode()}"


def sign_document(content: bytes, private_key: str) -> str:
    """Return the ed25519 signature of a document, as 128 hex digits; the key as for sign_ed25519()."""
    return _private_key(private_key).sign(content).hex()


def document_holds(content: bytes, signature: str, public_key: str) -> bool:
    """Return whether a document was signed so with the private half of a key, `whpk_` and base64."""
    if not DOCUMENT_SIGNATURE.fullmatch(signature):
        return False
    try:
        key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public_key.removeprefix("whpk_"), validate=True))
        key.verify(bytes.fromhex(signature), content)
    except (ValueError, InvalidSignature):
        return False
    return True


def problem_with_private_key(text: str) -> str | None:
    """Say why nothing could be signed with a key, or return None."""
    try:
        _private_key(text)
    except ValueError:
        return "must be whsk_ and base64 of 32 random bytes"
    return None


def problem_with(secret: str) -> str | None:
    """Say why nothing could be verified with a secret that a bank signs with, or return None."""
    if secret.startswith(("whpk_", "whsk_")):
        return "holds a key for signatures of another kind (ed25519): a bank signs with a secret that both know"
    if secret.startswith("whsec_") and not _is_standard_key(secret):
        return "holds a secret that begins with whsec_ and is no base64 behind: was it copied whole?"
    return None


def verify(headers: Headers, body: bytes, *, secrets: Sequence[str], now: datetime) -> Signature:
    """Check the signature of a raw body against every current secret, in constant time.

    Reads `X-Signature`, or else the three Standard Webhooks headers. Raises SignatureRejected, or SecretUnusable when
    none of the secrets is one of Standard Webhooks.
    """
    if "X-Signature" in headers:
        return _verify_x_signature(headers["X-Signature"], body, secrets)
    if "webhook-signature" in headers:
        return _verify_standard(headers, body, secrets, now)
    raise SignatureRejected("Send X-Signature: the hex HMAC-SHA256 of the raw body.")


def _verify_x_signature(header: str, body: bytes, secrets: Sequence[str]) -> Signature:
    shape = X_SIGNATURE.fullmatch(header.strip())
    if shape is None:
        raise SignatureRejected("X-Signature must be the 64 hex digits of an HMAC-SHA256.")
    given = shape[1].lower()
    position = _matching([sign(body, secret) for secret in secrets], [given])
    return Signature(scheme=SignatureScheme.X_SIGNATURE, key_position=position, age_seconds=None)


def _verify_standard(headers: Headers, body: bytes, secrets: Sequence[str], now: datetime) -> Signature:
    message_id, sent_at = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not message_id or not WHOLE_SECONDS.fullmatch(sent_at):
        raise SignatureRejected("webhook-id and webhook-timestamp (seconds since 1970) must come with the signature.")
    age_seconds = int(now.timestamp()) - int(sent_at)
    if abs(age_seconds) > TOLERANCE_SECONDS:
        raise SignatureRejected(f"webhook-timestamp is more than {TOLERANCE_SECONDS} seconds from our clock.")
    usable = [secret for secret in secrets if _is_standard_key(secret)]
    if not usable:
        raise SecretUnusable
    expected = [sign_standard(body, secret, message_id=message_id, timestamp=int(sent_at)) for secret in usable]
    secret = usable[_matching(expected, headers["webhook-signature"].split(" "))]
    return Signature(
        scheme=SignatureScheme.STANDARD_WEBHOOKS,
        key_position=secrets.index(secret),
        age_seconds=age_seconds,
        message_id=message_id if len(message_id) <= MESSAGE_ID_CHARACTERS_MAX else None,
    )


def _matching(expected: Sequence[str], given: Sequence[str]) -> int:
    """Return the place of the first expected signature that was given; look at all of them whatever happens."""
    matches = [
        any([hmac.compare_digest(ours.encode(), theirs.encode()) for theirs in given])  # noqa: C419 - no early exit
        for ours in expected
    ]
    if True not in matches:
        raise SignatureRejected("No current secret gives this signature. Sign the raw body, byte for byte as sent.")
    return matches.index(True)


def _is_standard_key(secret: str) -> bool:
    try:
        return bool(_standard_key(secret))
    except ValueError:
        return False


def _standard_key(secret: str) -> bytes:
    try:
        return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error:
        raise ValueError("a Standard Webhooks secret is base64, with or without whsec_ in front") from None


def _standard_text(body: bytes, message_id: str, timestamp: int) -> bytes:
    return f"{message_id}.{timestamp}.".encode() + body


@lru_cache(maxsize=PRIVATE_KEYS_KEPT)
def _private_key(text: str) -> Ed25519PrivateKey:
    try:
        return Ed25519PrivateKey.from_private_bytes(base64.b64decode(text.removeprefix("whsk_"), validate=True))
    except ValueError:
        raise ValueError("a Standard Webhooks private key is base64 of 32 bytes, with or without whsk_") from None

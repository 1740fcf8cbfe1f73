"""The only HMAC code: sign() and verify() for both ways in which a bank may sign a webhook.

Called by the banks, the CLI and the tests, which therefore sign for real. Never parses a body.
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from werkzeug.datastructures import Headers

from errors import SignatureRejected

TOLERANCE_SECONDS = 300
"""How far a Standard Webhooks timestamp may be from our clock, either way."""

X_SIGNATURE = re.compile(r"(?:sha256=)?([0-9A-Fa-f]{64})", re.ASCII)
WHOLE_SECONDS = re.compile(r"[0-9]{1,12}", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Signature:
    """A signature that held: by which scheme, with which secret, how old."""

    scheme: str
    key_id: str
    key_position: int
    age_seconds: int | None


def sign(body: bytes, secret: str) -> str:
    """Return the X-Signature of a raw body: lower-case hex of HMAC-SHA256, keyed with the secret's UTF-8 bytes."""
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def sign_standard(body: bytes, secret: str, *, message_id: str, timestamp: int) -> str:
    """Return the `webhook-signature` of a body as Standard Webhooks (v1) defines it.

    The key is the base64 text after an optional `whsec_`; raises ValueError when the secret is not base64.
    Source: the Standard Webhooks specification and its reference libraries.
    """
    signed = f"{message_id}.{timestamp}.".encode() + body
    digest = hmac.new(_standard_key(secret), signed, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def key_id(secret: str) -> str:
    """Return a short name for a secret that can be stored and shown without giving it away."""
    return hashlib.sha256(b"kopeck key id:" + secret.encode()).hexdigest()[:12]


def verify(headers: Headers, body: bytes, *, secrets: Sequence[str], now: datetime) -> Signature:
    """Check the signature of a raw body against every current secret, in constant time.

    Reads `X-Signature`, or else the three Standard Webhooks headers. Raises SignatureRejected.
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
    return Signature(scheme="x-signature", key_id=key_id(secrets[position]), key_position=position, age_seconds=None)


def _verify_standard(headers: Headers, body: bytes, secrets: Sequence[str], now: datetime) -> Signature:
    message_id, sent_at = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not message_id or not WHOLE_SECONDS.fullmatch(sent_at):
        raise SignatureRejected("webhook-id and webhook-timestamp (seconds since 1970) must come with the signature.")
    age_seconds = int(now.timestamp()) - int(sent_at)
    if abs(age_seconds) > TOLERANCE_SECONDS:
        raise SignatureRejected(f"webhook-timestamp is more than {TOLERANCE_SECONDS} seconds from our clock.")
    usable = [secret for secret in secrets if _is_standard_key(secret)]
    expected = [sign_standard(body, secret, message_id=message_id, timestamp=int(sent_at)) for secret in usable]
    secret = usable[_matching(expected, headers["webhook-signature"].split(" "))]
    return Signature(
        scheme="standard-webhooks", key_id=key_id(secret), key_position=secrets.index(secret), age_seconds=age_seconds
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

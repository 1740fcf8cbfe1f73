"""One event on its way to one endpoint: how it is written, how it is signed, what came back.

Called by the worker that empties the outbox. Never touches a table, and never decides what becomes of an attempt.
"""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from werkzeug.http import parse_date

import signing
from enums import Scheme
from http_client.client import Client
from http_client.connection import Unreachable
from outbox.delivery import Attempt, ClaimedDelivery, EndpointSnapshot
from outbox.endpoint_keys import Key
from rules import rfc3339

EXCERPT_CHARACTERS_MAX = 2048
"""How much of an answer is kept for whoever looks into a failure."""

DURATION_MS_MAX = 2**31 - 1

RETRY_AFTER = re.compile(r"(-?)([0-9]{1,9})", re.ASCII)
"""Whole seconds; what has more digits lies decades ahead and is no advice."""

UNSTORABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""Control characters but tab and newline: PostgreSQL stores no NUL, and a terminal obeys the others."""


def build_request(delivery: ClaimedDelivery, *, now: datetime) -> tuple[bytes, dict[str, str]]:
    """Return the body and the headers that carry a delivery, signed over exactly these bytes.

    Raises ValueError when the delivery itself is unusable: no current key, or data that is not an object of ours.
    """
    envelope = {"id": str(delivery.event_id), "type": delivery.event_type, "timestamp": rfc3339(delivery.occurred_at)}
    data = _members(delivery.data)
    body = _body(delivery.endpoint.scheme, envelope, data)
    # Every scheme carries these two, so that a receiver can tell a repeat; only `standard` signs them.
    stamp = {"webhook-id": envelope["id"], "webhook-timestamp": str(int(now.timestamp()))}
    proof = _proof(delivery.endpoint.scheme, body, _current(delivery.endpoint.keys, now), stamp)
    if delivery.endpoint.scheme is Scheme.ACQUIREMOCK and "payment_id" in data:
        proof["X-Payment-ID"] = str(data["payment_id"])
    return body, {"Content-Type": "application/json", **stamp, **proof}


def send(
    client: Client,
    delivery: ClaimedDelivery,
    *,
    clock: Callable[[], datetime],
    is_current: Callable[[EndpointSnapshot], bool] | None = None,
) -> Attempt:
    """Send a delivery once and return what came of it; nothing that a receiver does raises.

    Raises Withdrawn if the endpoint is not as it was claimed any more when the first byte would go out.
    """
    is_wanted = None if is_current is None else partial(is_current, delivery.endpoint)
    started_at = clock()
    body, headers = build_request(delivery, now=started_at)
    answer, error = None, None
    try:
        answer = client.post(delivery.endpoint.url, body, headers, is_wanted=is_wanted)
    except Unreachable as reason:
        error = str(reason)
    ended_at = clock()
    return Attempt(
        started_at=started_at,
        # The clock may be set back meanwhile, or forward by a month.
        duration_ms=min(max(0, round((ended_at - started_at).total_seconds() * 1000)), DURATION_MS_MAX),
        status=answer.status if answer else None,
        excerpt=_excerpt(answer.body) if answer else "",
        error=error,
        retry_after_seconds=_retry_after(answer.headers.get("Retry-After"), ended_at) if answer else None,
    )


def _body(scheme: Scheme, envelope: Mapping[str, str], data: Mapping[str, Any]) -> bytes:
    if scheme is Scheme.STANDARD:
        return _compact({**envelope, "data": data})
    if not data.keys().isdisjoint(envelope):
        raise ValueError("data repeats a member that every event has")
    flat = {**envelope, **_as_announced_by_us(data)}
    if scheme is Scheme.X_SIGNATURE:
        return _compact(flat)
    # Byte for byte what a receiver gets that reads the body and writes it again, as such receivers do to verify it.
    return json.dumps(flat, sort_keys=True, allow_nan=False).encode()


def _as_announced_by_us(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the members of a credit as a bank's webhook says them: whoever reads it credits whom we have credited.

    Done here and not when an event is recorded, so that those of older versions are sent so too. None of them has a
    `forward_id`: each keeps the operation under which it may have been sent before.
    """
    members = dict(data)
    operation_id = members.pop("forward_id", data.get("operation_id"))
    for name, ours in (("operation_id", operation_id), ("payer_inn", data.get("organization"))):
        if name in data and ours is not None and ours != data[name]:
            members |= {name: ours, f"announced_{name}": data[name]}
    return members


def _compact(members: Mapping[str, Any]) -> bytes:
    return json.dumps(members, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def _members(text: str) -> dict[str, Any]:
    data = json.loads(text)
    if not isinstance(data, dict):
        raise ValueError("data is not a JSON object")
    return data


def _current(keys: Sequence[Key], now: datetime) -> list[Key]:
    current = [key for key in keys if key.until is None or now < key.until]
    if not current:
        raise ValueError("no key of this endpoint is current")
    return current


def _proof(scheme: Scheme, body: bytes, keys: Sequence[Key], stamp: Mapping[str, str]) -> dict[str, str]:
    if scheme is not Scheme.STANDARD:
        # There is room for one signature. The oldest key goes on until its time is up, and so the receiver has all of
        # that time to accept the new one as well; the new one at once would be refused until somebody has put it in.
        return {"X-Signature": signing.sign(body, keys[-1].secret)}
    message_id, timestamp = stamp["webhook-id"], int(stamp["webhook-timestamp"])
    v1 = [signing.sign_standard(body, key.secret, message_id=message_id, timestamp=timestamp) for key in keys]
    v1a = [
        signing.sign_ed25519(body, key.private_key, message_id=message_id, timestamp=timestamp)
        for key in keys
        if key.private_key is not None
    ]
    return {"webhook-signature": " ".join([*v1, *v1a])}


def _excerpt(body: bytes) -> str:
    # Many servers end the lines of their error pages in \r\n, which is no oddity to mark.
    text = body.decode(errors="replace").replace("\r\n", "\n")
    return UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", text[:EXCERPT_CHARACTERS_MAX])


def _retry_after(header: str | None, now: datetime) -> int | None:
    """Read whole seconds or an HTTP date as seconds from now; None when it is neither."""
    text = (header or "").strip()
    if shape := RETRY_AFTER.fullmatch(text):
        return 0 if shape[1] else int(shape[2])
    try:
        moment = parse_date(text)
    except (ValueError, OverflowError):
        return None
    return None if moment is None else max(0, math.ceil((moment - now).total_seconds()))

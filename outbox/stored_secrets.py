"""Whether what endpoints are signed with can be read by the running SECRETS_KEYS, and encrypting it anew.

Called by workers, by `/readyz` and by the shell. Returns numbers of endpoints, never what is stored.
"""

import logging
from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple
from weakref import WeakKeyDictionary

from sqlalchemy import select, update

from database.bulk import table_of
from database.session import AnyRow, look_up, survives_deadlock, transaction
from encryption import SecretCipher
from enums import IncidentKind
from errors import SecretUnreadable
from ledger import incidents
from models import Endpoint
from outbox import endpoint_keys

ENDPOINTS = table_of(Endpoint)
LISTED_MAX = 20

_reported: WeakKeyDictionary[SecretCipher, set[tuple[int, ...]]] = WeakKeyDictionary()
"""What this process has told of, by its keys."""

_read: WeakKeyDictionary[SecretCipher, dict[int, str]] = WeakKeyDictionary()
"""By its keys, what is stored for each endpoint, still encrypted, that this process has found readable."""

log = logging.getLogger("kopeck")

STORED = select(*ENDPOINTS.c["id", "secrets", "disabled_at"]).where(ENDPOINTS.c.deleted_at.is_(None))


class InUse(NamedTuple):
    """The endpoints that are not disabled, by whether their secrets can be read."""

    readable: tuple[int, ...]
    unreadable: tuple[int, ...]


def in_use(cipher: SecretCipher) -> InUse:
    """Look at the secrets of all endpoints that are not disabled.

    What could be read once can be read again: only what is new is decrypted, and what could not be read. `/readyz` is
    asked every few seconds, and decrypting a thousand would keep the webhooks of the same process waiting each time.
    """
    rows = look_up(STORED.where(ENDPOINTS.c.disabled_at.is_(None)).order_by(ENDPOINTS.c.id))
    known = _read.get(cipher, {})
    # Replaced as a whole: two requests may look at once, and what is stored no more is forgotten.
    readable = {row.id: row.secrets for row in rows if known.get(row.id) == row.secrets or _is_readable(cipher, row)}
    _read[cipher] = readable
    return InUse(tuple(readable), tuple(row.id for row in rows if row.id not in readable))


def unreadable(cipher: SecretCipher) -> tuple[int, ...]:
    """Return the endpoints whose secrets cannot be read, the oldest first; disabled ones too."""
    return tuple(row.id for row in look_up(STORED.order_by(ENDPOINTS.c.id)) if not _is_readable(cipher, row))


def report(cipher: SecretCipher, *, now: datetime) -> tuple[int, ...]:
    """Tell a person, once in each process, which enabled endpoints a worker cannot sign for; return them."""
    found = in_use(cipher).unreadable
    reported = _reported.setdefault(cipher, set())
    if found and found not in reported:
        log.error("endpoints %s cannot be signed for, their deliveries wait: %s", listed(found), SecretUnreadable.words)
        _record(found, now)
        reported.add(found)
    return found


def listed(endpoint_ids: Collection[int]) -> str:
    """Return numbers of endpoints as a text; of very many the first ones."""
    some = ", ".join(str(endpoint_id) for endpoint_id in sorted(endpoint_ids)[:LISTED_MAX])
    return some if len(endpoint_ids) <= LISTED_MAX else f"{some} and {len(endpoint_ids) - LISTED_MAX} more"


@survives_deadlock
def _record(endpoint_ids: Collection[int], now: datetime) -> None:
    with transaction() as session:
        incidents.record(
            session,
            IncidentKind.UNREADABLE_KEYS,
            source="outbox",
            operation_id=None,
            facts={"endpoint_ids": list(endpoint_ids)},
            body=b"",
            key_id="",
            now=now,
        )


@survives_deadlock
def reencrypt(cipher: SecretCipher, *, unbound: Collection[int] = ()) -> tuple[int, tuple[int, ...]]:
    """Encrypt all that can be read with the newest key; return how many that were, and which cannot be read.

    Of the endpoints in `unbound`, for which a person vouches, also what an earlier version has stored.
    """
    done, unread = 0, []
    with transaction() as session:
        for row in session.execute(STORED.order_by(ENDPOINTS.c.id).with_for_update(key_share=True)).all():
            try:
                keys = endpoint_keys.decrypt_keys(
                    cipher, row.secrets, endpoint_id=row.id, unbound_allowed=row.id in unbound
                )
            except SecretUnreadable:
                unread.append(row.id)
                continue
            anew = endpoint_keys.encrypt_keys(cipher, keys, endpoint_id=row.id)
            session.execute(update(ENDPOINTS).where(ENDPOINTS.c.id == row.id).values(secrets=anew))
            done += 1
    return done, tuple(unread)


def _is_readable(cipher: SecretCipher, row: AnyRow) -> bool:
    try:
        endpoint_keys.decrypt_keys(cipher, row.secrets, endpoint_id=row.id)
    except SecretUnreadable:
        return False
    return True

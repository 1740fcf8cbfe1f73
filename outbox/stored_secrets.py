"""Whether what endpoints are signed with can be read by the running SECRETS_KEYS, and encrypting it anew.

Called by workers, by `/readyz` and by the shell. Returns numbers of endpoints, never what is stored.
"""

from collections.abc import Collection

from sqlalchemy import select, update

from database.bulk import table_of
from database.session import AnyRow, look_up, survives_deadlock, transaction
from encryption import SecretCipher
from errors import SecretUnreadable
from models import Endpoint
from outbox import endpoint_keys

ENDPOINTS = table_of(Endpoint)
STORED = select(*ENDPOINTS.c["id", "secrets", "disabled_at"]).where(ENDPOINTS.c.deleted_at.is_(None))


def unreadable(cipher: SecretCipher) -> tuple[int, ...]:
    """Return the endpoints whose secrets cannot be read, the oldest first."""
    return tuple(row.id for row in look_up(STORED.order_by(ENDPOINTS.c.id)) if not _is_readable(cipher, row))


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

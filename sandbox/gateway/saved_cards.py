"""Whose e-mail a browser has proven to read, and the test cards that this e-mail keeps.

Called by the use cases inside their transaction and by the doors of /api/auth. A cookie that only names an e-mail
proves nothing here; what proves it is a session that was begun with a code from its mail.
"""

import hashlib
import hmac
import secrets
from datetime import datetime, timedelta

from sandbox import context, store
from sandbox.gateway import mailbox
from sandbox.gateway.model import Invoice, SavedCard
from sandbox.store import Connection

CODE_LIFETIME = timedelta(minutes=10)
CODE_TRIES_MAX = 5
CODE_RESEND_AFTER = timedelta(seconds=30)
SESSION_LIFETIME = timedelta(days=30)


def send_code(email: str) -> None:
    """Mail a code to an address, unless one went there just now."""
    email, now = normal(email), context.now()
    with context.store().writing() as connection:
        row = connection.execute("SELECT sent_at FROM email_codes WHERE email = ?", (email,)).fetchone()
        if row is not None and now < store.moment(row["sent_at"]) + CODE_RESEND_AFTER:
            return
        code = f"{secrets.randbelow(1_000_000):06d}"
        connection.execute(
            "INSERT OR REPLACE INTO email_codes (email, code, expires_at, sent_at) VALUES (?, ?, ?, ?)",
            (email, code, store.written(now + CODE_LIFETIME), store.written(now)),
        )
        mailbox.write(
            connection,
            recipient=email,
            subject=f"Your code is {code}",
            body=f"Enter {code} to see your saved cards. It is good for {CODE_LIFETIME.seconds // 60} minutes.\n",
            kind="email_code",
            code=code,
            now=now,
        )
    context.sandbox().bell.set()


def verify_code(email: str, code: str, session: str | None) -> str | None:
    """Return a session that this e-mail is proven in, the given one if it is one of ours; None for a wrong code.

    Raises LookupError when no code is waiting for this e-mail.
    """
    email, now = normal(email), context.now()
    with context.store().writing() as connection:
        row = connection.execute("SELECT * FROM email_codes WHERE email = ?", (email,)).fetchone()
        is_waiting = row is not None and now < store.moment(row["expires_at"]) and row["failures"] < CODE_TRIES_MAX
        if is_waiting and hmac.compare_digest(row["code"].encode(), code.strip().encode()):
            connection.execute("DELETE FROM email_codes WHERE email = ?", (email,))
            return _prove(connection, email, session, now)
        connection.execute("UPDATE email_codes SET failures = failures + 1 WHERE email = ?", (email,))
    if not is_waiting:
        raise LookupError
    return None


def is_proven(connection: Connection, email: str, session: str | None, now: datetime) -> bool:
    """Tell whether a session was begun with a code from this e-mail."""
    return session is not None and (
        connection.execute(
            "SELECT 1 FROM sessions WHERE token_hash = ? AND email = ? AND expires_at > ?",
            (_hash(session), normal(email), store.written(now)),
        ).fetchone()
        is not None
    )


def cards_of(connection: Connection, email: str) -> list[SavedCard]:
    """Return the cards that an e-mail keeps."""
    rows = connection.execute("SELECT * FROM saved_cards WHERE email = ? ORDER BY id", (normal(email),))
    return [SavedCard(id=row["id"], mask=row["mask"], expiry=row["expiry"]) for row in rows]


def number_of(connection: Connection, card_id: int, email: str) -> str | None:
    """Return the number of a test card that an e-mail keeps."""
    row = connection.execute(
        "SELECT number FROM saved_cards WHERE id = ? AND email = ?", (card_id, normal(email))
    ).fetchone()
    return None if row is None else str(row["number"])


def want_card(connection: Connection, invoice_id: str, *, number: str, expiry: str) -> None:
    """Remember that a card is to be kept if this payment succeeds."""
    connection.execute(
        "INSERT OR REPLACE INTO wanted_cards (invoice_id, number, expiry) VALUES (?, ?, ?)",
        (invoice_id, number, expiry[:7]),
    )


def forget_wanted(connection: Connection, invoice_id: str) -> None:
    """Take back a wish of an earlier try."""
    connection.execute("DELETE FROM wanted_cards WHERE invoice_id = ?", (invoice_id,))


def keep_card_of(connection: Connection, invoice: Invoice, *, now: datetime) -> None:
    """Keep the card of a payment that succeeded, once for each e-mail and card, if its payer wanted that."""
    connection.execute(
        "INSERT INTO saved_cards (email, mask, number, expiry, created_at)"
        " SELECT :email, :mask, number, expiry, :now FROM wanted_cards WHERE invoice_id = :id"
        " ON CONFLICT (email, number) DO UPDATE SET expiry = excluded.expiry",
        {"email": invoice.email, "mask": invoice.card_mask, "now": store.written(now), "id": invoice.id},
    )
    forget_wanted(connection, invoice.id)


def normal(email: str) -> str:
    """Return an e-mail address as it is compared."""
    return email.strip().lower()


def _prove(connection: Connection, email: str, session: str | None, now: datetime) -> str:
    """Begin a session, or have one of ours hold another e-mail; a token that is not ours is never taken over."""
    known = session is not None and (
        connection.execute("SELECT 1 FROM sessions WHERE token_hash = ?", (_hash(session),)).fetchone() is not None
    )
    token = session if known and session else secrets.token_urlsafe(32)
    connection.execute(
        "INSERT OR REPLACE INTO sessions (token_hash, email, expires_at) VALUES (?, ?, ?)",
        (_hash(token), email, store.written(now + SESSION_LIFETIME)),
    )
    return token


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()

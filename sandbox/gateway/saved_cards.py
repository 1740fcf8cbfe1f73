"""The saved test cards of an e-mail address, and the sessions that have verified the address.

A session verifies an address with a code from a mail. The cookie that only holds the address verifies nothing.
"""

import hashlib
import hmac
import secrets
from datetime import datetime, timedelta

from sandbox import context, store
from sandbox.gateway import mail_texts, mailbox
from sandbox.gateway.model import Invoice, SavedCard
from sandbox.store import Connection

CODE_LIFETIME = timedelta(minutes=10)
CODE_ATTEMPTS_MAX = 5
CODE_RESEND_AFTER = timedelta(seconds=30)
SESSION_LIFETIME = timedelta(days=30)


def send_code(email: str, language: str) -> None:
    """Mail a code to an address, unless one was sent a moment ago."""
    email, now = normalize_email(email), context.now()
    with context.store().writing() as connection:
        row = connection.execute("SELECT sent_at FROM email_codes WHERE email = ?", (email,)).fetchone()
        if row is not None and now < store.moment(row["sent_at"]) + CODE_RESEND_AFTER:
            return
        connection.execute("DELETE FROM email_codes WHERE expires_at <= ?", (store.written(now),))
        connection.execute("DELETE FROM sessions WHERE expires_at <= ?", (store.written(now),))
        code = f"{secrets.randbelow(1_000_000):06d}"
        connection.execute(
            "INSERT OR REPLACE INTO email_codes (email, code, expires_at, sent_at) VALUES (?, ?, ?, ?)",
            (email, code, store.written(now + CODE_LIFETIME), store.written(now)),
        )
        mailbox.write(
            connection,
            recipient=email,
            text=mail_texts.email_code(language, code, CODE_LIFETIME),
            kind="email_code",
            code=code,
            now=now,
        )
    context.sandbox().wake_event.set()


def verify_code(email: str, code: str, session: str | None) -> str | None:
    """Return a session in which the address is verified; None for a wrong code.

    The given session is extended if it exists. Raises LookupError if no code was sent to this address.
    """
    email, now = normalize_email(email), context.now()
    with context.store().writing() as connection:
        row = connection.execute("SELECT * FROM email_codes WHERE email = ?", (email,)).fetchone()
        is_waiting = row is not None and now < store.moment(row["expires_at"]) and row["failures"] < CODE_ATTEMPTS_MAX
        if is_waiting and hmac.compare_digest(row["code"].encode(), code.strip().encode()):
            connection.execute("DELETE FROM email_codes WHERE email = ?", (email,))
            return verify_in_session(connection, email, session, now)
        connection.execute("UPDATE email_codes SET failures = failures + 1 WHERE email = ?", (email,))
    if not is_waiting:
        raise LookupError
    return None


def is_verified(connection: Connection, email: str, session: str | None, now: datetime) -> bool:
    """Return whether a session has verified an e-mail address."""
    return session is not None and (
        connection.execute(
            "SELECT 1 FROM sessions WHERE token_hash = ? AND email = ? AND expires_at > ?",
            (_hash(session), normalize_email(email), store.written(now)),
        ).fetchone()
        is not None
    )


def verify_in_session(connection: Connection, email: str, session: str | None, now: datetime) -> str:
    """Start a session, or add an address to an existing one; an unknown token is never accepted."""
    known = session is not None and (
        connection.execute("SELECT 1 FROM sessions WHERE token_hash = ?", (_hash(session),)).fetchone() is not None
    )
    token = session if known and session else secrets.token_urlsafe(32)
    connection.execute(
        "INSERT OR REPLACE INTO sessions (token_hash, email, expires_at) VALUES (?, ?, ?)",
        (_hash(token), email, store.written(now + SESSION_LIFETIME)),
    )
    return token


def cards_of(connection: Connection, email: str) -> list[SavedCard]:
    """Return the saved cards of an e-mail address."""
    rows = connection.execute("SELECT * FROM saved_cards WHERE email = ? ORDER BY id", (normalize_email(email),))
    return [SavedCard(id=row["id"], mask=row["mask"], expiry=row["expiry"]) for row in rows]


def number_of(connection: Connection, card_id: int, email: str) -> str | None:
    """Return the number of a saved test card."""
    row = connection.execute(
        "SELECT number FROM saved_cards WHERE id = ? AND email = ?", (card_id, normalize_email(email))
    ).fetchone()
    return None if row is None else str(row["number"])


def add_card_to_save(connection: Connection, invoice_id: str, *, number: str, expiry: str) -> None:
    """Remember to save a card if this payment succeeds."""
    connection.execute(
        "INSERT OR REPLACE INTO wanted_cards (invoice_id, number, expiry) VALUES (?, ?, ?)",
        (invoice_id, number, expiry[:7]),
    )


def remove_card_to_save(connection: Connection, invoice_id: str) -> None:
    """Do not save the card of an earlier attempt."""
    connection.execute("DELETE FROM wanted_cards WHERE invoice_id = ?", (invoice_id,))


def save_card_of(connection: Connection, invoice: Invoice, *, now: datetime) -> None:
    """Save the card of a successful payment if its payer asked for it, once for each address and card."""
    connection.execute(
        "INSERT INTO saved_cards (email, mask, number, expiry, created_at)"
        " SELECT :email, :mask, number, expiry, :now FROM wanted_cards WHERE invoice_id = :id"
        " ON CONFLICT (email, number) DO UPDATE SET expiry = excluded.expiry",
        {"email": invoice.email, "mask": invoice.card_mask, "now": store.written(now), "id": invoice.id},
    )
    remove_card_to_save(connection, invoice.id)


def normalize_email(email: str) -> str:
    """Return an e-mail address in the form that is stored and compared."""
    return email.strip().lower()


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()

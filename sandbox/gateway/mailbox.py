"""The gateway's mails: stored in the inbox, and also sent by SMTP if a server is set.

Only the worker connects to the mail server.
"""

import smtplib
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.errors import MessageError
from email.message import EmailMessage
from urllib.parse import unquote, urlsplit

from sandbox import store
from sandbox.gateway.mail_texts import MailText
from sandbox.store import Connection, Row, Store

SMTP_SECONDS = 10
ATTEMPTS_MAX = 3
RETRY_AFTER = timedelta(seconds=30)


@dataclass(frozen=True, kw_only=True)
class Mail:
    """A mail; `kind` is otp, email_code or receipt, `code` is the code in it, `error` the class of an SMTP error."""

    id: int
    recipient: str
    subject: str
    body: str
    kind: str
    code: str | None
    invoice_id: str | None
    created_at: datetime
    error: str | None


def write(
    connection: Connection,
    *,
    recipient: str,
    text: MailText,
    kind: str,
    now: datetime,
    code: str | None = None,
    invoice_id: str | None = None,
) -> None:
    """Insert a mail; it is due at once."""
    moment = store.written(now)
    connection.execute(
        "INSERT INTO mails (recipient, subject, body, kind, code, invoice_id, created_at, due_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (recipient, text.subject, text.body, kind, code, invoice_id, moment, moment),
    )


def listed(
    connection: Connection, *, recipient: str | None = None, invoice_id: str | None = None, limit: int = 100
) -> list[Mail]:
    """Return mails, newest first."""
    rows = connection.execute(
        "SELECT * FROM mails WHERE (:recipient IS NULL OR recipient = :recipient)"
        " AND (:invoice_id IS NULL OR invoice_id = :invoice_id) ORDER BY id DESC LIMIT :limit",
        {"recipient": recipient, "invoice_id": invoice_id, "limit": limit},
    )
    return [_read(row) for row in rows]


def send_due(database: Store, smtp_url: str | None, now: datetime) -> int:
    """Send due mails; without an SMTP server do nothing. A mail may be sent twice."""
    if smtp_url is None:
        return 0
    with database.writing() as connection:
        rows = connection.execute(
            "UPDATE mails SET attempts = attempts + 1, due_at = CASE WHEN attempts + 1 < :most THEN :later END"
            " WHERE due_at <= :now RETURNING *",
            {"most": ATTEMPTS_MAX, "later": store.written(now + RETRY_AFTER), "now": store.written(now)},
        ).fetchall()
    for row in rows:
        _save_result(database, row["id"], _send_error(smtp_url, _read(row)))
    return len(rows)


def _save_result(database: Store, mail_id: int, error: str | None) -> None:
    with database.writing() as connection:
        if error is None:
            connection.execute("UPDATE mails SET due_at = NULL, error = NULL WHERE id = ?", (mail_id,))
        else:
            connection.execute("UPDATE mails SET error = ? WHERE id = ?", (error, mail_id))


def _send_error(smtp_url: str, mail: Mail) -> str | None:
    try:
        _send(smtp_url, mail)
    except (OSError, smtplib.SMTPException, MessageError, ValueError) as error:
        # Only the class: the server's message may contain anything.
        return type(error).__name__
    return None


def _send(smtp_url: str, mail: Mail) -> None:
    parts = urlsplit(smtp_url)
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "sandbox@localhost", mail.recipient, mail.subject
    message.set_content(mail.body)
    host, tls = parts.hostname or "localhost", ssl.create_default_context()
    server: smtplib.SMTP
    if parts.scheme == "smtps":
        server = smtplib.SMTP_SSL(host, parts.port or 465, timeout=SMTP_SECONDS, context=tls)
    else:
        server = smtplib.SMTP(host, parts.port or 25, timeout=SMTP_SECONDS)
    with server:
        if parts.username:
            if parts.scheme == "smtp":
                server.starttls(context=tls)
            server.login(unquote(parts.username), unquote(parts.password or ""))
        server.send_message(message)


def newest_code(mails: Sequence[Mail]) -> str | None:
    """Return the newest code in a list of mails."""
    return next((mail.code for mail in mails if mail.code), None)


def _read(row: Row) -> Mail:
    return Mail(
        id=row["id"],
        recipient=row["recipient"],
        subject=row["subject"],
        body=row["body"],
        kind=row["kind"],
        code=row["code"],
        invoice_id=row["invoice_id"],
        created_at=store.moment(row["created_at"]),
        error=row["error"],
    )

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
SENDER = "sandbox@localhost"
ATTEMPTS_MAX = 3
RETRY_AFTER = timedelta(seconds=30)

MAILS_MAX = 5000
"""How many mails are kept; older ones are deleted."""

HOUR = timedelta(hours=1)
SENT_PER_HOUR_MAX = 100
SENT_TO_ONE_PER_HOUR_MAX = 10
"""How many mails leave by SMTP in an hour, in all and to one address: who can pay can choose the address."""

TOO_MANY = "TooManyMails"


@dataclass(frozen=True, kw_only=True)
class Mail:
    """A mail; `kind` is otp, email_code or receipt, `code` is the code in it, `error` the class of an SMTP error."""

    id: int
    recipient: str
    subject: str
    body: str
    html: str
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
    """Insert a mail, due at once; delete the oldest beyond what is kept."""
    moment = store.written(now)
    number = connection.execute(
        "INSERT INTO mails (recipient, subject, body, html, kind, code, invoice_id, created_at, due_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (recipient, text.subject, text.body, text.html, kind, code, invoice_id, moment, moment),
    ).lastrowid
    connection.execute("DELETE FROM mails WHERE id <= ?", ((number or 0) - MAILS_MAX,))


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


def find(connection: Connection, mail_id: int) -> Mail | None:
    """Return a mail."""
    row = connection.execute("SELECT * FROM mails WHERE id = ?", (mail_id,)).fetchone()
    return None if row is None else _read(row)


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
        mail = _read(row)
        error = _send_error(smtp_url, mail) if _may_send(database, mail, now) else TOO_MANY
        _save_result(database, mail.id, error, now)
    return len(rows)


def _may_send(database: Store, mail: Mail, now: datetime) -> bool:
    with database.reading() as connection:
        in_all, to_one = connection.execute(
            "SELECT count(*), coalesce(sum(recipient = ?), 0) FROM mails WHERE sent_at > ?",
            (mail.recipient, store.written(now - HOUR)),
        ).fetchone()
    return bool(in_all < SENT_PER_HOUR_MAX and to_one < SENT_TO_ONE_PER_HOUR_MAX)


def _save_result(database: Store, mail_id: int, error: str | None, now: datetime) -> None:
    with database.writing() as connection:
        if error is None:
            connection.execute(
                "UPDATE mails SET due_at = NULL, error = NULL, sent_at = ? WHERE id = ?", (store.written(now), mail_id)
            )
        else:
            # What is too much now is not sent later either: a code would be too old.
            connection.execute(
                "UPDATE mails SET error = :error, due_at = iif(:error = :too_many, NULL, due_at) WHERE id = :id",
                {"error": error, "too_many": TOO_MANY, "id": mail_id},
            )


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
    user = unquote(parts.username or "")
    message["From"], message["To"] = user if "@" in user else SENDER, mail.recipient
    message["Subject"] = mail.subject
    message.set_content(mail.body)
    message.add_alternative(mail.html, subtype="html")
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
            server.login(user, unquote(parts.password or ""))
        server.send_message(message)


def error_text(error: str) -> str:
    """Return why a mail did not leave by SMTP."""
    if error == TOO_MANY:
        return (
            f"It was not sent by SMTP: {SENT_TO_ONE_PER_HOUR_MAX} mails an hour to one address "
            f"and {SENT_PER_HOUR_MAX} in all are the limit."
        )
    return f"The mail server did not take it: {error}."


def newest_code(mails: Sequence[Mail]) -> str | None:
    """Return the newest code in a list of mails."""
    return next((mail.code for mail in mails if mail.code), None)


def _read(row: Row) -> Mail:
    return Mail(
        id=row["id"],
        recipient=row["recipient"],
        subject=row["subject"],
        body=row["body"],
        html=row["html"],
        kind=row["kind"],
        code=row["code"],
        invoice_id=row["invoice_id"],
        created_at=store.moment(row["created_at"]),
        error=row["error"],
    )

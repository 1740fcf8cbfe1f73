"""Every table and every constraint, so that an auditor can read all guarantees at once.

Money is whole kopecks in BIGINT beside a currency; times are aware and in UTC.
The triggers that keep balance_log, delivery_attempts and incident_resolutions append-only are in migrations/versions/.
"""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.mysql import MEDIUMBLOB
from sqlalchemy.orm import Mapped, mapped_column

from database.columns import Base, UtcDateTime, uuid_type
from enums import (
    AccountKind,
    AttemptCause,
    DeliveryStatus,
    DisabledReason,
    IncidentKind,
    LogReason,
    Scheme,
    UnknownInn,
)
from limits import URL_CHARACTERS_MAX
from rules import DOCUMENT_NUMBER_CHARACTERS_MAX, EXTERNAL_ID_CHARACTERS_MAX

CURRENCY = "RUB"
"""The only currency so far; the columns are there so that a second one cannot be mixed in by accident."""

EMPTY_LOG_SHA256 = "0" * 64
"""What stands for the row before the first one in a chain of hashes."""

# SQLite numbers only INTEGER keys by itself; its INTEGER has 64 bits all the same.
NUMBER = BigInteger().with_variant(Integer(), "sqlite")
BODY = LargeBinary().with_variant(MEDIUMBLOB(), "mysql", "mariadb")
BYTEWISE = {
    "mysql_engine": "InnoDB",
    "mysql_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
    "mariadb_engine": "InnoDB",
    "mariadb_charset": "utf8mb4",
    "mariadb_collate": "utf8mb4_bin",
}


def one_of(column: str, values: type[StrEnum]) -> str:
    """Return the CHECK that a column holds nothing but the values of an enum, or NULL where it may."""
    listed = ", ".join(f"'{value}'" for value in values)
    return f"{column} IN ({listed})"


class Organization(Base):
    """Who holds a balance, found by INN; `version` counts the moves of the balance.

    `outside_debits` is the sum of what was taken without asking us: only such debits take a balance below the limit.
    `head_sha256` is the hash of the newest row of its log, or that of an empty log.
    """

    __tablename__ = "organizations"
    __table_args__ = (
        CheckConstraint("balance >= -overdraft_limit - outside_debits", name="balance_within_overdraft"),
        CheckConstraint("version >= 0", name="version_not_negative"),
        CheckConstraint("overdraft_limit >= 0", name="overdraft_limit_not_negative"),
        CheckConstraint("outside_debits >= 0", name="outside_debits_not_negative"),
        BYTEWISE,
    )

    id: Mapped[int] = mapped_column(NUMBER, primary_key=True)
    inn: Mapped[str] = mapped_column(String(12), unique=True)
    name: Mapped[str] = mapped_column(String(255), default="")
    balance: Mapped[int] = mapped_column(BigInteger, default=0)
    currency: Mapped[str] = mapped_column(String(3), default=CURRENCY)
    version: Mapped[int] = mapped_column(BigInteger, default=0)
    overdraft_limit: Mapped[int] = mapped_column(BigInteger, default=0)
    outside_debits: Mapped[int] = mapped_column(BigInteger, default=0)
    head_sha256: Mapped[str] = mapped_column(String(64), default=EMPTY_LOG_SHA256)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class OverdraftLimit(Base):
    """Who let an organisation owe how much, and since when; append-only, without a gap, each chained to the last."""

    __tablename__ = "overdraft_limits"
    __table_args__ = (
        CheckConstraint("number >= 1", name="number_positive"),
        CheckConstraint("overdraft_limit >= 0", name="overdraft_limit_not_negative"),
        BYTEWISE,
    )

    organization_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("organizations.id"), primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    overdraft_limit: Mapped[int] = mapped_column(BigInteger)
    set_by: Mapped[str] = mapped_column(String(255))
    set_at: Mapped[datetime] = mapped_column(UtcDateTime)
    row_sha256: Mapped[str] = mapped_column(String(64))


class Account(Base):
    """Where money of organisations comes from or goes to, such as `bank:plain`; its balance is a sum, kept nowhere."""

    __tablename__ = "accounts"
    __table_args__ = (CheckConstraint(one_of("kind", AccountKind), name="kind_known"), BYTEWISE)

    code: Mapped[str] = mapped_column(String(64), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    currency: Mapped[str] = mapped_column(String(3), default=CURRENCY)


class Payment(Base):
    """Money that reached a balance; the unique operation of a source is what makes a repeated webhook harmless.

    `forward_id` is empty but for payments that an older version handed on under another id: see outbox/events.py.
    """

    __tablename__ = "payments"
    __table_args__ = (
        # The id first: whoever looks for an operation knows it, and hardly two sources share one.
        UniqueConstraint("operation_id", "source"),
        CheckConstraint("amount > 0", name="amount_positive"),
        Index(None, "organization_id", "id"),
        BYTEWISE,
    )

    id: Mapped[UUID] = mapped_column(uuid_type(), primary_key=True)
    operation_id: Mapped[UUID] = mapped_column(uuid_type())
    external_id: Mapped[str | None] = mapped_column(String(EXTERNAL_ID_CHARACTERS_MAX))
    forward_id: Mapped[UUID | None] = mapped_column(uuid_type())
    source: Mapped[str] = mapped_column(String(32))
    organization_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("organizations.id"))
    payer_inn: Mapped[str] = mapped_column(String(12))
    amount: Mapped[int] = mapped_column(BigInteger)
    currency: Mapped[str] = mapped_column(String(3), default=CURRENCY)
    document_number: Mapped[str] = mapped_column(String(DOCUMENT_NUMBER_CHARACTERS_MAX))
    document_date: Mapped[datetime] = mapped_column(UtcDateTime)
    body: Mapped[bytes] = mapped_column(BODY)
    body_sha256: Mapped[str] = mapped_column(String(64))
    key_id: Mapped[str] = mapped_column(String(16))
    received_at: Mapped[datetime] = mapped_column(UtcDateTime)


class Debit(Base):
    """Money that left a balance; append-only, and the unique operation of a source makes a repeat harmless."""

    __tablename__ = "debits"
    __table_args__ = (
        UniqueConstraint("operation_id", "source"),
        CheckConstraint("amount > 0", name="amount_positive"),
        Index(None, "organization_id", "id"),
        BYTEWISE,
    )

    id: Mapped[UUID] = mapped_column(uuid_type(), primary_key=True)
    operation_id: Mapped[UUID] = mapped_column(uuid_type())
    source: Mapped[str] = mapped_column(String(32))
    organization_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("organizations.id"))
    amount: Mapped[int] = mapped_column(BigInteger)
    currency: Mapped[str] = mapped_column(String(3), default=CURRENCY)
    note: Mapped[str] = mapped_column(Text)
    made_by: Mapped[str] = mapped_column(String(255))
    made_at: Mapped[datetime] = mapped_column(UtcDateTime)


class BalanceLog(Base):
    """One move of one balance; append-only, gap-free by version, and explained by exactly one payment or debit.

    `counter_account` is the other side: where the money came from, or went to. `overdraft_limit` is what was allowed at
    that moment. `row_sha256` is over all of it and the row before: see docs/proof.md.
    """

    __tablename__ = "balance_log"
    __table_args__ = (
        CheckConstraint("version >= 1", name="version_positive"),
        CheckConstraint("delta <> 0", name="delta_moves"),
        CheckConstraint("balance_before + delta = balance_after", name="adds_up"),
        CheckConstraint("version > 1 OR balance_before = 0", name="begins_at_zero"),
        CheckConstraint(
            "(delta > 0 AND reason = 'credit' AND payment_id IS NOT NULL AND debit_id IS NULL) OR "
            "(delta < 0 AND reason <> 'credit' AND payment_id IS NULL AND debit_id IS NOT NULL)",
            name="explained",
        ),
        CheckConstraint("reason <> 'debit' OR balance_after >= -overdraft_limit", name="within_overdraft"),
        CheckConstraint(one_of("reason", LogReason), name="reason_known"),
        BYTEWISE,
    )

    organization_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("organizations.id"), primary_key=True)
    version: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    delta: Mapped[int] = mapped_column(BigInteger)
    balance_before: Mapped[int] = mapped_column(BigInteger)
    balance_after: Mapped[int] = mapped_column(BigInteger)
    payment_id: Mapped[UUID | None] = mapped_column(ForeignKey("payments.id"), unique=True)
    reason: Mapped[str] = mapped_column(String(32))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    debit_id: Mapped[UUID | None] = mapped_column(ForeignKey("debits.id"), unique=True)
    counter_account: Mapped[str] = mapped_column(String(64), ForeignKey("accounts.code"))
    overdraft_limit: Mapped[int] = mapped_column(BigInteger)
    row_sha256: Mapped[str] = mapped_column(String(64))


class Transfer(Base):
    """Money that moved between two system accounts; append-only, without a gap, each chained to the last."""

    __tablename__ = "transfers"
    __table_args__ = (
        UniqueConstraint("operation_id"),
        CheckConstraint("number >= 1", name="number_positive"),
        CheckConstraint("amount > 0", name="amount_positive"),
        CheckConstraint("debit_account <> credit_account", name="moves"),
        BYTEWISE,
    )

    number: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    operation_id: Mapped[UUID] = mapped_column(uuid_type())
    debit_account: Mapped[str] = mapped_column(String(64), ForeignKey("accounts.code"))
    credit_account: Mapped[str] = mapped_column(String(64), ForeignKey("accounts.code"))
    amount: Mapped[int] = mapped_column(BigInteger)
    currency: Mapped[str] = mapped_column(String(3), default=CURRENCY)
    note: Mapped[str] = mapped_column(Text)
    made_by: Mapped[str] = mapped_column(String(255))
    made_at: Mapped[datetime] = mapped_column(UtcDateTime)
    row_sha256: Mapped[str] = mapped_column(String(64))


class Incident(Base):
    """Something authentic that a person must look at; the same again raises `seen_count`, not a row."""

    __tablename__ = "incidents"
    __table_args__ = (
        CheckConstraint(one_of("kind", IncidentKind), name="kind_known"),
        Index(None, "resolved_at", "id"),
        Index(None, "kind", "source", "resolved_at"),
        BYTEWISE,
    )

    id: Mapped[int] = mapped_column(NUMBER, primary_key=True)
    fingerprint: Mapped[str] = mapped_column(String(64), unique=True)
    kind: Mapped[str] = mapped_column(String(32))
    source: Mapped[str] = mapped_column(String(32))
    operation_id: Mapped[UUID | None] = mapped_column(uuid_type())
    facts: Mapped[dict[str, Any]] = mapped_column(JSON)
    body: Mapped[bytes] = mapped_column(BODY)
    body_sha256: Mapped[str] = mapped_column(String(64))
    key_id: Mapped[str] = mapped_column(String(16))
    seen_count: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    last_seen_at: Mapped[datetime] = mapped_column(UtcDateTime)
    resolved_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    resolved_by: Mapped[str | None] = mapped_column(String(255))
    resolution: Mapped[str | None] = mapped_column(Text)


class IncidentResolution(Base):
    """Who resolved an incident, when and why, each time that it was; append-only, numbered without a gap from 1.

    `resolved_at` is missing where an incident was open again before there was this table.
    """

    __tablename__ = "incident_resolutions"
    __table_args__ = (CheckConstraint("number >= 1", name="number_positive"), BYTEWISE)

    incident_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("incidents.id", ondelete="CASCADE"), primary_key=True
    )
    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    resolved_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    resolved_by: Mapped[str] = mapped_column(String(255))
    resolution: Mapped[str] = mapped_column(Text)


class ApiKey(Base):
    """A caller of the REST API, for one organisation or for all; only the hash of the key is kept."""

    __tablename__ = "api_keys"
    __table_args__ = (BYTEWISE,)

    id: Mapped[int] = mapped_column(NUMBER, primary_key=True)
    name: Mapped[str] = mapped_column(String(100), unique=True)
    key_sha256: Mapped[str] = mapped_column(String(64), unique=True)
    scopes: Mapped[str] = mapped_column(String(255))
    organization_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("organizations.id"))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    revoked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class IdempotencyKey(Base):
    """A call of the API that was carried out, by the key that its caller gave it, with its encrypted answer.

    Written in the transaction of the call itself; only there, before its end, is the answer missing.
    """

    __tablename__ = "idempotency_keys"
    __table_args__ = (UniqueConstraint("caller_id", "key"), Index(None, "created_at"), BYTEWISE)

    id: Mapped[UUID] = mapped_column(uuid_type(), primary_key=True)
    caller_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("api_keys.id"))
    key: Mapped[str] = mapped_column(String(255))
    request_sha256: Mapped[str] = mapped_column(String(64))
    status: Mapped[int | None] = mapped_column(Integer)
    answer: Mapped[bytes | None] = mapped_column(BODY)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class Inbox(Base):
    """An authentic webhook that was acknowledged and is not credited yet; only with BALANCE_UPDATES=queued.

    The row goes in the transaction that credits it or keeps it as an incident. It carries the settings that decide
    what becomes of it: those of the server that acknowledged it, whatever its worker's are.
    """

    __tablename__ = "inbox"
    __table_args__ = (
        CheckConstraint(one_of("unknown_inn", UnknownInn), name="unknown_inn_known"),
        Index(None, "due_at"),
        BYTEWISE,
    )

    id: Mapped[int] = mapped_column(NUMBER, primary_key=True)
    source: Mapped[str] = mapped_column(String(32))
    content_type: Mapped[str] = mapped_column(String(255))
    body: Mapped[bytes] = mapped_column(BODY)
    key_id: Mapped[str] = mapped_column(String(16))
    message_id: Mapped[str | None] = mapped_column(String(255))
    unknown_inn: Mapped[str] = mapped_column(String(8))
    received_at: Mapped[datetime] = mapped_column(UtcDateTime)
    attempt_count: Mapped[int] = mapped_column(Integer)
    due_at: Mapped[datetime] = mapped_column(UtcDateTime)


class Endpoint(Base):
    """Where events are announced: for one organisation or, with none, for all; `secrets` are encrypted.

    A deleted endpoint keeps its row, for the sake of the deliveries that name it, and loses its secrets.
    """

    __tablename__ = "endpoints"
    __table_args__ = (
        CheckConstraint(one_of("scheme", Scheme), name="scheme_known"),
        CheckConstraint(one_of("disabled_because", DisabledReason), name="disabled_because_known"),
        CheckConstraint("deleted_at IS NULL OR disabled_at IS NOT NULL", name="deleted_is_disabled"),
        Index(None, "organization_id"),
        BYTEWISE,
    )

    id: Mapped[int] = mapped_column(NUMBER, primary_key=True)
    organization_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("organizations.id"))
    url: Mapped[str] = mapped_column(String(URL_CHARACTERS_MAX))
    description: Mapped[str] = mapped_column(String(255))
    scheme: Mapped[str] = mapped_column(String(16))
    secrets: Mapped[str] = mapped_column(Text)
    event_types: Mapped[str] = mapped_column(String(255))
    ordered: Mapped[bool] = mapped_column(Boolean)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    failing_since: Mapped[datetime | None] = mapped_column(UtcDateTime)
    disabled_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    disabled_because: Mapped[str | None] = mapped_column(String(16))
    deleted_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class Event(Base):
    """Something that happened and was announced; `data` is JSON, sent as it stands here at every attempt."""

    __tablename__ = "events"
    __table_args__ = (BYTEWISE,)

    id: Mapped[UUID] = mapped_column(uuid_type(), primary_key=True)
    type: Mapped[str] = mapped_column(String(64))
    organization_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("organizations.id"))
    version: Mapped[int | None] = mapped_column(BigInteger)
    data: Mapped[str] = mapped_column(Text)
    occurred_at: Mapped[datetime] = mapped_column(UtcDateTime)


class Replay(Base):
    """A person asked that an endpoint hears everything again since a moment; `cursor` is the last payment queued."""

    __tablename__ = "replays"
    __table_args__ = (Index(None, "finished_at"), BYTEWISE)

    id: Mapped[int] = mapped_column(NUMBER, primary_key=True)
    endpoint_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("endpoints.id"))
    since: Mapped[datetime] = mapped_column(UtcDateTime)
    asked_by: Mapped[str] = mapped_column(String(255))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    cursor: Mapped[UUID | None] = mapped_column(uuid_type())
    queued: Mapped[int] = mapped_column(BigInteger)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    sweep_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


OPEN = text("due_at IS NOT NULL")
"""What the indexes of the queue hold where a database has partial indexes: finished deliveries cost nothing there."""

OPEN_IN_ORDER = text("due_at IS NOT NULL AND version IS NOT NULL")


class Delivery(Base):
    """One event for one endpoint.

    `due_at` is when a worker must look at it next: for the attempt that is due; for one that waits behind another in
    its order; or, while a worker holds the `lease` since `claimed_at`, because that lease runs out. Without it there
    is nothing to do. `scheduled_at` is when the schedule wants the next attempt, `step` how far the schedule has come,
    `attempt_count` the attempts of any cause.
    """

    __tablename__ = "deliveries"
    __table_args__ = (
        UniqueConstraint("endpoint_id", "event_id"),
        CheckConstraint(one_of("status", DeliveryStatus), name="status_known"),
        CheckConstraint(one_of("cause", AttemptCause), name="cause_known"),
        CheckConstraint("(lease IS NULL) = (claimed_at IS NULL)", name="lease_has_its_moment"),
        CheckConstraint(f"scheduled_at IS NULL OR status = '{DeliveryStatus.PENDING}'", name="scheduled_is_pending"),
        Index(None, "event_id"),
        Index("ix_deliveries_due", "endpoint_id", "due_at", "id", postgresql_where=OPEN, sqlite_where=OPEN),
        Index(
            "ix_deliveries_order",
            "endpoint_id",
            "organization_id",
            "due_at",
            "version",
            postgresql_where=OPEN_IN_ORDER,
            sqlite_where=OPEN_IN_ORDER,
        ),
        BYTEWISE,
    )

    id: Mapped[int] = mapped_column(NUMBER, primary_key=True)
    event_id: Mapped[UUID] = mapped_column(uuid_type(), ForeignKey("events.id"))
    endpoint_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("endpoints.id"))
    organization_id: Mapped[int | None] = mapped_column(BigInteger)
    version: Mapped[int | None] = mapped_column(BigInteger)
    status: Mapped[str] = mapped_column(String(16))
    cause: Mapped[str] = mapped_column(String(16))
    step: Mapped[int] = mapped_column(Integer)
    attempt_count: Mapped[int] = mapped_column(Integer)
    due_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    scheduled_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    lease: Mapped[UUID | None] = mapped_column(uuid_type())
    claimed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    replay_id: Mapped[int | None] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    settled_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class DeliveryAttempt(Base):
    """One try of a delivery; append-only, numbered without a gap from 1."""

    __tablename__ = "delivery_attempts"
    __table_args__ = (
        CheckConstraint("number >= 1", name="number_positive"),
        CheckConstraint(one_of("cause", AttemptCause), name="cause_known"),
        BYTEWISE,
    )

    delivery_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("deliveries.id", ondelete="CASCADE"), primary_key=True
    )
    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    cause: Mapped[str] = mapped_column(String(16))
    started_at: Mapped[datetime] = mapped_column(UtcDateTime)
    duration_ms: Mapped[int | None] = mapped_column(Integer)
    status_code: Mapped[int | None] = mapped_column(Integer)
    excerpt: Mapped[str] = mapped_column(Text)
    error: Mapped[str | None] = mapped_column(String(255))

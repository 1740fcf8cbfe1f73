"""Every table and every constraint, so that an auditor can read all guarantees at once.

Money is whole kopecks in BIGINT beside a currency; times are aware and in UTC.
The triggers that keep balance_log append-only are in migrations/versions/0001_core.py.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import JSON, BigInteger, CheckConstraint, ForeignKey, Index, Integer, LargeBinary, String, Text
from sqlalchemy.dialects.mysql import MEDIUMBLOB
from sqlalchemy.orm import Mapped, mapped_column

from database import Model, UtcDateTime, uuid_type

CURRENCY = "RUB"
"""The only currency so far; the columns are there so that a second one cannot be mixed in by accident."""

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


class Organization(Model):
    """Who holds a balance, found by INN; `version` counts the moves of the balance."""

    __tablename__ = "organizations"
    __table_args__ = (
        CheckConstraint("balance >= 0", name="balance_not_negative"),
        CheckConstraint("version >= 0", name="version_not_negative"),
        BYTEWISE,
    )

    id: Mapped[int] = mapped_column(NUMBER, primary_key=True)
    inn: Mapped[str] = mapped_column(String(12), unique=True)
    name: Mapped[str] = mapped_column(String(255), default="")
    balance: Mapped[int] = mapped_column(BigInteger, default=0)
    currency: Mapped[str] = mapped_column(String(3), default=CURRENCY)
    version: Mapped[int] = mapped_column(BigInteger, default=0)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class Payment(Model):
    """Money that reached a balance; the unique operation_id is what makes a repeated webhook harmless."""

    __tablename__ = "payments"
    __table_args__ = (
        CheckConstraint("amount > 0", name="amount_positive"),
        Index(None, "organization_id", "id"),
        BYTEWISE,
    )

    id: Mapped[UUID] = mapped_column(uuid_type(), primary_key=True)
    operation_id: Mapped[UUID] = mapped_column(uuid_type(), unique=True)
    external_id: Mapped[str | None] = mapped_column(String(255))
    source: Mapped[str] = mapped_column(String(32))
    organization_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("organizations.id"))
    payer_inn: Mapped[str] = mapped_column(String(12))
    amount: Mapped[int] = mapped_column(BigInteger)
    currency: Mapped[str] = mapped_column(String(3), default=CURRENCY)
    document_number: Mapped[str] = mapped_column(String(50))
    document_date: Mapped[datetime] = mapped_column(UtcDateTime)
    body: Mapped[bytes] = mapped_column(BODY)
    body_sha256: Mapped[str] = mapped_column(String(64))
    key_id: Mapped[str] = mapped_column(String(16))
    received_at: Mapped[datetime] = mapped_column(UtcDateTime)


class BalanceLog(Model):
    """One move of one balance; append-only, gap-free by version, and explained by exactly one payment."""

    __tablename__ = "balance_log"
    __table_args__ = (
        CheckConstraint("version >= 1", name="version_positive"),
        CheckConstraint("delta <> 0", name="delta_moves"),
        CheckConstraint("balance_before + delta = balance_after", name="adds_up"),
        CheckConstraint("balance_before >= 0", name="before_not_negative"),
        CheckConstraint("balance_after >= 0", name="after_not_negative"),
        CheckConstraint("version > 1 OR balance_before = 0", name="begins_at_zero"),
        BYTEWISE,
    )

    organization_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("organizations.id"), primary_key=True)
    version: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    delta: Mapped[int] = mapped_column(BigInteger)
    balance_before: Mapped[int] = mapped_column(BigInteger)
    balance_after: Mapped[int] = mapped_column(BigInteger)
    payment_id: Mapped[UUID] = mapped_column(ForeignKey("payments.id"), unique=True)
    reason: Mapped[str] = mapped_column(String(32))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class Incident(Model):
    """Something authentic that a person must look at; the same again raises `seen_count`, not a row."""

    __tablename__ = "incidents"
    __table_args__ = (Index(None, "resolved_at", "id"), BYTEWISE)

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


class ApiKey(Model):
    """A caller of the REST API; only the hash of the key is kept."""

    __tablename__ = "api_keys"
    __table_args__ = (BYTEWISE,)

    id: Mapped[int] = mapped_column(NUMBER, primary_key=True)
    name: Mapped[str] = mapped_column(String(100), unique=True)
    key_sha256: Mapped[str] = mapped_column(String(64), unique=True)
    scopes: Mapped[str] = mapped_column(String(255))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    revoked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)

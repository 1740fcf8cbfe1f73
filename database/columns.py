"""The typed base of every table, and the column types that three databases keep alike.

Called by models.py and whoever makes an id. Knows no table.
"""

from datetime import UTC, datetime
from secrets import randbits
from typing import Any
from uuid import UUID

from sqlalchemy import DateTime, Dialect, MetaData, TypeDecorator, Uuid
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.orm import DeclarativeBase

MYSQL_FAMILY = ("mysql", "mariadb")


class Base(DeclarativeBase):
    """The typed base of every table; constraints have predictable names so that migrations can speak of them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class UtcDateTime(TypeDecorator[datetime]):
    """A moment in microseconds that goes in aware and comes back aware, in UTC, from every database."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> Any:
        """Choose the column type that keeps microseconds."""
        if dialect.name == "postgresql":
            return dialect.type_descriptor(DateTime(timezone=True))
        if dialect.name in MYSQL_FAMILY:
            return dialect.type_descriptor(mysql.DATETIME(fsp=6))
        return dialect.type_descriptor(DateTime())

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse naive times; hand over UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a naive time cannot be stored")
        moment = value.astimezone(UTC)
        return moment if dialect.name == "postgresql" else moment.replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give the time back aware, in UTC."""
        if value is None:
            return None
        if not isinstance(value, datetime):
            # MariaDB keeps a month 0 in some modes, which its driver hands over as text.
            raise ValueError("what is stored is no moment")
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def uuid_type() -> Uuid[UUID]:
    """Return a UUID column: native on PostgreSQL, elsewhere 32 hex digits, which sort as UUIDs do."""
    return Uuid(native_uuid=False).with_variant(postgresql.UUID(), "postgresql")


def new_id(now: datetime) -> UUID:
    """Return a fresh UUIDv7 (RFC 9562): milliseconds first, so that ids sort by time."""
    random = randbits(74)  # in one piece: each costs a call of the system
    return UUID(int=milliseconds(now) << 80 | 0x7 << 76 | random >> 62 << 64 | 0b10 << 62 | random & (1 << 62) - 1)


def milliseconds(moment: datetime) -> int:
    """Return a moment as the UUIDs of new_id() hold it."""
    return int(moment.timestamp() * 1000)


def milliseconds_of(id_: UUID) -> int:
    """Return the moment at which new_id() made an id."""
    return id_.int >> 80

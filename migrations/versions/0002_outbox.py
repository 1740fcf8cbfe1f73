"""The outbox: endpoints, events, deliveries and their attempts, replays; and the inbox of queued updates."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql, postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

LOSES = {"inbox": "", "endpoints": "", "events": "", "replays": "", "deliveries": "", "delivery_attempts": ""}
"""The tables whose rows a downgrade loses, each with a condition if it does not lose them all."""

MOMENT = (
    sa.DateTime()
    .with_variant(sa.DateTime(timezone=True), "postgresql")
    .with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
)
UUID = sa.Uuid(native_uuid=False).with_variant(postgresql.UUID(), "postgresql")
NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
BODY = sa.LargeBinary().with_variant(mysql.MEDIUMBLOB(), "mysql", "mariadb")
BYTEWISE = {
    f"{family}_{option}": value
    for family in ("mysql", "mariadb")
    for option, value in (("engine", "InnoDB"), ("charset", "utf8mb4"), ("collate", "utf8mb4_bin"))
}


OPEN = sa.text("due_at IS NOT NULL")
OPEN_IN_ORDER = sa.text("due_at IS NOT NULL AND version IS NOT NULL")


def upgrade() -> None:
    """Create the six tables, then close the attempts against changes."""
    _create_inbox()
    _create_endpoints()
    _create_events()
    _create_replays()
    _create_deliveries()
    _create_attempts()
    for statement in APPEND_ONLY[op.get_bind().dialect.name]:
        op.execute(statement)


def downgrade() -> None:
    """Drop everything; the triggers go with their table."""
    for table in ("delivery_attempts", "deliveries", "replays", "events", "endpoints", "inbox"):
        op.drop_table(table)
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION refuse_change_of_delivery_attempts()")


def _create_inbox() -> None:
    op.create_table(
        "inbox",
        sa.Column("id", NUMBER, nullable=False),
        sa.Column("source", sa.String(32), nullable=False),
        sa.Column("content_type", sa.String(255), nullable=False),
        sa.Column("body", BODY, nullable=False),
        sa.Column("key_id", sa.String(16), nullable=False),
        sa.Column("received_at", MOMENT, nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("due_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_inbox"),
        **BYTEWISE,
    )
    op.create_index("ix_inbox_due_at", "inbox", ["due_at"])


def _create_endpoints() -> None:
    op.create_table(
        "endpoints",
        sa.Column("id", NUMBER, nullable=False),
        sa.Column("organization_id", sa.BigInteger(), nullable=True),
        sa.Column("url", sa.String(2000), nullable=False),
        sa.Column("description", sa.String(255), nullable=False),
        sa.Column("scheme", sa.String(16), nullable=False),
        sa.Column("secrets", sa.Text(), nullable=False),
        sa.Column("event_types", sa.String(255), nullable=False),
        sa.Column("ordered", sa.Boolean(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("failing_since", MOMENT, nullable=True),
        sa.Column("disabled_at", MOMENT, nullable=True),
        sa.Column("disabled_because", sa.String(16), nullable=True),
        sa.Column("deleted_at", MOMENT, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_endpoints"),
        sa.ForeignKeyConstraint(["organization_id"], ["organizations.id"], name="fk_endpoints_organization_id"),
        sa.CheckConstraint(
            "deleted_at IS NULL OR disabled_at IS NOT NULL", name=op.f("ck_endpoints_deleted_is_disabled")
        ),
        **BYTEWISE,
    )
    op.create_index("ix_endpoints_organization_id", "endpoints", ["organization_id"])


def _create_events() -> None:
    op.create_table(
        "events",
        sa.Column("id", UUID, nullable=False),
        sa.Column("type", sa.String(64), nullable=False),
        sa.Column("organization_id", sa.BigInteger(), nullable=True),
        sa.Column("version", sa.BigInteger(), nullable=True),
        sa.Column("data", sa.Text(), nullable=False),
        sa.Column("occurred_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_events"),
        sa.ForeignKeyConstraint(["organization_id"], ["organizations.id"], name="fk_events_organization_id"),
        **BYTEWISE,
    )


def _create_replays() -> None:
    op.create_table(
        "replays",
        sa.Column("id", NUMBER, nullable=False),
        sa.Column("endpoint_id", sa.BigInteger(), nullable=False),
        sa.Column("since", MOMENT, nullable=False),
        sa.Column("asked_by", sa.String(255), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("cursor", UUID, nullable=True),
        sa.Column("queued", sa.BigInteger(), nullable=False),
        sa.Column("finished_at", MOMENT, nullable=True),
        sa.Column("sweep_at", MOMENT, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_replays"),
        sa.ForeignKeyConstraint(["endpoint_id"], ["endpoints.id"], name="fk_replays_endpoint_id"),
        **BYTEWISE,
    )
    op.create_index("ix_replays_finished_at", "replays", ["finished_at"])


def _create_deliveries() -> None:
    op.create_table(
        "deliveries",
        sa.Column("id", NUMBER, nullable=False),
        sa.Column("event_id", UUID, nullable=False),
        sa.Column("endpoint_id", sa.BigInteger(), nullable=False),
        sa.Column("organization_id", sa.BigInteger(), nullable=True),
        sa.Column("version", sa.BigInteger(), nullable=True),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("cause", sa.String(16), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("due_at", MOMENT, nullable=True),
        sa.Column("scheduled_at", MOMENT, nullable=True),
        sa.Column("lease", UUID, nullable=True),
        sa.Column("replay_id", sa.BigInteger(), nullable=True),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("settled_at", MOMENT, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_deliveries"),
        sa.UniqueConstraint("endpoint_id", "event_id", name="uq_deliveries_endpoint_id_event_id"),
        sa.ForeignKeyConstraint(["event_id"], ["events.id"], name="fk_deliveries_event_id"),
        sa.ForeignKeyConstraint(["endpoint_id"], ["endpoints.id"], name="fk_deliveries_endpoint_id"),
        sa.CheckConstraint(
            "status IN ('pending', 'delivered', 'exhausted', 'parked')", name=op.f("ck_deliveries_status_known")
        ),
        sa.CheckConstraint(
            "scheduled_at IS NULL OR status = 'pending'", name=op.f("ck_deliveries_scheduled_is_pending")
        ),
        **BYTEWISE,
    )
    op.create_index(
        "ix_deliveries_due", "deliveries", ["endpoint_id", "due_at", "id"], postgresql_where=OPEN, sqlite_where=OPEN
    )
    op.create_index(
        "ix_deliveries_order",
        "deliveries",
        ["endpoint_id", "organization_id", "due_at", "version"],
        postgresql_where=OPEN_IN_ORDER,
        sqlite_where=OPEN_IN_ORDER,
    )


def _create_attempts() -> None:
    op.create_table(
        "delivery_attempts",
        sa.Column("delivery_id", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("cause", sa.String(16), nullable=False),
        sa.Column("started_at", MOMENT, nullable=False),
        sa.Column("duration_ms", sa.Integer(), nullable=True),
        sa.Column("status_code", sa.Integer(), nullable=True),
        sa.Column("excerpt", sa.Text(), nullable=False),
        sa.Column("error", sa.String(255), nullable=True),
        sa.PrimaryKeyConstraint("delivery_id", "number", name="pk_delivery_attempts"),
        sa.ForeignKeyConstraint(["delivery_id"], ["deliveries.id"], name="fk_delivery_attempts_delivery_id"),
        sa.CheckConstraint("number >= 1", name=op.f("ck_delivery_attempts_number_positive")),
        **BYTEWISE,
    )


_SQLITE = [
    f"CREATE TRIGGER delivery_attempts_no_{event.lower()} BEFORE {event} ON delivery_attempts "
    "BEGIN SELECT RAISE(ABORT, 'delivery_attempts is append-only'); END"
    for event in ("UPDATE", "DELETE")
]
_MARIADB = [
    f"CREATE TRIGGER delivery_attempts_no_{event.lower()} BEFORE {event} ON delivery_attempts FOR EACH ROW "
    "SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'delivery_attempts is append-only'"
    for event in ("UPDATE", "DELETE")
]
_POSTGRESQL = [
    """CREATE FUNCTION refuse_change_of_delivery_attempts() RETURNS trigger LANGUAGE plpgsql AS $$
       BEGIN RAISE EXCEPTION 'delivery_attempts is append-only'; END $$""",
    """CREATE TRIGGER delivery_attempts_no_change BEFORE UPDATE OR DELETE ON delivery_attempts
       FOR EACH ROW EXECUTE FUNCTION refuse_change_of_delivery_attempts()""",
    """CREATE TRIGGER delivery_attempts_no_truncate BEFORE TRUNCATE ON delivery_attempts
       FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_delivery_attempts()""",
]
APPEND_ONLY = {"sqlite": _SQLITE, "postgresql": _POSTGRESQL, "mysql": _MARIADB, "mariadb": _MARIADB}

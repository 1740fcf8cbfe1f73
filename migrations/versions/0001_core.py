"""The core: organisations, their payments, the append-only log of every move, incidents, API keys."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql, postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

LOSES = {"organizations": "", "payments": "", "balance_log": "", "incidents": "", "api_keys": ""}
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


def upgrade() -> None:
    """Create the five tables, then close the log against changes."""
    _create_organizations()
    _create_payments()
    _create_balance_log()
    _create_incidents()
    _create_api_keys()
    for statement in APPEND_ONLY[op.get_bind().dialect.name]:
        op.execute(statement)


def downgrade() -> None:
    """Drop everything; the triggers go with their table."""
    for table in ("api_keys", "incidents", "balance_log", "payments", "organizations"):
        op.drop_table(table)
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION refuse_change_of_balance_log()")


def _create_organizations() -> None:
    op.create_table(
        "organizations",
        sa.Column("id", NUMBER, nullable=False),
        sa.Column("inn", sa.String(12), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("balance", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(3), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_organizations"),
        sa.UniqueConstraint("inn", name="uq_organizations_inn"),
        sa.CheckConstraint("balance >= 0", name=op.f("ck_organizations_balance_not_negative")),
        sa.CheckConstraint("version >= 0", name=op.f("ck_organizations_version_not_negative")),
        **BYTEWISE,
    )


def _create_payments() -> None:
    op.create_table(
        "payments",
        sa.Column("id", UUID, nullable=False),
        sa.Column("operation_id", UUID, nullable=False),
        sa.Column("external_id", sa.String(255), nullable=True),
        sa.Column("source", sa.String(32), nullable=False),
        sa.Column("organization_id", sa.BigInteger(), nullable=False),
        sa.Column("payer_inn", sa.String(12), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(3), nullable=False),
        sa.Column("document_number", sa.String(50), nullable=False),
        sa.Column("document_date", MOMENT, nullable=False),
        sa.Column("body", BODY, nullable=False),
        sa.Column("body_sha256", sa.String(64), nullable=False),
        sa.Column("key_id", sa.String(16), nullable=False),
        sa.Column("received_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_payments"),
        sa.UniqueConstraint("operation_id", name="uq_payments_operation_id"),
        sa.ForeignKeyConstraint(["organization_id"], ["organizations.id"], name="fk_payments_organization_id"),
        sa.CheckConstraint("amount > 0", name=op.f("ck_payments_amount_positive")),
        **BYTEWISE,
    )
    op.create_index("ix_payments_organization_id_id", "payments", ["organization_id", "id"])


def _create_balance_log() -> None:
    op.create_table(
        "balance_log",
        sa.Column("organization_id", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("delta", sa.BigInteger(), nullable=False),
        sa.Column("balance_before", sa.BigInteger(), nullable=False),
        sa.Column("balance_after", sa.BigInteger(), nullable=False),
        sa.Column("payment_id", UUID, nullable=False),
        sa.Column("reason", sa.String(32), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("organization_id", "version", name="pk_balance_log"),
        sa.UniqueConstraint("payment_id", name="uq_balance_log_payment_id"),
        sa.ForeignKeyConstraint(["organization_id"], ["organizations.id"], name="fk_balance_log_organization_id"),
        sa.ForeignKeyConstraint(["payment_id"], ["payments.id"], name="fk_balance_log_payment_id"),
        sa.CheckConstraint("version >= 1", name=op.f("ck_balance_log_version_positive")),
        sa.CheckConstraint("delta <> 0", name=op.f("ck_balance_log_delta_moves")),
        sa.CheckConstraint("balance_before + delta = balance_after", name=op.f("ck_balance_log_adds_up")),
        sa.CheckConstraint("balance_before >= 0", name=op.f("ck_balance_log_before_not_negative")),
        sa.CheckConstraint("balance_after >= 0", name=op.f("ck_balance_log_after_not_negative")),
        sa.CheckConstraint("version > 1 OR balance_before = 0", name=op.f("ck_balance_log_begins_at_zero")),
        **BYTEWISE,
    )


def _create_incidents() -> None:
    op.create_table(
        "incidents",
        sa.Column("id", NUMBER, nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("source", sa.String(32), nullable=False),
        sa.Column("operation_id", UUID, nullable=True),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.Column("body", BODY, nullable=False),
        sa.Column("body_sha256", sa.String(64), nullable=False),
        sa.Column("key_id", sa.String(16), nullable=False),
        sa.Column("seen_count", sa.BigInteger(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("last_seen_at", MOMENT, nullable=False),
        sa.Column("resolved_at", MOMENT, nullable=True),
        sa.Column("resolved_by", sa.String(255), nullable=True),
        sa.Column("resolution", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_incidents"),
        sa.UniqueConstraint("fingerprint", name="uq_incidents_fingerprint"),
        **BYTEWISE,
    )
    op.create_index("ix_incidents_resolved_at_id", "incidents", ["resolved_at", "id"])


def _create_api_keys() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", NUMBER, nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("key_sha256", sa.String(64), nullable=False),
        sa.Column("scopes", sa.String(255), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("revoked_at", MOMENT, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_api_keys"),
        sa.UniqueConstraint("name", name="uq_api_keys_name"),
        sa.UniqueConstraint("key_sha256", name="uq_api_keys_key_sha256"),
        **BYTEWISE,
    )


_SQLITE = [
    f"CREATE TRIGGER balance_log_no_{event.lower()} BEFORE {event} ON balance_log "
    "BEGIN SELECT RAISE(ABORT, 'balance_log is append-only'); END"
    for event in ("UPDATE", "DELETE")
] + [
    # INSERT OR REPLACE deletes without asking the trigger above, on connections other than ours.
    "CREATE TRIGGER balance_log_no_replace BEFORE INSERT ON balance_log WHEN EXISTS (SELECT 1 FROM balance_log "
    "WHERE (organization_id, version) = (NEW.organization_id, NEW.version) OR payment_id = NEW.payment_id) "
    "BEGIN SELECT RAISE(ABORT, 'balance_log is append-only'); END"
]
_MARIADB = [
    f"CREATE TRIGGER balance_log_no_{event.lower()} BEFORE {event} ON balance_log FOR EACH ROW "
    "SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'balance_log is append-only'"
    for event in ("UPDATE", "DELETE")
]
_POSTGRESQL = [
    """CREATE FUNCTION refuse_change_of_balance_log() RETURNS trigger LANGUAGE plpgsql AS $$
       BEGIN RAISE EXCEPTION 'balance_log is append-only'; END $$""",
    """CREATE TRIGGER balance_log_no_change BEFORE UPDATE OR DELETE ON balance_log
       FOR EACH ROW EXECUTE FUNCTION refuse_change_of_balance_log()""",
    """CREATE TRIGGER balance_log_no_truncate BEFORE TRUNCATE ON balance_log
       FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_balance_log()""",
]
APPEND_ONLY = {"sqlite": _SQLITE, "postgresql": _POSTGRESQL, "mysql": _MARIADB, "mariadb": _MARIADB}

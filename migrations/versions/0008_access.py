"""API keys of one organisation; calls of the API that are known by an Idempotency-Key."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql, postgresql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

LOSES = {"idempotency_keys": "", "api_keys": "organization_id IS NOT NULL"}
"""The tables whose rows a downgrade loses, each with a condition if it does not lose them all."""

REPEATABLE = True
"""Each step looks itself whether it is done."""

MOMENT = (
    sa.DateTime()
    .with_variant(sa.DateTime(timezone=True), "postgresql")
    .with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
)
UUID = sa.Uuid(native_uuid=False).with_variant(postgresql.UUID(), "postgresql")
BODY = sa.LargeBinary().with_variant(mysql.MEDIUMBLOB(), "mysql", "mariadb")
BYTEWISE = {
    f"{family}_{option}": value
    for family in ("mysql", "mariadb")
    for option, value in (("engine", "InnoDB"), ("charset", "utf8mb4"), ("collate", "utf8mb4_bin"))
}
FOREIGN_KEY = "fk_api_keys_organization_id"
INDEX = "ix_idempotency_keys_created_at"


def upgrade() -> None:
    """Add a column with its foreign key, and a table."""
    inspector = sa.inspect(op.get_bind())
    if not _is_limitable(inspector):
        op.execute(
            "ALTER TABLE api_keys ADD COLUMN organization_id BIGINT "
            f"CONSTRAINT {FOREIGN_KEY} REFERENCES organizations (id)"
            if op.get_bind().dialect.name == "sqlite"
            else "ALTER TABLE api_keys ADD COLUMN organization_id BIGINT, "
            f"ADD CONSTRAINT {FOREIGN_KEY} FOREIGN KEY (organization_id) REFERENCES organizations (id)"
        )
    if not inspector.has_table("idempotency_keys"):
        _create_keys()
    # An index is made by a statement of its own, which a stop may have left out.
    if INDEX not in {index["name"] for index in sa.inspect(op.get_bind()).get_indexes("idempotency_keys")}:
        op.create_index(INDEX, "idempotency_keys", ["created_at"])


def downgrade() -> None:
    """Take both back; a key of one organisation is revoked, since it would see all of them."""
    inspector = sa.inspect(op.get_bind())
    if inspector.has_table("idempotency_keys"):
        op.drop_table("idempotency_keys")
    if _is_limitable(inspector):
        op.execute(
            "UPDATE api_keys SET revoked_at = CURRENT_TIMESTAMP "
            "WHERE organization_id IS NOT NULL AND revoked_at IS NULL"
        )
        with op.batch_alter_table("api_keys") as table:
            if FOREIGN_KEY in {key["name"] for key in inspector.get_foreign_keys("api_keys")}:
                table.drop_constraint(FOREIGN_KEY, type_="foreignkey")
            table.drop_column("organization_id")


def _is_limitable(inspector) -> bool:
    return "organization_id" in {column["name"] for column in inspector.get_columns("api_keys")}


def _create_keys() -> None:
    op.create_table(
        "idempotency_keys",
        sa.Column("id", UUID, nullable=False),
        sa.Column("caller_id", sa.BigInteger(), nullable=False),
        sa.Column("key", sa.String(255), nullable=False),
        sa.Column("request_sha256", sa.String(64), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("answer", BODY, nullable=True),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_idempotency_keys"),
        sa.UniqueConstraint("caller_id", "key", name="uq_idempotency_keys_caller_id_key"),
        sa.ForeignKeyConstraint(["caller_id"], ["api_keys.id"], name="fk_idempotency_keys_caller_id"),
        **BYTEWISE,
    )

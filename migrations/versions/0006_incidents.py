"""Each resolution of an incident is kept; a queued webhook keeps its sender's id; open incidents are found by bank."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

from database import append_only

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

LOSES = {
    # The last one of each incident stays in the incident itself.
    "incident_resolutions": "EXISTS (SELECT 1 FROM incident_resolutions AS later "
    "WHERE later.incident_id = incident_resolutions.incident_id AND later.number > incident_resolutions.number)",
    "inbox": "message_id IS NOT NULL",
}
"""The tables whose rows a downgrade loses, each with a condition if it does not lose them all."""

REPEATABLE = True
"""Each step looks itself whether it is done."""

MOMENT = (
    sa.DateTime()
    .with_variant(sa.DateTime(timezone=True), "postgresql")
    .with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
)
BYTEWISE = {
    f"{family}_{option}": value
    for family in ("mysql", "mariadb")
    for option, value in (("engine", "InnoDB"), ("charset", "utf8mb4"), ("collate", "utf8mb4_bin"))
}
INDEX = "ix_incidents_kind_source_resolved_at"


def upgrade() -> None:
    """Add a column, an index and a table, and begin the table with the resolutions that are known."""
    inspector = sa.inspect(op.get_bind())
    if "message_id" not in {column["name"] for column in inspector.get_columns("inbox")}:
        op.add_column("inbox", sa.Column("message_id", sa.String(255), nullable=True))
    if INDEX not in {index["name"] for index in inspector.get_indexes("incidents")}:
        op.create_index(INDEX, "incidents", ["kind", "source", "resolved_at"])
    if not inspector.has_table("incident_resolutions"):
        _create_resolutions()
    op.execute(
        "INSERT INTO incident_resolutions (incident_id, number, resolved_at, resolved_by, resolution) "
        "SELECT id, 1, resolved_at, resolved_by, resolution FROM incidents WHERE resolved_by IS NOT NULL "
        "AND NOT EXISTS (SELECT 1 FROM incident_resolutions WHERE incident_id = incidents.id)"
    )
    _close_resolutions()


def downgrade() -> None:
    """Take it all back; of each incident only the last resolution stays."""
    inspector = sa.inspect(op.get_bind())
    if inspector.has_table("incident_resolutions"):
        op.drop_table("incident_resolutions")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION refuse_change_of_incident_resolutions()")
    if INDEX in {index["name"] for index in inspector.get_indexes("incidents")}:
        op.drop_index(INDEX, "incidents")
    if "message_id" in {column["name"] for column in inspector.get_columns("inbox")}:
        op.drop_column("inbox", "message_id")


def _create_resolutions() -> None:
    op.create_table(
        "incident_resolutions",
        sa.Column("incident_id", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("resolved_at", MOMENT, nullable=True),
        sa.Column("resolved_by", sa.String(255), nullable=False),
        sa.Column("resolution", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("incident_id", "number", name="pk_incident_resolutions"),
        sa.ForeignKeyConstraint(["incident_id"], ["incidents.id"], name="fk_incident_resolutions_incident_id"),
        sa.CheckConstraint("number >= 1", name=op.f("ck_incident_resolutions_number_positive")),
        **BYTEWISE,
    )


def _close_resolutions() -> None:
    """Close the table against changes, triggers that are there already left as they are."""
    bind = op.get_bind()
    if bind.dialect.name == "postgresql":
        op.execute(
            "CREATE FUNCTION refuse_change_of_incident_resolutions() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'incident_resolutions is append-only'; END $$"
        )
    present = append_only.found(bind)
    for trigger in append_only.triggers(bind.dialect.name):
        if trigger.table == "incident_resolutions" and trigger.name not in present:
            op.execute(trigger.statement)

"""What is finished can be pruned: attempts and resolutions go with what they belong to, and what is open stays."""

import re

import sqlalchemy as sa
from alembic import op

from database import append_only

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

LOSES: dict[str, str] = {}
"""The tables whose rows a downgrade loses, each with a condition if it does not lose them all."""

REPEATABLE = True
"""Each step looks itself whether it is done."""

OLDER: append_only.Keys = {
    "balance_log": (("organization_id", "version"), ("payment_id",)),
    "delivery_attempts": (("delivery_id", "number"),),
    "incident_resolutions": (("incident_id", "number"),),
}
"""The tables that only grow, as they were then."""

INDEX = "ix_deliveries_event_id"
CASCADE = "ON DELETE CASCADE"


def upgrade() -> None:
    """Add an index, let parts go with the whole, and have the triggers know that."""
    if INDEX not in _indexes("deliveries"):
        op.create_index(INDEX, "deliveries", ["event_id"])
    for part, (whole, column) in append_only.PARTS.items():
        _refer(part, whole, column, cascade=True)
    for function in append_only.functions(_dialect(), OLDER).values():
        op.execute(function)
    _make_triggers(append_only.triggers(_dialect(), OLDER))


def downgrade() -> None:
    """Take it all back; no row is lost."""
    for table in append_only.STAYS:
        on_table = f" ON {table}" if _dialect() == "postgresql" else ""
        op.execute(f"DROP TRIGGER IF EXISTS {table}_no_delete{on_table}")
    for part, (whole, column) in append_only.PARTS.items():
        _refer(part, whole, column, cascade=False)
    if _dialect() == "postgresql":
        for part in append_only.PARTS:
            op.execute(
                f"CREATE OR REPLACE FUNCTION refuse_change_of_{part}() RETURNS trigger LANGUAGE plpgsql AS "
                f"$$ BEGIN RAISE EXCEPTION '{part} is append-only'; END $$"
            )
        for table in append_only.STAYS:
            op.execute(f"DROP FUNCTION IF EXISTS refuse_deletion_of_{table}()")
    # MariaDB needs an index for the foreign key, and had made one by itself.
    if _dialect() in ("sqlite", "postgresql") and INDEX in _indexes("deliveries"):
        op.drop_index(INDEX, "deliveries")


def _dialect() -> str:
    return op.get_bind().dialect.name


def _indexes(table: str) -> set[str]:
    return {index["name"] for index in sa.inspect(op.get_bind()).get_indexes(table)}


def _make_triggers(wanted: list[append_only.Trigger]) -> None:
    """Put the triggers in place that are not there, or say something else."""
    present = append_only.found(op.get_bind())
    for trigger in wanted:
        if present.get(trigger.name) != trigger.definition:
            on_table = f" ON {trigger.table}" if _dialect() == "postgresql" else ""
            op.execute(f"DROP TRIGGER IF EXISTS {trigger.name}{on_table}")
            op.execute(trigger.statement)


def _refer(part: str, whole: str, column: str, *, cascade: bool) -> None:
    """Have the rows of a part go with the whole, or keep it."""
    name = f"fk_{part}_{column}"
    keys = {key["name"]: key for key in sa.inspect(op.get_bind()).get_foreign_keys(part)}
    is_there = name in keys
    if is_there and (keys[name]["options"].get("ondelete") == "CASCADE") == cascade:
        return
    if _dialect() == "sqlite":
        _rebuild(part, name, cascade=cascade)
        return
    if is_there:
        op.drop_constraint(name, part, type_="foreignkey")
    op.create_foreign_key(name, part, whole, [column], ["id"], ondelete="CASCADE" if cascade else None)


def _rebuild(table: str, key: str, *, cascade: bool) -> None:
    """Make a table anew, which is how SQLite changes a key; its triggers go with it and are made again."""
    bind = op.get_bind()
    found = sa.text("SELECT type, sql FROM sqlite_master WHERE tbl_name = :table AND sql IS NOT NULL")
    parts = bind.execute(found, {"table": table}).all()
    (definition,) = (row.sql for row in parts if row.type == "table")
    definition, count = re.subn(
        rf'(CONSTRAINT {key} FOREIGN KEY\s*\(\w+\) REFERENCES "?\w+"? \(id\))( {CASCADE})?',
        rf"\1 {CASCADE}" if cascade else r"\1",
        definition,
    )
    assert count == 1, table
    bind.exec_driver_sql(re.sub(rf'\bTABLE "?{table}"?(?=\W)', f'TABLE "new_{table}"', definition, count=1))
    bind.exec_driver_sql(f"INSERT INTO new_{table} SELECT * FROM {table}")  # noqa: S608 - names of ours
    op.drop_table(table)
    op.rename_table(f"new_{table}", table)
    for row in parts:
        if row.type == "index":
            bind.exec_driver_sql(row.sql)
        elif row.type == "trigger":
            bind.exec_driver_sql(
                row.sql if cascade else re.sub(r"WHEN EXISTS \(SELECT 1 FROM \w+ WHERE id = .*?\) ", "", row.sql)
            )

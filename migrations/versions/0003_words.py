"""Standard words: paused, manual, attempt_count; a column for when a lease began; causes and reasons are checked."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql, postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

LOSES: dict[str, str] = {}
"""The tables whose rows a downgrade loses, each with a condition if it does not lose them all."""

DERIVED = ("deliveries.claimed_at",)
"""Columns that a downgrade drops and that hold nothing which is not elsewhere: here it is in the lease."""

REPEATABLE = True
"""Each step looks itself whether it is done, so the journal need not know: see database/journal.py."""

MOMENT = (
    sa.DateTime()
    .with_variant(sa.DateTime(timezone=True), "postgresql")
    .with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
)
UUID = sa.Uuid(native_uuid=False).with_variant(postgresql.UUID(), "postgresql")
DELIVERIES = sa.table("deliveries", sa.column("id"), sa.column("lease", UUID), sa.column("claimed_at", MOMENT))

WORDS = (
    ("deliveries", "status", "parked", "paused"),
    ("deliveries", "cause", "person", "manual"),
    ("delivery_attempts", "cause", "person", "manual"),
    ("endpoints", "disabled_because", "person", "manual"),
)
WORDS_BEFORE = tuple((table, column, new, old) for table, column, old, new in WORDS)

CHECKS_BEFORE = {
    ("deliveries", "ck_deliveries_status_known"): "status IN ('pending', 'delivered', 'exhausted', 'parked')",
}
CAUSES = "cause IN ('schedule', 'manual', 'replay')"
KINDS = "'unusable_body', 'unknown_inn', 'balance_limit', 'conflict', 'endpoint_disabled', 'stuck_webhook'"
CHECKS = {
    ("balance_log", "ck_balance_log_reason_known"): "reason IN ('credit')",
    ("incidents", "ck_incidents_kind_known"): f"kind IN ({KINDS})",
    ("deliveries", "ck_deliveries_status_known"): "status IN ('pending', 'delivered', 'exhausted', 'paused')",
    ("deliveries", "ck_deliveries_cause_known"): CAUSES,
    ("deliveries", "ck_deliveries_lease_has_its_moment"): "(lease IS NULL) = (claimed_at IS NULL)",
    ("delivery_attempts", "ck_delivery_attempts_cause_known"): CAUSES,
    ("endpoints", "ck_endpoints_scheme_known"): "scheme IN ('standard', 'x-signature', 'acquiremock')",
    (
        "endpoints",
        "ck_endpoints_disabled_because_known",
    ): "disabled_because IN ('manual', 'failing', 'gone', 'deleted')",
}


def upgrade() -> None:
    """Rename two columns, add one, then change the words together with the checks that know them."""
    _rename("inbox", "tries", "attempt_count")
    _rename("deliveries", "tries", "attempt_count")
    if not _has("deliveries", "claimed_at"):
        op.add_column("deliveries", sa.Column("claimed_at", MOMENT, nullable=True))
    _fill_claimed_at()
    _change(CHECKS_BEFORE, CHECKS, WORDS)


def downgrade() -> None:
    """Take it all back."""
    _change(CHECKS, CHECKS_BEFORE, WORDS_BEFORE)
    if _has("deliveries", "claimed_at"):
        op.drop_column("deliveries", "claimed_at")
    _rename("deliveries", "attempt_count", "tries")
    _rename("inbox", "attempt_count", "tries")


def _has(table, column) -> bool:
    return column in {found["name"] for found in sa.inspect(op.get_bind()).get_columns(table)}


def _rename(table, old, new) -> None:
    if _has(table, old):
        op.execute(f"ALTER TABLE {table} RENAME COLUMN {old} TO {new}")


def _fill_claimed_at() -> None:
    """Read when the leases of this moment began: each is a UUIDv7, milliseconds first."""
    bind = op.get_bind()
    leased = (DELIVERIES.c.lease.is_not(None), DELIVERIES.c.claimed_at.is_(None))
    for row in bind.execute(sa.select(DELIVERIES).where(*leased)).all():
        claimed_at = datetime.fromtimestamp((row.lease.int >> 80) / 1000, UTC)
        if bind.dialect.name != "postgresql":
            claimed_at = claimed_at.replace(tzinfo=None)
        bind.execute(sa.update(DELIVERIES).where(DELIVERIES.c.id == row.id).values(claimed_at=claimed_at))


def _change(before, after, words) -> None:
    """Replace checks by others, and words by those that the new checks allow."""
    if op.get_bind().dialect.name == "sqlite":
        _rebuild(before, after, words)
        return
    for table, name in {**before, **after}:
        if name in {check["name"] for check in sa.inspect(op.get_bind()).get_check_constraints(table)}:
            op.drop_constraint(op.f(name), table, type_="check")
    with _attempts_may_change():
        for table, column, old, new in words:
            op.execute(f"UPDATE {table} SET {column} = '{new}' WHERE {column} = '{old}'")  # noqa: S608 - our own words
    for (table, name), condition in after.items():
        op.create_check_constraint(op.f(name), table, condition)


# ---- SQLite cannot change a constraint: the tables are made anew, together with those that refer to them

TABLES = ("balance_log", "incidents", "endpoints", "replays", "deliveries", "delivery_attempts")
"""From those that are referred to, to those that refer."""


def _rebuild(before, after, words) -> None:
    bind = op.get_bind()
    found = sa.text("SELECT type, tbl_name, sql FROM sqlite_master WHERE sql IS NOT NULL")
    parts = [row for row in bind.execute(found) if row.tbl_name in TABLES]
    definitions = {row.tbl_name: row.sql for row in parts if row.type == "table"}
    for table in TABLES:
        bind.exec_driver_sql(_new_definition(table, definitions[table], before, after))
        _copy(table, [word for word in words if word[0] == table])
    for table in reversed(TABLES):
        op.drop_table(table)
    for table in TABLES:
        op.rename_table(f"new_{table}", table)
    for row in parts:
        if row.type != "table":  # indexes and triggers went with their tables
            bind.exec_driver_sql(row.sql)


def _new_definition(table, definition, before, after) -> str:
    for of, name in before:
        if of == table:
            check = re.escape(f"CONSTRAINT {name} CHECK ({before[of, name]})")
            definition, count = re.subn(rf",\s*{check}", "", definition)
            assert count == 1, name
    checks = "".join(f", CONSTRAINT {name} CHECK ({after[of, name]})" for of, name in after if of == table)
    definition = f"{definition[: definition.rindex(')')]}{checks})"
    any_table = "|".join(TABLES)
    return re.sub(rf'\b(TABLE|REFERENCES) "?({any_table})"?(?=\W)', r'\1 "new_\2"', definition)


def _copy(table, words) -> None:
    columns = [column["name"] for column in sa.inspect(op.get_bind()).get_columns(table)]
    values = dict(zip(columns, columns, strict=True))
    for _, column, old, new in words:
        values[column] = f"CASE {column} WHEN '{old}' THEN '{new}' ELSE {column} END"
    names, selected = ", ".join(values), ", ".join(values.values())
    op.get_bind().exec_driver_sql(f"INSERT INTO new_{table} ({names}) SELECT {selected} FROM {table}")  # noqa: S608


# ---- Attempts are append-only: for one statement they are not


@contextmanager
def _attempts_may_change() -> Iterator[None]:
    if op.get_bind().dialect.name == "postgresql":
        # Should a statement fail, the transaction is rolled back, and the triggers stand as before.
        op.execute("ALTER TABLE delivery_attempts DISABLE TRIGGER USER")
        yield
        op.execute("ALTER TABLE delivery_attempts ENABLE TRIGGER USER")
        return
    for event in ("UPDATE", "DELETE"):
        op.execute(f"DROP TRIGGER IF EXISTS delivery_attempts_no_{event.lower()}")
    try:
        yield
    finally:
        # Without a connection nothing can be done here; the next run closes them.
        for event in () if op.get_bind().invalidated else ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER delivery_attempts_no_{event.lower()} BEFORE {event} ON delivery_attempts FOR EACH ROW "
                "SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'delivery_attempts is append-only'"
            )

"""Two sources may use one operation id; a queued webhook carries the setting that decides about it."""

import re

import click
import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from context import settings

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

LOSES = {"inbox": "unknown_inn = 'hold'"}
"""The rows stay, but an older worker that creates organisations would credit what was to be held for a person."""

DERIVED = ("payments.forward_id",)
"""A downgrade leaves only payments that were handed on under their operation ids: see _refuse_forwarded()."""

REPEATABLE = True
"""Each step looks itself whether it is done."""

UUID = sa.Uuid(native_uuid=False).with_variant(postgresql.UUID(), "postgresql")
PAYMENTS = sa.table(
    "payments", *(sa.column(name, UUID) for name in ("id", "operation_id", "forward_id")), sa.column("source")
)
INBOX = sa.table("inbox", sa.column("unknown_inn", sa.String(8)))
OF_OTHER_BANKS = PAYMENTS.c.source != "plain"

BEFORE, AFTER = ("operation_id",), ("operation_id", "source")
KNOWN, CONDITION = "ck_inbox_unknown_inn_known", "unknown_inn IN ('create', 'hold')"
IDS_SHOWN_MAX = 20


def upgrade() -> None:
    """Make an operation unique within its source, keep what older events said, and give the inbox its column."""
    if not _has("payments", "forward_id"):
        op.add_column("payments", sa.Column("forward_id", UUID, nullable=True))
    # Other banks' payments were handed on under their operation ids. Those that come from now on are not.
    op.execute(
        sa.update(PAYMENTS)
        .where(OF_OTHER_BANKS, PAYMENTS.c.forward_id.is_(None))
        .values(forward_id=PAYMENTS.c.operation_id)
    )
    if not _has("inbox", "unknown_inn"):
        op.add_column("inbox", sa.Column("unknown_inn", sa.String(8), nullable=True))
    # What waits was to be credited by a worker with the same settings as this command.
    op.execute(sa.update(INBOX).where(INBOX.c.unknown_inn.is_(None)).values(unknown_inn=str(settings().unknown_inn)))
    if op.get_bind().dialect.name == "sqlite":
        check = f"unknown_inn VARCHAR(8) NOT NULL, CONSTRAINT {KNOWN} CHECK ({CONDITION})"
        _rebuild({"payments": [(_unique(BEFORE), _unique(AFTER))], "inbox": [("unknown_inn VARCHAR(8)", check)]})
        return
    _replace_unique(BEFORE, AFTER)
    op.alter_column("inbox", "unknown_inn", existing_type=sa.String(8), nullable=False)
    if not _has_check():
        op.create_check_constraint(op.f(KNOWN), "inbox", CONDITION)


def downgrade() -> None:
    """Take it all back, unless two sources share an id, or a payment may have been handed on under an id of ours."""
    _refuse_shared_ids()
    _refuse_forwarded()
    if op.get_bind().dialect.name == "sqlite":
        check = f"unknown_inn VARCHAR(8) NOT NULL, CONSTRAINT {KNOWN} CHECK ({CONDITION})"
        _rebuild({"payments": [(_unique(AFTER), _unique(BEFORE))], "inbox": [(check, "unknown_inn VARCHAR(8)")]})
    else:
        _replace_unique(AFTER, BEFORE)
        if _has_check():
            op.drop_constraint(op.f(KNOWN), "inbox", type_="check")
    for table, column in (("inbox", "unknown_inn"), ("payments", "forward_id")):
        if _has(table, column):
            op.drop_column(table, column)


def _refuse_shared_ids() -> None:
    """End where the older tables could not hold what is there: money of two sources under one id."""
    query = sa.select(PAYMENTS.c.operation_id).group_by(PAYMENTS.c.operation_id).having(sa.func.count() > 1)
    shared = op.get_bind().scalars(query.order_by(PAYMENTS.c.operation_id)).all()
    if shared:
        listed = "\n".join(f"  {id_}" for id_ in shared[:IDS_SHOWN_MAX])
        more = f"\n  and {len(shared) - IDS_SHOWN_MAX} more" if len(shared) > IDS_SHOWN_MAX else ""
        raise click.ClickException(
            "The older tables hold one payment for each operation id, whatever its source. Two sources have used "
            f"these, and a payment of each would be lost. Nothing was changed.\n{listed}{more}"
        )


def _refuse_forwarded() -> None:
    """End where the older version would send a payment again under another id, to be credited again."""
    if not _has("payments", "forward_id"):
        return
    query = sa.select(sa.func.count()).where(OF_OTHER_BANKS, PAYMENTS.c.forward_id.is_(None))
    count = op.get_bind().scalar(query.select_from(PAYMENTS))
    if count:
        raise click.ClickException(
            f"{count} payments of other banks than the plain one may have been sent to another Kopeck under ids of "
            "ours. The older version would send them under others, and they would be credited there again. Nothing "
            "was changed."
        )


def _has(table, column) -> bool:
    return column in {found["name"] for found in sa.inspect(op.get_bind()).get_columns(table)}


def _has_check() -> bool:
    return KNOWN in {check["name"] for check in sa.inspect(op.get_bind()).get_check_constraints("inbox")}


def _name(columns) -> str:
    return f"uq_payments_{'_'.join(columns)}"


def _unique(columns) -> str:
    return f"CONSTRAINT {_name(columns)} UNIQUE ({', '.join(columns)})"


def _replace_unique(before, after) -> None:
    found = {unique["name"] for unique in sa.inspect(op.get_bind()).get_unique_constraints("payments")}
    if _name(after) not in found:
        op.create_unique_constraint(_name(after), "payments", list(after))
    if _name(before) in found:
        op.drop_constraint(_name(before), "payments", type_="unique")


# ---- SQLite cannot change a constraint: the tables are made anew, together with those that refer to them

TABLES = ("payments", "balance_log", "inbox")
"""From those that are referred to, to those that refer."""


def _rebuild(changes) -> None:
    bind = op.get_bind()
    found = sa.text("SELECT type, tbl_name, sql FROM sqlite_master WHERE sql IS NOT NULL")
    parts = [row for row in bind.execute(found) if row.tbl_name in TABLES]
    definitions = {row.tbl_name: row.sql for row in parts if row.type == "table"}
    for table in TABLES:
        bind.exec_driver_sql(_new_definition(definitions[table], changes.get(table, ())))
        columns = ", ".join(column["name"] for column in sa.inspect(bind).get_columns(table))
        bind.exec_driver_sql(f"INSERT INTO new_{table} ({columns}) SELECT {columns} FROM {table} ORDER BY rowid")  # noqa: S608
    for table in reversed(TABLES):
        op.drop_table(table)
    for table in TABLES:
        op.rename_table(f"new_{table}", table)
    for row in parts:
        if row.type != "table":  # indexes and triggers went with their tables
            bind.exec_driver_sql(row.sql)


def _new_definition(definition, changes) -> str:
    for old, new in changes:
        assert definition.count(old) == 1, old
        definition = definition.replace(old, new)
    any_table = "|".join(TABLES)
    return re.sub(rf'\b(TABLE|REFERENCES) "?({any_table})"?(?=\W)', r'\1 "new_\2"', definition)

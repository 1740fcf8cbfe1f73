"""Every move names where the money came from or went to; balances can be debited; each row of the log is chained."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import click
import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql, postgresql

from database import append_only
from ledger import chain

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

LOSES = {"overdraft_limits": "", "transfers": "", "debits": "", "accounts": "kind <> 'bank'"}
"""The tables whose rows a downgrade loses, each with a condition if it does not lose them all."""

DERIVED = (
    "organizations.overdraft_limit",
    "organizations.outside_debits",
    "organizations.head_sha256",
    "balance_log.debit_id",
    "balance_log.counter_account",
    "balance_log.overdraft_limit",
    "balance_log.row_sha256",
)
"""Without debits and limits these say nothing that the other columns do not say.

With debits a downgrade is refused. With limits it is refused unless it may lose rows; an upgrade after that makes other
hashes.
"""

REPEATABLE = True
"""Each step looks itself whether it is done."""

MOMENT = (
    sa.DateTime()
    .with_variant(sa.DateTime(timezone=True), "postgresql")
    .with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
)
UUID = sa.Uuid(native_uuid=False).with_variant(postgresql.UUID(), "postgresql")
BYTEWISE = {
    f"{family}_{option}": value
    for family in ("mysql", "mariadb")
    for option, value in (("engine", "InnoDB"), ("charset", "utf8mb4"), ("collate", "utf8mb4_bin"))
}

EMPTY_LOG = "0" * 64
HOLES_NAMED = 5
ROWS_AT_A_TIME = 1000
ROWS_BETWEEN_WORDS = 100_000

BEFORE_KINDS = (
    "kind IN ('unusable_body', 'unknown_inn', 'balance_limit', 'conflict', 'endpoint_disabled', 'stuck_webhook', "
    "'unreadable_keys')"
)
AFTER_KINDS = (
    "kind IN ('unusable_body', 'unknown_inn', 'balance_limit', 'conflict', 'overdrawn', 'endpoint_disabled', "
    "'stuck_webhook', 'unreadable_keys')"
)
Checks = dict[str, str]
Columns = dict[str, tuple[Any, str | None]]

ORGANIZATION_COLUMNS = {
    "overdraft_limit": (sa.BigInteger(), "0"),
    "outside_debits": (sa.BigInteger(), "0"),
    "head_sha256": (sa.String(64), EMPTY_LOG),
}
LOG_COLUMNS = {
    "debit_id": (UUID, None),
    "counter_account": (sa.String(64), None),
    "overdraft_limit": (sa.BigInteger(), None),
    "row_sha256": (sa.String(64), None),
}
"""The columns that come, each with its type and what older rows have in it until they are looked at."""

BEFORE: dict[str, Checks] = {
    "organizations": {"balance_not_negative": "balance >= 0"},
    "balance_log": {
        "before_not_negative": "balance_before >= 0",
        "after_not_negative": "balance_after >= 0",
        "reason_known": "reason IN ('credit')",
    },
    "incidents": {"kind_known": BEFORE_KINDS},
}
AFTER: dict[str, Checks] = {
    "organizations": {
        "balance_within_overdraft": "balance >= -overdraft_limit - outside_debits",
        "overdraft_limit_not_negative": "overdraft_limit >= 0",
        "outside_debits_not_negative": "outside_debits >= 0",
    },
    "balance_log": {
        "explained": (
            "(delta > 0 AND reason = 'credit' AND payment_id IS NOT NULL AND debit_id IS NULL) OR "
            "(delta < 0 AND reason <> 'credit' AND payment_id IS NULL AND debit_id IS NOT NULL)"
        ),
        "within_overdraft": "reason <> 'debit' OR balance_after >= -overdraft_limit",
        "reason_known": "reason IN ('credit', 'debit', 'outside_debit')",
    },
    "incidents": {"kind_known": AFTER_KINDS},
}
"""The constraints that change, by table and name."""

OLDER: append_only.Keys = {"balance_log": (("organization_id", "version"), ("payment_id",))}
ADDED = ("transfers", "overdraft_limits")
NEWER: append_only.Keys = {
    "balance_log": (("organization_id", "version"), ("payment_id",), ("debit_id",)),
    "transfers": (("number",), ("operation_id",)),
    "overdraft_limits": (("organization_id", "number"),),
}
"""The tables that only grow, before and after."""


def upgrade() -> None:
    """Add the tables and columns, name the banks of all credits, and chain the log from its first row on."""
    _refuse_holes()
    for table, create in CREATE.items():
        if not sa.inspect(op.get_bind()).has_table(table):
            create()
    _index_debits()
    _add_banks()
    _add_columns("organizations", ORGANIZATION_COLUMNS)
    _add_columns("balance_log", LOG_COLUMNS)
    _drop_triggers("balance_log")
    _chain()
    _close("organizations", ORGANIZATION_COLUMNS)
    _close("balance_log", LOG_COLUMNS)
    _close("incidents", {})
    _make_triggers(NEWER)


def downgrade() -> None:
    """Take it all back, unless a balance was debited: the older tables could not hold that."""
    _refuse_debits()
    _drop_triggers("balance_log")
    for table in ("balance_log", "organizations", "incidents"):
        _open(table)
    for table in reversed(CREATE):
        op.execute(f"DROP TABLE IF EXISTS {table}")
    if _dialect() == "postgresql":
        for table in ADDED:
            op.execute(f"DROP FUNCTION IF EXISTS refuse_change_of_{table}()")
    _make_triggers(OLDER)


def _refuse_debits() -> None:
    if not sa.inspect(op.get_bind()).has_table("debits"):
        return
    count = op.get_bind().scalar(sa.text("SELECT count(*) FROM debits"))
    if count:
        raise click.ClickException(
            f"Balances were debited {count} times. The older tables hold credits only, and their balances would not "
            "add up. Nothing was changed."
        )


# ---- New tables


def _create_accounts() -> None:
    op.create_table(
        "accounts",
        sa.Column("code", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("currency", sa.String(3), nullable=False),
        sa.PrimaryKeyConstraint("code", name="pk_accounts"),
        sa.CheckConstraint(
            "kind IN ('bank', 'transit', 'fees', 'expenses', 'vat', 'refunds', 'disputes', 'corrections')",
            name=op.f("ck_accounts_kind_known"),
        ),
        **BYTEWISE,
    )


def _create_debits() -> None:
    op.create_table(
        "debits",
        sa.Column("id", UUID, nullable=False),
        sa.Column("operation_id", UUID, nullable=False),
        sa.Column("source", sa.String(32), nullable=False),
        sa.Column("organization_id", sa.BigInteger(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(3), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("made_by", sa.String(255), nullable=False),
        sa.Column("made_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_debits"),
        sa.UniqueConstraint("operation_id", "source", name="uq_debits_operation_id_source"),
        sa.ForeignKeyConstraint(["organization_id"], ["organizations.id"], name="fk_debits_organization_id"),
        sa.CheckConstraint("amount > 0", name=op.f("ck_debits_amount_positive")),
        **BYTEWISE,
    )


def _index_debits() -> None:
    name = "ix_debits_organization_id_id"
    if name not in {index["name"] for index in sa.inspect(op.get_bind()).get_indexes("debits")}:
        op.create_index(name, "debits", ["organization_id", "id"])


def _create_transfers() -> None:
    op.create_table(
        "transfers",
        sa.Column("number", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("operation_id", UUID, nullable=False),
        sa.Column("debit_account", sa.String(64), nullable=False),
        sa.Column("credit_account", sa.String(64), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(3), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("made_by", sa.String(255), nullable=False),
        sa.Column("made_at", MOMENT, nullable=False),
        sa.Column("row_sha256", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_transfers"),
        sa.UniqueConstraint("operation_id", name="uq_transfers_operation_id"),
        sa.ForeignKeyConstraint(["debit_account"], ["accounts.code"], name="fk_transfers_debit_account"),
        sa.ForeignKeyConstraint(["credit_account"], ["accounts.code"], name="fk_transfers_credit_account"),
        sa.CheckConstraint("number >= 1", name=op.f("ck_transfers_number_positive")),
        sa.CheckConstraint("amount > 0", name=op.f("ck_transfers_amount_positive")),
        sa.CheckConstraint("debit_account <> credit_account", name=op.f("ck_transfers_moves")),
        **BYTEWISE,
    )


def _create_overdraft_limits() -> None:
    op.create_table(
        "overdraft_limits",
        sa.Column("organization_id", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("overdraft_limit", sa.BigInteger(), nullable=False),
        sa.Column("set_by", sa.String(255), nullable=False),
        sa.Column("set_at", MOMENT, nullable=False),
        sa.Column("row_sha256", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("organization_id", "number", name="pk_overdraft_limits"),
        sa.ForeignKeyConstraint(["organization_id"], ["organizations.id"], name="fk_overdraft_limits_organization_id"),
        sa.CheckConstraint("number >= 1", name=op.f("ck_overdraft_limits_number_positive")),
        sa.CheckConstraint("overdraft_limit >= 0", name=op.f("ck_overdraft_limits_overdraft_limit_not_negative")),
        **BYTEWISE,
    )


CREATE = {
    "accounts": _create_accounts,
    "debits": _create_debits,
    "transfers": _create_transfers,
    "overdraft_limits": _create_overdraft_limits,
}


def _add_banks() -> None:
    """Make an account of each bank that has announced money."""
    bind, accounts = op.get_bind(), sa.table("accounts", *map(sa.column, ("code", "kind", "currency")))
    known = set(bind.scalars(sa.select(accounts.c.code)))
    for source in bind.scalars(sa.text("SELECT DISTINCT source FROM payments ORDER BY source")).all():
        if f"bank:{source}" not in known:
            bind.execute(sa.insert(accounts).values(code=f"bank:{source}", kind="bank", currency="RUB"))


# ---- The chain

LOG = sa.table(
    "balance_log",
    sa.column("organization_id"),
    sa.column("payment_id", UUID),
    sa.column("created_at", MOMENT),
    *(sa.column(name) for name in ("version", "reason", "delta", "balance_before", "balance_after", "row_sha256")),
    *(sa.column(name) for name in ("counter_account", "overdraft_limit")),
)
PAYMENTS = sa.table(
    "payments",
    *(sa.column(name, UUID) for name in ("id", "operation_id", "forward_id")),
    *(sa.column(name, MOMENT) for name in ("document_date", "received_at")),
    *(sa.column(name) for name in ("external_id", "source", "payer_inn", "amount", "currency", "document_number")),
    *(sa.column(name) for name in ("body_sha256", "key_id")),
)
ORGANIZATIONS = sa.table("organizations", sa.column("id"), sa.column("inn"), sa.column("head_sha256"))
Row = sa.Row[tuple[object, ...]]


def _chain() -> None:
    """Write the other side and the hash of each row, in the order of the log, and each head with its balance."""
    bind, done = op.get_bind(), 0
    total = bind.scalar(sa.text("SELECT count(*) FROM balance_log")) or 0
    head, organization_id = EMPTY_LOG, None
    for rows in _pages():
        changes, heads = [], {}
        for row in rows:
            if row.organization_id != organization_id:
                head, organization_id = EMPTY_LOG, row.organization_id
            move, payment = _parts(row)
            head = chain.move_sha256(head, row.inn, move, payment)
            heads[organization_id] = head
            changes.append(
                {
                    "of": row.organization_id,
                    "at": row.version,
                    "counter_account": move["counter_account"],
                    "overdraft_limit": 0,
                    "row_sha256": head,
                }
            )
        _write(changes, heads)
        done += len(rows)
        if done % ROWS_BETWEEN_WORDS < ROWS_AT_A_TIME and total >= ROWS_BETWEEN_WORDS:
            click.echo(f"{done:,} of {total:,} rows of the log are chained.", err=True)


def _refuse_holes() -> None:
    """End before anything is changed when rows of the log name what is not there, whatever took it away."""
    holes = (
        sa.select(*LOG.c["organization_id", "version"])
        .join_from(LOG, PAYMENTS, PAYMENTS.c.id == LOG.c.payment_id, isouter=True)
        .join(ORGANIZATIONS, ORGANIZATIONS.c.id == LOG.c.organization_id, isouter=True)
        .where(LOG.c.payment_id.is_not(None), sa.or_(PAYMENTS.c.id.is_(None), ORGANIZATIONS.c.id.is_(None)))
        .order_by(*LOG.c["organization_id", "version"])
        .limit(HOLES_NAMED)
    )
    found = [f"{row.version} of organisation {row.organization_id}" for row in op.get_bind().execute(holes)]
    if found:
        raise click.ClickException(
            f"Rows of balance_log name a payment or an organisation that is not there: {', '.join(found)}. There may "
            "be more. Nothing was changed. Bring back from a backup what is gone, and run the same command again."
        )


def _pages() -> Iterator[list[Row]]:
    """Read the log in its order, a page at a time: MariaDB allows no second statement beside a stream."""
    payment = [column.label(f"of_payment_{column.name}") for column in PAYMENTS.c]
    query = (
        sa.select(*LOG.c, ORGANIZATIONS.c.inn, *payment)
        .join_from(LOG, PAYMENTS, PAYMENTS.c.id == LOG.c.payment_id)
        .join(ORGANIZATIONS, ORGANIZATIONS.c.id == LOG.c.organization_id)
        .order_by(LOG.c.organization_id, LOG.c.version)
    )
    bind, last = op.get_bind(), (0, 0)
    while True:
        # First what is left of the same organisation, then the next ones: both by the primary key.
        same = query.where(LOG.c.organization_id == last[0], LOG.c.version > last[1]).limit(ROWS_AT_A_TIME)
        rows = list(bind.execute(same).all())
        if len(rows) < ROWS_AT_A_TIME:
            others = query.where(LOG.c.organization_id > last[0]).limit(ROWS_AT_A_TIME - len(rows))
            rows += bind.execute(others).all()
        if not rows:
            return
        last = rows[-1].organization_id, rows[-1].version
        yield rows


def _parts(row: Row) -> tuple[dict[str, object], dict[str, object]]:
    """Return a row of the log as it will be, and its payment."""
    payment = {column.name: getattr(row, f"of_payment_{column.name}") for column in PAYMENTS.c}
    move = {column.name: getattr(row, column.name) for column in LOG.c}
    move |= {"counter_account": f"bank:{payment['source']}", "overdraft_limit": 0}
    return _in_utc(move), _in_utc(payment)


def _in_utc(row: dict[str, object]) -> dict[str, object]:
    """Give moments their zone, which two of the databases do not keep."""
    return {
        name: value.replace(tzinfo=UTC) if isinstance(value, datetime) and value.tzinfo is None else value
        for name, value in row.items()
    }


def _write(changes: list[dict[str, object]], heads: dict[object, str]) -> None:
    bind = op.get_bind()
    names = ("counter_account", "overdraft_limit", "row_sha256")
    bind.execute(
        sa.update(LOG)
        .where(LOG.c.organization_id == sa.bindparam("of"), LOG.c.version == sa.bindparam("at"))
        .values({name: sa.bindparam(name) for name in names}),
        changes,
    )
    bind.execute(
        sa.update(ORGANIZATIONS)
        .where(ORGANIZATIONS.c.id == sa.bindparam("of"))
        .values(head_sha256=sa.bindparam("head")),
        [{"of": organization_id, "head": head} for organization_id, head in heads.items()],
    )


# ---- Columns and constraints


def _dialect() -> str:
    return op.get_bind().dialect.name


def _add_columns(table: str, columns: Columns) -> None:
    there = {column["name"] for column in sa.inspect(op.get_bind()).get_columns(table)}
    for name, (kind, older) in columns.items():
        if name not in there:
            op.add_column(table, sa.Column(name, kind, nullable=older is None, server_default=older))


def _close(table: str, columns: Columns) -> None:
    """Give a table its constraints, now that its rows are as they ask for."""
    if _dialect() == "sqlite":
        _close_on_sqlite(table)
        return
    _swap_checks(table, BEFORE[table], AFTER[table])
    for name, (kind, _older) in columns.items():
        if name != "debit_id":
            op.alter_column(table, name, existing_type=kind, nullable=False, server_default=None)
    if table == "balance_log":
        op.alter_column(table, "payment_id", existing_type=UUID, nullable=True)
        if "uq_balance_log_debit_id" not in _uniques(table):
            op.create_unique_constraint("uq_balance_log_debit_id", table, ["debit_id"])
        for column, (referred, key) in LOG_KEYS.items():
            if f"fk_{table}_{column}" not in _keys(table):
                op.create_foreign_key(f"fk_{table}_{column}", table, referred, [column], [key])


LOG_KEYS = {"debit_id": ("debits", "id"), "counter_account": ("accounts", "code")}


def _open(table: str) -> None:
    """Take columns and constraints back."""
    columns = {"organizations": ORGANIZATION_COLUMNS, "balance_log": LOG_COLUMNS}.get(table, {})
    if _dialect() == "sqlite":
        _open_on_sqlite(table, columns)
        return
    _swap_checks(table, AFTER[table], BEFORE[table])
    if table == "balance_log":
        for column in LOG_KEYS:
            if f"fk_{table}_{column}" in _keys(table):
                op.drop_constraint(f"fk_{table}_{column}", table, type_="foreignkey")
        if "uq_balance_log_debit_id" in _uniques(table):
            op.drop_constraint("uq_balance_log_debit_id", table, type_="unique")
        op.alter_column(table, "payment_id", existing_type=UUID, nullable=False)
    there = {column["name"] for column in sa.inspect(op.get_bind()).get_columns(table)}
    for name in columns:
        if name in there:
            op.drop_column(table, name)


def _swap_checks(table: str, old: Checks, new: Checks) -> None:
    present = {check["name"] for check in sa.inspect(op.get_bind()).get_check_constraints(table)}
    for name in old:
        if f"ck_{table}_{name}" in present:
            op.drop_constraint(op.f(f"ck_{table}_{name}"), table, type_="check")
    for name, condition in new.items():
        if name in old or f"ck_{table}_{name}" not in present:
            op.create_check_constraint(op.f(f"ck_{table}_{name}"), table, condition)


def _uniques(table: str) -> set[str | None]:
    return {unique["name"] for unique in sa.inspect(op.get_bind()).get_unique_constraints(table)}


def _keys(table: str) -> set[str | None]:
    return {key["name"] for key in sa.inspect(op.get_bind()).get_foreign_keys(table)}


# ---- SQLite cannot change a constraint: the table is made anew, from the words of the old one

OTHER_CLAUSES = {
    "balance_log": [
        "CONSTRAINT uq_balance_log_debit_id UNIQUE (debit_id)",
        "CONSTRAINT fk_balance_log_debit_id FOREIGN KEY(debit_id) REFERENCES debits (id)",
        "CONSTRAINT fk_balance_log_counter_account FOREIGN KEY(counter_account) REFERENCES accounts (code)",
    ],
}
"""What else is said of the columns that come."""

COLUMN_WORDS = {
    "organizations": {
        "overdraft_limit BIGINT DEFAULT '0' NOT NULL": "overdraft_limit BIGINT NOT NULL",
        "outside_debits BIGINT DEFAULT '0' NOT NULL": "outside_debits BIGINT NOT NULL",
        f"head_sha256 VARCHAR(64) DEFAULT '{EMPTY_LOG}' NOT NULL": "head_sha256 VARCHAR(64) NOT NULL",
    },
    "balance_log": {
        "payment_id CHAR(32) NOT NULL": "payment_id CHAR(32)",
        "debit_id CHAR(32)": "debit_id CHAR(32)",
        "counter_account VARCHAR(64)": "counter_account VARCHAR(64) NOT NULL",
        "overdraft_limit BIGINT": "overdraft_limit BIGINT NOT NULL",
        "row_sha256 VARCHAR(64)": "row_sha256 VARCHAR(64) NOT NULL",
    },
}
"""How a column reads when it is added, and how from then on."""


def _close_on_sqlite(table: str) -> None:
    words = _words(table)
    for added, kept in COLUMN_WORDS.get(table, {}).items():
        words = _replaced(words, f"{added},", f"{kept},")
    for clause in _checks(table, BEFORE[table]):
        words = re.sub(rf",\s*{re.escape(clause)}", "", words, count=1)
    clauses = [*_checks(table, AFTER[table]), *OTHER_CLAUSES.get(table, [])]
    _make_anew(table, f"{words.rstrip()[:-1]}, {', '.join(clauses)})")


def _open_on_sqlite(table: str, columns: Columns) -> None:
    words = _words(table)
    for added, kept in COLUMN_WORDS.get(table, {}).items():
        if added.split()[0] in columns:
            words = _replaced(words, f", {kept}", "")
        else:
            words = _replaced(words, f"{kept},", f"{added},")
    for clause in (*_checks(table, AFTER[table]), *OTHER_CLAUSES.get(table, [])):
        words = _replaced(words, f", {clause}", "")
    _make_anew(table, f"{words.rstrip()[:-1]}, {', '.join(_checks(table, BEFORE[table]))})")


def _checks(table: str, conditions: Checks) -> list[str]:
    return [f"CONSTRAINT ck_{table}_{name} CHECK ({condition})" for name, condition in conditions.items()]


def _replaced(words: str, old: str, new: str) -> str:
    assert words.count(old) == 1, old
    return words.replace(old, new)


def _words(table: str) -> str:
    query = sa.text("SELECT sql FROM sqlite_master WHERE type = 'table' AND name = :table")
    return str(op.get_bind().scalar(query, {"table": table}))


def _make_anew(table: str, words: str) -> None:
    bind = op.get_bind()
    query = sa.text("SELECT type, name, tbl_name, sql FROM sqlite_master WHERE type <> 'table' AND sql IS NOT NULL")
    others = [row for row in bind.execute(query) if table in (row.tbl_name, *re.findall(r"\w+", row.sql))]
    for row in others:
        # Those of other tables too, if they look at this one.
        op.execute(f"DROP {row.type} {row.name}")
    bind.exec_driver_sql(re.sub(rf'\bTABLE "?{table}"?(?=\W)', f'TABLE "new_{table}"', words, count=1))
    columns = ", ".join(column["name"] for column in sa.inspect(bind).get_columns(f"new_{table}"))
    bind.exec_driver_sql(f"INSERT INTO new_{table} ({columns}) SELECT {columns} FROM {table} ORDER BY rowid")  # noqa: S608
    op.drop_table(table)
    op.rename_table(f"new_{table}", table)
    for row in others:
        bind.exec_driver_sql(row.sql)


# ---- Triggers


def _drop_triggers(table: str) -> None:
    on_table = f" ON {table}" if _dialect() == "postgresql" else ""
    for trigger in append_only.triggers(_dialect(), NEWER):
        if trigger.table == table:
            op.execute(f"DROP TRIGGER IF EXISTS {trigger.name}{on_table}")


def _make_triggers(keys: append_only.Keys) -> None:
    for name, function in append_only.functions(_dialect(), keys).items():
        if name.removeprefix("refuse_change_of_") in keys:
            op.execute(function)
    present = append_only.found(op.get_bind())
    for trigger in append_only.triggers(_dialect(), keys):
        if trigger.table in keys and present.get(trigger.name) != trigger.definition:
            on_table = f" ON {trigger.table}" if _dialect() == "postgresql" else ""
            op.execute(f"DROP TRIGGER IF EXISTS {trigger.name}{on_table}")
            op.execute(trigger.statement)

"""Secrets of endpoints are bound to their rows; an incident says which of them cannot be read."""

import re
from collections.abc import Callable

import click
import sqlalchemy as sa
from alembic import op

from context import cipher
from encryption import BOUND
from errors import SecretUnreadable

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

LOSES = {"incidents": "kind = 'unreadable_keys'"}
"""The tables whose rows a downgrade loses, each with a condition if it does not lose them all."""

REPEATABLE = True
"""Each step looks itself whether it is done: the same text is encrypted differently each time."""

ENDPOINTS = sa.table("endpoints", sa.column("id"), sa.column("secrets"))
CHECK = "ck_incidents_kind_known"
KINDS = ("unusable_body", "unknown_inn", "balance_limit", "conflict", "endpoint_disabled", "stuck_webhook")


def upgrade() -> None:
    """Bind what the keys of this moment can read; the rest stays as it is, and is named."""
    _allow_kinds(*KINDS, "unreadable_keys")
    unread = _encrypt_anew(_bound, lambda text: not text.startswith(BOUND))
    if unread:
        click.echo(
            f"The secrets of these endpoints cannot be read with SECRETS_KEYS: {unread}. Their deliveries wait. Put "
            "the key that is missing back and run `flask endpoints reencrypt --unbound NUMBER` for each, or give it a "
            "new secret: `flask endpoints rotate NUMBER --overlap 0`."
        )


def downgrade() -> None:
    """Store the secrets as before, bound to nothing; the older version could not read them otherwise."""
    op.execute("DELETE FROM incidents WHERE kind = 'unreadable_keys'")
    _allow_kinds(*KINDS)
    unread = _encrypt_anew(_unbound, lambda text: text.startswith(BOUND))
    if unread:
        click.echo(f"The secrets of these endpoints cannot be read with SECRETS_KEYS and stay as they are: {unread}.")


def _encrypt_anew(encrypt: Callable[[int, str], str], wanted: Callable[[str], bool]) -> str:
    """Encrypt the secrets that are to be changed; return the numbers of the endpoints whose cannot be read."""
    bind, unread = op.get_bind(), []
    for row in bind.execute(sa.select(ENDPOINTS).order_by(ENDPOINTS.c.id)).all():
        # A deleted endpoint has none.
        if row.secrets and wanted(row.secrets):
            try:
                secrets = encrypt(row.id, row.secrets)
            except SecretUnreadable:
                unread.append(str(row.id))
                continue
            bind.execute(sa.update(ENDPOINTS).where(ENDPOINTS.c.id == row.id).values(secrets=secrets))
    return ", ".join(unread)


def _bound(endpoint_id: int, text: str) -> str:
    return cipher().encrypt(cipher().decrypt_unbound(text), bound_to=f"endpoints.secrets/{endpoint_id}")


def _unbound(endpoint_id: int, text: str) -> str:
    return cipher().encrypt_unbound(cipher().decrypt(text, bound_to=f"endpoints.secrets/{endpoint_id}"))


def _allow_kinds(*kinds: str) -> None:
    condition = "kind IN ({})".format(", ".join(f"'{kind}'" for kind in kinds))
    if op.get_bind().dialect.name == "sqlite":
        _rebuild_incidents(condition)
        return
    if CHECK in {check["name"] for check in sa.inspect(op.get_bind()).get_check_constraints("incidents")}:
        op.drop_constraint(op.f(CHECK), "incidents", type_="check")
    op.create_check_constraint(op.f(CHECK), "incidents", condition)


def _rebuild_incidents(condition: str) -> None:
    """Make the table anew: SQLite cannot change a constraint. No other table refers to this one."""
    bind = op.get_bind()
    found = sa.text("SELECT type, sql FROM sqlite_master WHERE tbl_name = 'incidents' AND sql IS NOT NULL")
    parts = bind.execute(found).all()
    (definition,) = [row.sql for row in parts if row.type == "table"]
    check = rf"(CONSTRAINT {CHECK} CHECK) \(kind IN \([^)]*\)\)"
    definition, count = re.subn(check, rf"\1 ({condition})", definition)
    assert count == 1, definition
    bind.exec_driver_sql(re.sub(r'(?<=TABLE )"?incidents"?', "new_incidents", definition, count=1))
    bind.exec_driver_sql("INSERT INTO new_incidents SELECT * FROM incidents")
    op.drop_table("incidents")
    op.rename_table("new_incidents", "incidents")
    for row in parts:
        if row.type != "table":  # indexes went with the table
            bind.exec_driver_sql(row.sql)

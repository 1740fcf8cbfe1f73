"""SQLite: REPLACE takes no row of the tables that only grow, by whatever key it comes, and by none of the attempts."""

from alembic import op

from database import append_only

revision = "0004"
down_revision = "0003"

LOSES: dict[str, str] = {}
"""The tables whose rows a downgrade loses, each with a condition if it does not lose them all."""

OLDER: append_only.Keys = {
    "balance_log": (("organization_id", "version"), ("payment_id",)),
    "delivery_attempts": (("delivery_id", "number"),),
}
"""The tables that only grow, as they were then."""

BEFORE = (
    "CREATE TRIGGER balance_log_no_replace BEFORE INSERT ON balance_log WHEN EXISTS (SELECT 1 FROM balance_log "
    "WHERE (organization_id, version) = (NEW.organization_id, NEW.version) OR payment_id = NEW.payment_id) "
    "BEGIN SELECT RAISE(ABORT, 'balance_log is append-only'); END"
)


def upgrade() -> None:
    """Have the log's trigger look at the number of the row too, and give the attempts one."""
    if op.get_bind().dialect.name == "sqlite":
        op.execute("DROP TRIGGER balance_log_no_replace")
        for trigger in append_only.triggers("sqlite", OLDER):
            if trigger.name in ("balance_log_no_replace", "delivery_attempts_no_replace"):
                op.execute(trigger.definition)


def downgrade() -> None:
    """Give back the log's trigger as it was."""
    if op.get_bind().dialect.name == "sqlite":
        op.execute("DROP TRIGGER delivery_attempts_no_replace")
        op.execute("DROP TRIGGER balance_log_no_replace")
        op.execute(BEFORE)

"""REST: is the process alive, and are its database and migrations in order."""

from typing import Any

from flask_smorest import Blueprint

from context import cipher, now, wall_clock
from database import checks, revisions
from errors import DatabaseUnavailable, SecretsUnreadable
from ledger import overdue
from outbox import stored_secrets
from schemas import HealthOut, ReadyOut

blueprint = Blueprint("health", __name__, description="For load balancers and supervisors")


@blueprint.route("/healthz")
@blueprint.doc(security=[])
@blueprint.response(200, HealthOut)
def alive() -> dict[str, str]:
    """Answer as long as the process serves at all."""
    return {"status": "ok"}


@blueprint.route("/readyz")
@blueprint.doc(security=[])
@blueprint.response(200, ReadyOut)
def ready() -> dict[str, Any]:
    """Answer 200 when the database is there and has the tables of this version or of a later one, else 503.

    Also 503 when the database only reads, is in another encoding than UTF-8, lets a session pass triggers by, or may
    lose what was acknowledged (such as `fsync` off), and when SECRETS_KEYS can read none of the stored secrets of
    endpoints. Warnings are about clocks that differ, a binary log that is not synced, SQLite without WAL, and single
    secrets that cannot be read; and about webhooks that nobody credits: without this server the bank could not even
    hand in the next ones.
    """
    found = checks.look_now(clock=wall_clock)
    if (problem := found.problem() or revisions.problem()) is not None:
        raise DatabaseUnavailable(problem)
    in_use = stored_secrets.in_use(cipher())
    if in_use.unreadable and not in_use.readable:
        raise SecretsUnreadable
    warnings = found.warnings
    if in_use.unreadable:
        numbers = stored_secrets.listed(in_use.unreadable)
        warnings.append(f"The secrets of endpoints {numbers} cannot be read; their events wait.")
    warnings += overdue.warnings(now=now())
    return {"status": "ok", "warnings": warnings} if warnings else {"status": "ok"}

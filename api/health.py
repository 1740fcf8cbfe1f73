"""REST: is the process alive, and are its database and migrations in order."""

from typing import Any

from flask_smorest import Blueprint

from context import now
from database import revisions
from errors import DatabaseUnavailable
from ledger import overdue
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

    Webhooks that nobody credits are a warning: without this server the bank could not even hand in the next ones.
    """
    if (problem := revisions.problem()) is not None:
        raise DatabaseUnavailable(problem)
    waiting = overdue.warning(now=now())
    return {"status": "ok", "warnings": [waiting]} if waiting else {"status": "ok"}

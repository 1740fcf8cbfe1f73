"""REST: is the process alive, and are its database and migrations in order."""

from flask_smorest import Blueprint

from database import revisions
from errors import DatabaseUnavailable
from schemas import HealthOut

blueprint = Blueprint("health", __name__, description="For load balancers and supervisors")


@blueprint.route("/healthz")
@blueprint.doc(security=[])
@blueprint.response(200, HealthOut)
def alive() -> dict[str, str]:
    """Answer as long as the process serves at all."""
    return {"status": "ok"}


@blueprint.route("/readyz")
@blueprint.doc(security=[])
@blueprint.response(200, HealthOut)
def ready() -> dict[str, str]:
    """Answer 200 when the database is there and has the tables of this version or of a later one, else 503."""
    if (problem := revisions.problem()) is not None:
        raise DatabaseUnavailable(problem)
    return {"status": "ok"}

"""REST: is the process alive, and are its database and migrations in order."""

from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from flask import current_app
from flask_smorest import Blueprint

from database.engine import db
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
    with db.engine.connect() as connection:
        found = MigrationContext.configure(connection).get_current_heads()
    script = ScriptDirectory(current_app.extensions["migrate"].directory)
    known = {step.revision for step in script.walk_revisions()}
    # Tables newer than this version are those of the next one, which is about to take over.
    if not found or (known.issuperset(found) and set(found) != set(script.get_heads())):
        raise DatabaseUnavailable("The tables are not those of this version; run `flask db upgrade`.")
    return {"status": "ok"}

"""Whether the tables are those of this version: the migrations that were applied against those that are here.

Called by `/readyz`. Applies nothing: `flask db upgrade` does.
"""

from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from config import ROOT
from database import journal
from database.session import current_engine

MIGRATIONS = ROOT / "migrations"
MISSING = "The tables are not those of this version; run `flask db upgrade`."


def problem() -> str | None:
    """Say what is wrong with the tables, or nothing when they are those of this version or of a later one.

    Tables newer than this version are those of the next one, which is about to take over.
    """
    with current_engine().connect() as connection:
        found = MigrationContext.configure(connection).get_current_heads()
        unfinished = journal.unfinished_step(connection)
    if unfinished is not None:
        return f"The tables are half way between two versions: {journal.finish_hint(unfinished)}"
    script = ScriptDirectory(str(MIGRATIONS))
    known = {step.revision for step in script.walk_revisions()}
    if found and (not known.issuperset(found) or set(found) == set(script.get_heads())):
        return None
    return MISSING

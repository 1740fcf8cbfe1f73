"""The hashes of rows that were written by something else than the ledger, so that what it verifies is all the rest."""

from sqlalchemy import NullPool, create_engine, select, text, update
from sqlalchemy.orm import Session

from bench.databases import Database
from database.bulk import table_of
from ledger import chain, log_audit
from models import EMPTY_LOG_SHA256, Organization

ORGANIZATIONS = table_of(Organization)
ROWS_AT_A_TIME = 10_000

WRITE = text("""
UPDATE balance_log SET row_sha256 = given.sha256
FROM unnest(CAST(:versions AS bigint[]), CAST(:hashes AS text[])) AS given(version, sha256)
WHERE organization_id = :organization_id AND balance_log.version = given.version
""")


def hash_rows(database: Database) -> None:
    """Chain all rows of a PostgreSQL database, which are right but for their hashes."""
    engine = create_engine(database.url, poolclass=NullPool)
    with Session(engine) as session:
        session.execute(text("SET session_replication_role = replica"))
        for organization in session.execute(select(*ORGANIZATIONS.c)).all():
            head = _hash_log(session, organization.id, organization.inn)
            mine = ORGANIZATIONS.c.id == organization.id
            session.execute(update(ORGANIZATIONS).where(mine).values(head_sha256=head))
        session.commit()
    engine.dispose()


def _hash_log(session: Session, organization_id: int, inn: str) -> str:
    head, version = EMPTY_LOG_SHA256, 0
    while rows := log_audit.rows_of(session, organization_id, since=version + 1, limit=ROWS_AT_A_TIME):
        hashes = []
        for row in rows:
            head = chain.move_sha256(head, inn, *log_audit.parts(row))
            hashes.append(head)
        versions = [row.log_version for row in rows]
        session.execute(WRITE, {"organization_id": organization_id, "versions": versions, "hashes": hashes})
        version = versions[-1]
    return head

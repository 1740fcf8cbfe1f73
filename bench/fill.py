"""Millions of payments with their log rows in a PostgreSQL database, made by set-based SQL: a ledger that verifies.

Indexes stay in place while it is filled: built afterwards they would be packed more tightly than those of a database
that has grown, and the first credits would split their pages.
"""

from sqlalchemy import Connection, NullPool, create_engine, text

import signing
from bench.databases import Database
from bench.load import DOCUMENT_DATE, SECRET
from bench.truth import say

ROWS_AT_A_TIME = 100_000
LESS_FSYNC = "SET synchronous_commit = off"
NO_TRIGGERS = "SET session_replication_role = replica"

NUMBERED = """
CREATE TEMPORARY TABLE numbered AS
SELECT id, inn, row_number() OVER (ORDER BY id) - 1 AS place FROM organizations
"""

# An organisation's credits are 100 000 + 7 * its place + the version, so that its balance at any version is a formula.
AMOUNT = "(100000 + 7 * place + version)"
BALANCE = "((100000 + 7 * place) * {version} + {version} * ({version} + 1) / 2)"
BEFORE, AFTER = BALANCE.format(version="(version - 1)"), BALANCE.format(version="version")

ROWS = f"""
WITH planned AS (
    SELECT number, place, id AS organization_id, inn, number / CAST(:organizations AS bigint) + 1 AS version,
        gen_random_uuid() AS operation_id, replace(gen_random_uuid()::text, '-', '') AS noise,
        now() - (CAST(:rows AS bigint) - number) * interval '100 milliseconds' AS moment
    FROM generate_series(CAST(:first AS bigint), CAST(:last AS bigint)) AS number
    JOIN numbered ON place = number % CAST(:organizations AS bigint)
), made AS MATERIALIZED (
    SELECT *, {AMOUNT} AS amount, 'PAY-' || lpad(number::text, 8, '0') AS document_number,
        (lpad(to_hex((extract(epoch FROM moment) * 1000)::bigint), 12, '0')
            || '7' || substr(noise, 1, 3) || '8' || substr(noise, 4, 15))::uuid AS payment_id
    FROM planned
), worded AS MATERIALIZED (
    SELECT *, convert_to(format(
        '{{"operation_id": "%s", "amount": %s, "payer_inn": "%s", "document_number": "%s", "document_date": "%s"}}',
        operation_id, amount, inn, document_number, CAST(:document_date AS text)), 'UTF8') AS body
    FROM made ORDER BY number
), paid AS (
    INSERT INTO payments (id, operation_id, source, organization_id, payer_inn, amount, currency, document_number,
        document_date, body, body_sha256, key_id, received_at)
    SELECT payment_id, operation_id, 'plain', organization_id, inn, amount, 'RUB', document_number,
        CAST(:document_date AS timestamptz), body, encode(sha256(body), 'hex'), :key_id, moment
    FROM worded
)
INSERT INTO balance_log (organization_id, version, delta, balance_before, balance_after, payment_id, reason, created_at)
SELECT organization_id, version, amount, {BEFORE}, {AFTER}, payment_id, 'credit', moment FROM worded
"""  # noqa: S608 - put together from the constants above

BALANCES = f"""
UPDATE organizations SET version = given.version, balance = {AFTER.replace("version", "given.version")}
FROM numbered, (SELECT CAST(:version AS bigint) AS version) AS given WHERE numbered.id = organizations.id
"""  # noqa: S608 - put together from the constants above


def fill(database: Database, rows: int) -> None:
    """Credit an empty database this often, one organisation after the other; rows must be a multiple of these."""
    if rows % len(database.inns):
        raise ValueError("every organisation must get as many rows")
    engine = create_engine(database.url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in (LESS_FSYNC, NO_TRIGGERS, NUMBERED):
            connection.execute(text(statement))
        for first in range(0, rows, ROWS_AT_A_TIME):
            _fill_part(connection, first, min(first + ROWS_AT_A_TIME, rows) - 1, rows, len(database.inns))
        connection.execute(text(BALANCES), {"version": rows // len(database.inns)})
        say("  settling: VACUUM ANALYZE, CHECKPOINT")
        # Otherwise autovacuum and the checkpoint would do this in the middle of a measurement.
        connection.execute(text("VACUUM ANALYZE"))
        connection.execute(text("CHECKPOINT"))


def _fill_part(connection: Connection, first: int, last: int, rows: int, organizations: int) -> None:
    told = {"first": first, "last": last, "rows": rows, "organizations": organizations}
    constants = {"document_date": DOCUMENT_DATE, "key_id": signing.key_id(SECRET)}
    connection.execute(text(ROWS), told | constants)
    if (last + 1) % (5 * ROWS_AT_A_TIME) == 0 or last + 1 == rows:
        say(f"  filled {last + 1:,} of {rows:,} payments")

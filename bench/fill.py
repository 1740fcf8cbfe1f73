"""Millions of payments and log rows in a PostgreSQL database, made by set-based SQL. The ledger verifies.

The indexes stay in place. Indexes that are built afterwards would be denser than those of a database that grew, and
the first credits would split their pages.
"""

from sqlalchemy import Connection, NullPool, create_engine, text

from bench.checks import log
from bench.databases import Database
from bench.hashing import hash_rows
from bench.load import DOCUMENT_DATE

BATCH_ROWS = 100_000
ASYNCHRONOUS_COMMIT = "SET synchronous_commit = off"
NO_TRIGGERS = "SET session_replication_role = replica"

ACCOUNT = "INSERT INTO accounts (code, kind, currency) VALUES ('bank:plain', 'bank', 'RUB')"

NUMBERED = """
CREATE TEMPORARY TABLE numbered AS
SELECT id, inn, row_number() OVER (ORDER BY id) - 1 AS place FROM organizations
"""

# The amount of a credit is 100 000 + 7 * place + version. The balance at any version is therefore a formula.
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
        (lpad(to_hex(floor(extract(epoch FROM moment) * 1000)::bigint), 12, '0')
            || '7' || substr(noise, 1, 3) || '8' || substr(noise, 4, 15))::uuid AS payment_id
    FROM planned
), with_body AS MATERIALIZED (
    SELECT *, convert_to(format(
        '{{"operation_id": "%s", "amount": %s, "payer_inn": "%s", "document_number": "%s", "document_date": "%s"}}',
        operation_id, amount, inn, document_number, CAST(:document_date AS text)), 'UTF8') AS body
    FROM made ORDER BY number
), paid AS (
    INSERT INTO payments (id, operation_id, source, organization_id, payer_inn, amount, currency, document_number,
        document_date, body, body_sha256, key_id, received_at)
    SELECT payment_id, operation_id, 'plain', organization_id, inn, amount, 'RUB', document_number,
        CAST(:document_date AS timestamptz), body, encode(sha256(body), 'hex'), :key_id, moment
    FROM with_body
)
INSERT INTO balance_log (organization_id, version, delta, balance_before, balance_after, payment_id, reason, created_at,
    counter_account, overdraft_limit, row_sha256)
SELECT organization_id, version, amount, {BEFORE}, {AFTER}, payment_id, 'credit', moment, 'bank:plain', 0, ''
FROM with_body
"""  # noqa: S608 - built from the constants above

BALANCES = f"""
UPDATE organizations SET version = given.version, balance = {AFTER.replace("version", "given.version")}
FROM numbered, (SELECT CAST(:version AS bigint) AS version) AS given WHERE numbered.id = organizations.id
"""  # noqa: S608 - built from the constants above


def add_account(database: Database) -> None:
    """Make the account of the bank, as the first credit of the ledger does."""
    engine = create_engine(database.url, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text(ACCOUNT))
    engine.dispose()


def fill(database: Database, rows: int) -> None:
    """Add so many credits to an empty database, the same number to each organisation."""
    if rows % len(database.inns):
        raise ValueError("the rows must be a multiple of the organisations")
    add_account(database)
    engine = create_engine(database.url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in (ASYNCHRONOUS_COMMIT, NO_TRIGGERS, NUMBERED):
            connection.execute(text(statement))
        for first in range(0, rows, BATCH_ROWS):
            _fill_batch(connection, first, min(first + BATCH_ROWS, rows) - 1, rows, len(database.inns))
        connection.execute(text(BALANCES), {"version": rows // len(database.inns)})
        log("  hashing every row")
        hash_rows(database)
        log("  VACUUM FULL, VACUUM ANALYZE, CHECKPOINT")
        # Hashing has left the older half of each row behind; a log that only grows has no such holes.
        connection.execute(text("VACUUM FULL balance_log"))
        # Otherwise autovacuum and the checkpoint would run during a measurement.
        connection.execute(text("VACUUM ANALYZE"))
        connection.execute(text("CHECKPOINT"))


def _fill_batch(connection: Connection, first: int, last: int, rows: int, organizations: int) -> None:
    params = {"first": first, "last": last, "rows": rows, "organizations": organizations}
    constants = {"document_date": DOCUMENT_DATE, "key_id": "bench"}
    connection.execute(text(ROWS), params | constants)
    if (last + 1) % (5 * BATCH_ROWS) == 0 or last + 1 == rows:
        log(f"  filled {last + 1:,} of {rows:,} payments")

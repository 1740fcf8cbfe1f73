"""A million finished deliveries in a PostgreSQL database, with their events and attempts, made by set-based SQL.

Of payments that fill() made, and as outbox.py would have left them: the newest event is held against events.of_move().
"""

from datetime import datetime

from sqlalchemy import NullPool, create_engine, select, text

import rules
from bench.databases import Database
from bench.fill import LESS_FSYNC, NO_TRIGGERS, fill
from bench.inside import inside
from bench.load import DOCUMENT_DATE
from bench.truth import hold, say
from database.session import look_up
from enums import EventType
from models import CURRENCY, Payment
from outbox import claims, events

# As events.event_id() works it out: the time of the payment, then 62 bits of a digest behind the two of the variant.
DIGEST = f"sha256(convert_to('{EventType.CREDITED}:' || payments.id::text, 'UTF8'))"
RANDOM = f"(B'10' || substring(('x' || encode(substr({DIGEST}, 1, 8), 'hex'))::bit(64) FROM 1 FOR 62))::bit(64)::bigint"
EVENT_ID = f"(substr(replace(payments.id::text, '-', ''), 1, 16) || lpad(to_hex({RANDOM}), 16, '0'))::uuid"

EVENTS = f"""
INSERT INTO events (id, type, organization_id, version, data, occurred_at)
SELECT {EVENT_ID}, '{EventType.CREDITED}', organization_id, version, format(
    '{{"organization": "%1$s", "version": %2$s, "delta": %3$s, "balance_before": %4$s, "balance_after": %5$s, '
    '"currency": "{CURRENCY}", "payment_id": "%6$s", "operation_id": "%7$s", "amount": %3$s, "source": "plain", '
    '"payer_inn": "%1$s", "document_number": "%8$s", "document_date": "%9$s"}}',
    payer_inn, version, delta, balance_before, balance_after, payment_id, operation_id, document_number,
    CAST(:document_date AS text)), created_at
FROM balance_log JOIN payments USING (organization_id) WHERE payments.id = payment_id ORDER BY payments.id
"""  # noqa: S608 - put together from the constants above

DELIVERIES = """
INSERT INTO deliveries (event_id, endpoint_id, organization_id, version, status, cause, step, attempt_count, created_at,
    settled_at)
SELECT events.id, endpoints.id, events.organization_id, version, 'delivered', 'schedule', 0, 1, occurred_at,
    occurred_at + interval '1 second'
FROM events JOIN endpoints USING (organization_id) ORDER BY events.id
"""

ATTEMPTS = """
INSERT INTO delivery_attempts (delivery_id, number, cause, started_at, duration_ms, status_code, excerpt)
SELECT id, 1, cause, created_at, 12, 200, '' FROM deliveries
"""


def fill_finished(database: Database, rows: int) -> None:
    """Credit a database this often and finish a delivery of each; each organisation must have an endpoint."""
    fill(database, rows)
    engine = create_engine(database.url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in (LESS_FSYNC, NO_TRIGGERS):
            connection.execute(text(statement))
        for statement in (EVENTS, DELIVERIES, ATTEMPTS):
            told = {"document_date": rules.rfc3339(datetime.fromisoformat(DOCUMENT_DATE))}
            made = connection.execute(text(statement), told if statement is EVENTS else {}).rowcount
            hold(made == rows, f"{made} rows were made, not {rows}")
        say("  finished: VACUUM ANALYZE, CHECKPOINT")
        connection.execute(text("VACUUM ANALYZE"))
        connection.execute(text("CHECKPOINT"))
    _check(database)


def _check(database: Database) -> None:
    with inside(database):
        (move,) = look_up(events.moves_query().order_by(Payment.id.desc()).limit(1))
        (ours,) = look_up(select(*claims.EVENTS.c).order_by(claims.EVENTS.c.id.desc()).limit(1))
    theirs = vars(events.of_move(move._asdict()))
    hold(dict(ours._mapping) == theirs, f"a finished event is {ours}, where Kopeck makes {theirs}")

"""A million finished deliveries in a PostgreSQL database, with their events and attempts, made by set-based SQL.

They belong to the payments of fill(). The newest event is compared with that of events.of_move().
"""

from datetime import datetime

from sqlalchemy import NullPool, create_engine, select, text

import rules
from bench.checks import check, log
from bench.databases import Database
from bench.fill import ASYNCHRONOUS_COMMIT, NO_TRIGGERS, fill
from bench.in_process import app_context
from bench.load import DOCUMENT_DATE
from database.session import look_up
from enums import EventType
from models import CURRENCY, Payment
from outbox import claims, events

# As in events.event_id(): the time of the payment, the two bits of the variant, then 62 bits of a digest.
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
"""  # noqa: S608 - built from the constants above

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
    """Add so many credits, each with a finished delivery. Each organisation must have an endpoint."""
    fill(database, rows)
    engine = create_engine(database.url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in (ASYNCHRONOUS_COMMIT, NO_TRIGGERS):
            connection.execute(text(statement))
        for statement in (EVENTS, DELIVERIES, ATTEMPTS):
            params = {"document_date": rules.rfc3339(datetime.fromisoformat(DOCUMENT_DATE))}
            inserted = connection.execute(text(statement), params if statement is EVENTS else {}).rowcount
            check(inserted == rows, f"{inserted} rows were inserted, not {rows}")
        log("  VACUUM ANALYZE, CHECKPOINT")
        connection.execute(text("VACUUM ANALYZE"))
        connection.execute(text("CHECKPOINT"))
    _check_newest_event(database)


def _check_newest_event(database: Database) -> None:
    with app_context(database):
        (move,) = look_up(events.moves_query().order_by(Payment.id.desc()).limit(1))
        (ours,) = look_up(select(*claims.EVENTS.c).order_by(claims.EVENTS.c.id.desc()).limit(1))
    theirs = vars(events.of_move(move._asdict()))
    check(dict(ours._mapping) == theirs, f"the newest event is {ours}, but Kopeck makes {theirs}")

"""Reading lists: organisations, moves of a balance, payments, incidents; and payments by the secret that signed them.

Called by the API and the CLI. Never writes; a cursor is the key of the last row seen, opaque to callers.
"""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import func, select

from database.bulk import table_of
from database.columns import UtcDateTime
from database.session import AnyRow, current_session
from enums import IncidentState
from ledger import incidents
from models import BalanceLog, Debit, Incident, Organization, Payment
from pagination import Listing, Span, whole_number, within


def organization_list(only: int | None = None) -> Listing:
    """List organisations, the oldest first; the one with this number alone, if one is given."""
    query = select(*table_of(Organization).c)
    return Listing(
        query=query if only is None else query.where(Organization.id == only),
        key=table_of(Organization).c.id,
        key_name="id",
        parse=whole_number,
        newest_first=False,
    )


def log_list(organization_id: int, span: Span) -> Listing:
    """List the moves of one balance, the newest first."""
    query = (
        select(
            BalanceLog.version,
            BalanceLog.created_at,
            BalanceLog.delta,
            BalanceLog.balance_before,
            BalanceLog.balance_after,
            BalanceLog.reason,
            BalanceLog.payment_id,
            func.coalesce(Payment.operation_id, Debit.operation_id).label("operation_id"),
            func.coalesce(Payment.source, Debit.source).label("source"),
            Payment.document_number,
            Payment.document_date,
            BalanceLog.debit_id,
            BalanceLog.counter_account,
        )
        .outerjoin(Payment, Payment.id == BalanceLog.payment_id)
        .outerjoin(Debit, Debit.id == BalanceLog.debit_id)
        .where(BalanceLog.organization_id == organization_id, *within(table_of(BalanceLog).c.created_at, span))
    )
    return Listing(query=query, key=table_of(BalanceLog).c.version, key_name="version", parse=whole_number)


def payment_list(organization_id: int, span: Span) -> Listing:
    """List the payments of one organisation, the newest first."""
    query = select(
        Payment.id.label("payment_id"),
        Payment.operation_id,
        Payment.external_id,
        Payment.source,
        Payment.amount,
        Payment.currency,
        Payment.payer_inn,
        Payment.document_number,
        Payment.document_date,
        Payment.body_sha256,
        Payment.key_id,
        Payment.received_at,
    ).where(Payment.organization_id == organization_id, *within(table_of(Payment).c.received_at, span))
    return Listing(query=query, key=table_of(Payment).c.id, key_name="payment_id", parse=UUID)


def incident_list(state: str) -> Listing:
    """List incidents that are `open`, `resolved` or `all`, the newest first."""
    query = incidents.query()
    if state == IncidentState.OPEN:
        query = query.where(Incident.resolved_at.is_(None))
    elif state == IncidentState.RESOLVED:
        query = query.where(Incident.resolved_at.is_not(None))
    return Listing(query=query, key=table_of(Incident).c.id, key_name="id", parse=whole_number)


def payments_by_key() -> Sequence[AnyRow]:
    """Count the payments that each secret signed, and tell when the last of them came."""
    last = func.max(Payment.received_at, type_=UtcDateTime)
    return (
        current_session()
        .execute(select(Payment.key_id, func.count().label("payments"), last.label("last")).group_by(Payment.key_id))
        .all()
    )

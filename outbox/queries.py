"""Reading the outbox: events, endpoints, deliveries and their attempts.

Called by the API and the CLI. Never writes, and shows nothing secret.
"""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Select, select

from database.bulk import table_of
from database.session import AnyRow, current_session
from errors import DeliveryUnknown, EndpointUnknown
from models import BalanceLog, Delivery, DeliveryAttempt, Endpoint, Event, Organization
from outbox import events
from pagination import Listing, whole_number


def event_list(organization_id: int, after_version: int) -> Listing:
    """List the events of one organisation behind a version, the oldest first; from the ledger: none is missing."""
    mine = (BalanceLog.organization_id == organization_id, BalanceLog.version > after_version)
    query, version = events.moves_query().where(*mine), table_of(BalanceLog).c.version
    return Listing(query=query, key=version, key_name="version", parse=whole_number, newest_first=False)


def endpoint_list(*, owner_id: int | None = None) -> Listing:
    """List endpoints that are not deleted, of this owner if one is given, the oldest first."""
    query = _endpoint_query()
    if owner_id is not None:
        query = query.where(Endpoint.organization_id == owner_id)
    return Listing(query=query, key=table_of(Endpoint).c.id, key_name="id", parse=whole_number, newest_first=False)


def find_endpoint(endpoint_id: int, *, owner_id: int | None = None) -> AnyRow:
    """Return one endpoint, of this owner if one is given; raise EndpointUnknown."""
    found = _endpoint_query().where(Endpoint.id == endpoint_id)
    if owner_id is not None:
        found = found.where(Endpoint.organization_id == owner_id)
    row = current_session().execute(found).one_or_none()
    if row is None:
        raise EndpointUnknown
    return row


def delivery_list(
    *,
    endpoint_id: int | None = None,
    status: str | None = None,
    event_id: UUID | None = None,
    inn: str | None = None,
    owner_id: int | None = None,
) -> Listing:
    """List deliveries, the newest first; each filter that is given narrows the list.

    `owner_id` is whose endpoints they go to, `inn` whom they are about.
    """
    wanted = {
        Delivery.endpoint_id: endpoint_id,
        Delivery.status: status,
        Delivery.event_id: event_id,
        Organization.inn: inn,
        Endpoint.organization_id: owner_id,
    }
    query = _delivery_query().where(*(column == value for column, value in wanted.items() if value is not None))
    return Listing(query=query, key=table_of(Delivery).c.id, key_name="id", parse=whole_number)


def find_delivery(delivery_id: int, *, owner_id: int | None = None) -> tuple[AnyRow, Sequence[AnyRow]]:
    """Return one delivery, to an endpoint of this owner if one is given, and its attempts; raise DeliveryUnknown."""
    found = _delivery_query().where(Delivery.id == delivery_id)
    if owner_id is not None:
        found = found.where(Endpoint.organization_id == owner_id)
    row = current_session().execute(found).one_or_none()
    if row is None:
        raise DeliveryUnknown
    attempts = select(*table_of(DeliveryAttempt).c).where(DeliveryAttempt.delivery_id == delivery_id)
    return row, current_session().execute(attempts.order_by(DeliveryAttempt.number)).all()


def _endpoint_query() -> Select[*tuple[Any, ...]]:
    """Select what may be shown of an endpoint: nothing secret."""
    hidden = ("secrets", "deleted_at", "organization_id")
    shown = [column for column in table_of(Endpoint).c if column.name not in hidden]
    return (
        select(*shown, Organization.inn.label("organization"))
        .outerjoin(Organization, Organization.id == Endpoint.organization_id)
        .where(Endpoint.deleted_at.is_(None))
    )


def _delivery_query() -> Select[*tuple[Any, ...]]:
    columns = table_of(Delivery).c
    return (
        select(
            *columns[
                "id",
                "event_id",
                "endpoint_id",
                "version",
                "status",
                "attempt_count",
                "due_at",
                "created_at",
                "settled_at",
            ],
            Event.type.label("event_type"),
            Organization.inn.label("organization"),
        )
        .join(Event, Event.id == Delivery.event_id)
        .join(Endpoint, Endpoint.id == Delivery.endpoint_id)
        .outerjoin(Organization, Organization.id == Delivery.organization_id)
    )

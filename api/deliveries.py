"""REST: events as they happened, and their deliveries with every attempt."""

import json
from typing import Any

from flask_smorest import Blueprint

from api.access import own_id, own_inn, require
from api.parsing import READER
from context import now, settings
from database.session import AnyRow
from ledger import organizations
from outbox import endpoints, events, queries
from schemas import DeliveryDetail, DeliveryOut, DeliveryPage, EventOut, EventPage, Queued, page_of

blueprint = Blueprint("deliveries", __name__, description="What was announced, and what came of it")
blueprint.ARGUMENTS_PARSER = READER


@blueprint.route("/events/")
@require("endpoints:read", read_only=True, one_organization=True)
@blueprint.arguments(EventPage, location="query")
@blueprint.response(200, page_of(EventOut))
def list_events(query: dict[str, Any]) -> dict[str, Any]:
    """List the events of an organisation behind a version, the oldest first, whether anybody listened or not."""
    own_inn(query["organization"])
    organization_id = organizations.find(query["organization"]).id
    listing = queries.event_list(organization_id, query["after_version"])
    page = listing.page(cursor=query.get("cursor"), limit=query["limit"])
    return {"items": [_event(row) for row in page.items], "next": page.next}


@blueprint.route("/deliveries/")
@require("endpoints:read", read_only=True, one_organization=True)
@blueprint.arguments(DeliveryPage, location="query")
@blueprint.response(200, page_of(DeliveryOut))
def list_deliveries(query: dict[str, Any]) -> Any:
    """List deliveries, the newest first."""
    listing = queries.delivery_list(
        endpoint_id=query.get("endpoint"),
        status=query.get("status"),
        event_id=query.get("event"),
        inn=query.get("organization"),
        owner_id=own_id(),
    )
    return listing.page(cursor=query.get("cursor"), limit=query["limit"])


@blueprint.route("/deliveries/<number:delivery_id>/")
@require("endpoints:read", read_only=True, one_organization=True)
@blueprint.response(200, DeliveryDetail)
def show_delivery(delivery_id: int) -> dict[str, Any]:
    """Show one delivery with every attempt.

    What networks of the company's own have answered is not shown to who has a key of one organisation.
    """
    row, attempts = queries.find_delivery(delivery_id)
    is_hidden = own_id() is not None and settings().endpoint_networks.listed
    shown = [{**attempt._mapping, **({"excerpt": ""} if is_hidden else {})} for attempt in attempts]
    return {**row._mapping, "attempts": shown}


@blueprint.route("/deliveries/<number:delivery_id>/retry/", methods=["POST"])
@require("endpoints:write", one_organization=True)
@blueprint.response(202, Queued)
def retry_delivery(delivery_id: int) -> dict[str, int]:
    """Have a delivery tried once more, now; its schedule goes on as if it had not been."""
    endpoints.retry(delivery_id, now=now())
    return {"id": delivery_id}


def _event(row: AnyRow) -> dict[str, Any]:
    event = events.of_move(row._asdict())
    return {"id": event.id, "type": event.type, "timestamp": event.occurred_at, "data": json.loads(event.data)}

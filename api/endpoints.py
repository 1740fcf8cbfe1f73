"""REST: endpoints, where events are announced, and replays of earlier events."""

from typing import Any

from flask_smorest import Blueprint

from api.access import caller, own_id, own_inn, require
from api.parsing import READER
from context import cipher, now, settings
from database.session import AnyRow
from enums import Scheme
from http_client.networks import NO_NETWORKS
from outbox import endpoints, queries, replays
from schemas import (
    EndpointIn,
    EndpointOut,
    EndpointSecret,
    Page,
    Queued,
    ReplayIn,
    ReplayOut,
    RotateIn,
    page_of,
)

blueprint = Blueprint("endpoints", __name__, description="Where events are announced")
blueprint.ARGUMENTS_PARSER = READER


@blueprint.route("/endpoints/")
@require("endpoints:read", read_only=True, one_organization=True)
@blueprint.arguments(Page, location="query")
@blueprint.response(200, page_of(EndpointOut))
def list_endpoints(query: dict[str, Any]) -> dict[str, Any]:
    """List endpoints, the oldest first, without those that were deleted."""
    page = queries.endpoint_list(owner_id=own_id()).page(cursor=query.get("cursor"), limit=query["limit"])
    return {"items": [_described(row) for row in page.items], "next": page.next}


@blueprint.route("/endpoints/", methods=["POST"])
@require("endpoints:write", one_organization=True)
@blueprint.arguments(EndpointIn)
@blueprint.response(201, EndpointSecret)
def create_endpoint(body: dict[str, Any]) -> dict[str, Any]:
    """Register an endpoint. The answer holds its secret, which is not shown again."""
    asked = {
        **body,
        "organization": own_inn(body["organization"]),
        "scheme": Scheme(body["scheme"]),
        "event_types": " ".join(body["event_types"]),
        "loopback_allowed": settings().loopback_endpoints,
        "https_only": settings().production,
        # Who has a key of one organisation is no part of the company, and has nothing to ask of its network.
        "networks": settings().endpoint_networks if own_id() is None else NO_NETWORKS,
    }
    return vars(endpoints.create(cipher(), **asked, now=now()))


@blueprint.route("/endpoints/<number:endpoint_id>/")
@require("endpoints:read", read_only=True, one_organization=True)
@blueprint.response(200, EndpointOut)
def show_endpoint(endpoint_id: int) -> dict[str, Any]:
    """Show one endpoint."""
    return _described(queries.find_endpoint(endpoint_id))


@blueprint.route("/endpoints/<number:endpoint_id>/", methods=["DELETE"])
@require("endpoints:write", one_organization=True)
@blueprint.response(204)
def delete_endpoint(endpoint_id: int) -> None:
    """Delete an endpoint and its secrets; its deliveries stay to be read."""
    endpoints.remove(endpoint_id, now=now())


@blueprint.route("/endpoints/<number:endpoint_id>/ping/", methods=["POST"])
@require("endpoints:write", one_organization=True)
@blueprint.response(202, Queued)
def ping_endpoint(endpoint_id: int) -> dict[str, int]:
    """Have a `ping` sent, to try the endpoint out; the answer names the delivery to look at."""
    delivery_id = endpoints.ping(endpoint_id, now=now())
    return {"id": delivery_id}


@blueprint.route("/endpoints/<number:endpoint_id>/rotate/", methods=["POST"])
@require("endpoints:write", one_organization=True)
@blueprint.arguments(RotateIn)
@blueprint.response(200, EndpointSecret)
def rotate_secret(body: dict[str, Any], endpoint_id: int) -> dict[str, Any]:
    """Make a new secret; the old one stays good for `overlap_seconds`."""
    return vars(endpoints.rotate(cipher(), endpoint_id, overlap_seconds=body["overlap_seconds"], now=now()))


@blueprint.route("/endpoints/<number:endpoint_id>/disable/", methods=["POST"])
@require("endpoints:write", one_organization=True)
@blueprint.response(200, EndpointOut)
def disable_endpoint(endpoint_id: int) -> dict[str, Any]:
    """Stop announcing to an endpoint."""
    endpoints.disable(endpoint_id, now=now())
    return _described(queries.find_endpoint(endpoint_id))


@blueprint.route("/endpoints/<number:endpoint_id>/enable/", methods=["POST"])
@require("endpoints:write", one_organization=True)
@blueprint.response(200, EndpointOut)
def enable_endpoint(endpoint_id: int) -> dict[str, Any]:
    """Announce to an endpoint again, beginning with what was paused."""
    endpoints.enable(endpoint_id, now=now())
    return _described(queries.find_endpoint(endpoint_id))


@blueprint.route("/endpoints/<number:endpoint_id>/replays/", methods=["POST"])
@require("endpoints:write", one_organization=True)
@blueprint.arguments(ReplayIn)
@blueprint.response(202, ReplayOut)
def start_replay(body: dict[str, Any], endpoint_id: int) -> dict[str, Any]:
    """Have everything since a moment sent again, also what the endpoint was never sent."""
    replay_id = replays.start(endpoint_id, since=body["since"], by=caller(), now=now())
    return replays.find(endpoint_id, replay_id)


@blueprint.route("/endpoints/<number:endpoint_id>/replays/<number:replay_id>/")
@require("endpoints:read", read_only=True, one_organization=True)
@blueprint.response(200, ReplayOut)
def show_replay(endpoint_id: int, replay_id: int) -> dict[str, Any]:
    """Show how far a replay has come."""
    return replays.find(endpoint_id, replay_id)


def _described(row: AnyRow) -> dict[str, Any]:
    return {**row._mapping, "event_types": row.event_types.split()}

"""REST: incidents, which a person resolves with a note or assigns to an organisation."""

import base64
from collections.abc import Sequence
from typing import Any

from flask_smorest import Blueprint

import services
from api.access import caller, require
from api.parsing import READER
from context import now
from database.session import AnyRow
from ledger import incidents, statements
from schemas import AssignIn, IncidentOut, IncidentPage, ResolveIn, WebhookAnswer, page_of

blueprint = Blueprint("incidents", __name__, description="What a person must look at")
blueprint.ARGUMENTS_PARSER = READER


@blueprint.route("/incidents/")
@require("incidents:read", read_only=True)
@blueprint.arguments(IncidentPage, location="query")
@blueprint.response(200, page_of(IncidentOut))
def list_incidents(query: dict[str, Any]) -> dict[str, Any]:
    """List incidents, the newest first; only the open ones unless asked otherwise."""
    page = statements.incident_list(query["state"]).page(cursor=query.get("cursor"), limit=query["limit"])
    return {"items": _described(page.items), "next": page.next}


@blueprint.route("/incidents/<number:incident_id>/")
@require("incidents:read", read_only=True)
@blueprint.response(200, IncidentOut)
def show_incident(incident_id: int) -> dict[str, Any]:
    """Show one incident."""
    return _described([incidents.find(incident_id)])[0]


@blueprint.route("/incidents/<number:incident_id>/resolve/", methods=["POST"])
@require("incidents:write")
@blueprint.arguments(ResolveIn)
@blueprint.response(200, IncidentOut)
def resolve_incident(body: dict[str, Any], incident_id: int) -> dict[str, Any]:
    """Close an incident with a note; no money moves."""
    services.resolve_incident(incident_id, resolution=body["resolution"], by=caller(), now=now())
    return _described([incidents.find(incident_id)])[0]


@blueprint.route("/incidents/<number:incident_id>/assign/", methods=["POST"])
@require("incidents:write")
@blueprint.arguments(AssignIn)
@blueprint.response(200, WebhookAnswer)
def assign_incident(body: dict[str, Any], incident_id: int) -> Any:
    """Credit the money that an incident holds to an organisation, once."""
    return services.assign_incident(incident_id, inn=body["inn"], by=caller(), now=now())


def _described(rows: Sequence[AnyRow]) -> list[dict[str, Any]]:
    resolutions = incidents.resolutions([row.id for row in rows])
    return [
        {
            **row._mapping,
            # Somebody may have rewritten them, and one incident must not hide the others.
            "facts": row.facts if isinstance(row.facts, dict) else {},
            "body_base64": base64.b64encode(row.body).decode(),
            "resolutions": [resolution._mapping for resolution in resolutions[row.id]],
        }
        for row in rows
    ]

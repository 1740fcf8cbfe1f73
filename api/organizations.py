"""REST: organisations, their balances, statements and payments."""

from datetime import datetime
from itertools import chain, islice
from typing import Any

from flask import Response, request, stream_with_context
from flask_smorest import Blueprint

import pagination
import rules
from api.access import require
from api.parsing import READER
from context import now
from database.session import AnyRow
from ledger import organizations, statements
from pagination import Listing, Span
from schemas import (
    BalanceOut,
    LogEntryOut,
    OrganizationIn,
    OrganizationOut,
    Page,
    PaymentOut,
    StatementPage,
    page_of,
)

blueprint = Blueprint("organizations", __name__, description="Organisations and their money")
blueprint.ARGUMENTS_PARSER = READER


@blueprint.route("/organizations/")
@require("organizations:read", read_only=True)
@blueprint.arguments(Page, location="query")
@blueprint.response(200, page_of(OrganizationOut))
def list_organizations(query: dict[str, Any]) -> dict[str, Any]:
    """List organisations, the oldest first."""
    page = statements.organization_list().page(cursor=query.get("cursor"), limit=query["limit"])
    return {"items": [_described(row) for row in page.items], "next": page.next}


@blueprint.route("/organizations/", methods=["POST"])
@require("organizations:write")
@blueprint.arguments(OrganizationIn)
@blueprint.response(201, OrganizationOut)
def register_organization(body: dict[str, Any]) -> dict[str, Any]:
    """Register an organisation with an empty balance."""
    organizations.register(inn=body["inn"], name=body["name"], now=now())
    return _described(organizations.find(body["inn"]))


@blueprint.route("/organizations/<inn:inn>/")
@require("organizations:read", read_only=True)
@blueprint.response(200, OrganizationOut)
def show_organization(inn: str) -> dict[str, Any]:
    """Show one organisation."""
    return _described(organizations.find(inn))


@blueprint.route("/organizations/<inn:inn>/balance/")
@require("organizations:read", read_only=True)
@blueprint.response(200, BalanceOut)
def show_balance(inn: str) -> AnyRow:
    """Show what an organisation has."""
    return organizations.find(inn)


@blueprint.route("/organizations/<inn:inn>/log/")
@require("organizations:read", read_only=True)
@blueprint.arguments(StatementPage, location="query")
@blueprint.response(200, page_of(LogEntryOut))
@blueprint.alt_response(200, schema={"type": "string"}, content_type="text/csv", success=True)
def show_log(query: dict[str, Any], inn: str) -> Any:
    """Show every move of a balance, the newest first; as CSV the whole span at once."""
    listing = statements.log_list(organizations.find(inn).id, _span(query))
    return _page_or_csv(query, listing, filename=f"log-{inn}.csv")


@blueprint.route("/organizations/<inn:inn>/payments/")
@require("organizations:read", read_only=True)
@blueprint.arguments(StatementPage, location="query")
@blueprint.response(200, page_of(PaymentOut))
@blueprint.alt_response(200, schema={"type": "string"}, content_type="text/csv", success=True)
def show_payments(query: dict[str, Any], inn: str) -> Any:
    """Show the payments of an organisation, the newest first; as CSV the whole span at once."""
    listing = statements.payment_list(organizations.find(inn).id, _span(query))
    return _page_or_csv(query, listing, filename=f"payments-{inn}.csv")


def _described(row: AnyRow) -> dict[str, Any]:
    return {**row._mapping, "inn_checksum_ok": rules.checksum_holds(row.inn)}


def _span(query: dict[str, Any]) -> Span:
    since: datetime | None = query.get("since")
    return Span(since=since, until=query.get("until"))


def _page_or_csv(query: dict[str, Any], listing: Listing, *, filename: str) -> Any:
    if not _wants_csv(query):
        return listing.page(cursor=query.get("cursor"), limit=query["limit"])
    lines = pagination.csv_lines(listing)
    # The first page is read before the answer begins: an error there can still be answered as one.
    first = list(islice(lines, 2))
    headers = {"Content-Disposition": f'attachment; filename="{filename}"'}
    return Response(stream_with_context(chain(first, lines)), headers=headers, content_type="text/csv; charset=utf-8")


def _wants_csv(query: dict[str, Any]) -> bool:
    if query["format"] is not None:
        return bool(query["format"] == "csv")
    return request.accept_mimetypes.best_match(["application/json", "text/csv"]) == "text/csv"

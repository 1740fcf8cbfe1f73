"""REST: organisations, their balances, statements and payments."""

from collections.abc import Iterator
from datetime import datetime
from typing import IO, Any

from flask import Response, request
from flask_smorest import Blueprint

import rules
from api.access import own_id, require
from api.parsing import READER
from context import now
from database.session import AnyRow
from enums import ExportFormat
from ledger import exports, organizations, statements
from ledger.exports import Export, Statement
from limits import EXPORT_SECONDS
from pagination import Span
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

PIECE_BYTES = 64 * 1024

XLSX = exports.CONTENT_TYPES[ExportFormat.XLSX]
FILE = {"type": "string"}
BINARY_FILE = {"type": "string", "format": "binary"}
NUMBER = {"type": "integer"}
WAITING = {
    "Kopeck-Waiting": {
        "description": "Webhooks that arrived within the span, and wait to be credited to whomever.",
        "schema": NUMBER,
    }
}
WHOLE = {**WAITING, "Kopeck-Rows": {"description": "How many rows the file has.", "schema": NUMBER}}

blueprint = Blueprint("organizations", __name__, description="Organisations and their money")
blueprint.ARGUMENTS_PARSER = READER


@blueprint.route("/organizations/")
@require("organizations:read", read_only=True, one_organization=True)
@blueprint.arguments(Page, location="query")
@blueprint.response(200, page_of(OrganizationOut))
def list_organizations(query: dict[str, Any]) -> dict[str, Any]:
    """List organisations, the oldest first."""
    page = statements.organization_list(own_id()).page(cursor=query.get("cursor"), limit=query["limit"])
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
@require("organizations:read", read_only=True, one_organization=True, looks_up=True)
@blueprint.response(200, OrganizationOut)
def show_organization(inn: str) -> dict[str, Any]:
    """Show one organisation."""
    return _described(organizations.find(inn))


@blueprint.route("/organizations/<inn:inn>/balance/")
@require("organizations:read", read_only=True, one_organization=True, looks_up=True)
@blueprint.response(200, BalanceOut)
def show_balance(inn: str) -> AnyRow:
    """Show what an organisation has."""
    return organizations.balance(inn)


@blueprint.route("/organizations/<inn:inn>/log/")
@require("organizations:read", read_only=True, one_organization=True)
@blueprint.arguments(StatementPage, location="query")
@blueprint.response(200, page_of(LogEntryOut), headers=WAITING)
@blueprint.alt_response(200, schema=FILE, content_type="text/csv", headers=WHOLE, success=True)
@blueprint.alt_response(200, schema=BINARY_FILE, content_type=XLSX, headers=WHOLE, success=True)
def show_log(query: dict[str, Any], inn: str) -> Any:
    """Show every move of a balance, the newest first; as a file the whole span at once."""
    return _page_or_file(query, _statement("log", inn, query))


@blueprint.route("/organizations/<inn:inn>/payments/")
@require("organizations:read", read_only=True, one_organization=True)
@blueprint.arguments(StatementPage, location="query")
@blueprint.response(200, page_of(PaymentOut), headers=WAITING)
@blueprint.alt_response(200, schema=FILE, content_type="text/csv", headers=WHOLE, success=True)
@blueprint.alt_response(200, schema=BINARY_FILE, content_type=XLSX, headers=WHOLE, success=True)
def show_payments(query: dict[str, Any], inn: str) -> Any:
    """Show the payments of an organisation, the newest first; as a file the whole span at once."""
    return _page_or_file(query, _statement("payments", inn, query))


def _described(row: AnyRow) -> dict[str, Any]:
    return {**row._mapping, "inn_checksum_ok": rules.checksum_holds(row.inn)}


def _statement(name: str, inn: str, query: dict[str, Any]) -> Statement:
    since: datetime | None = query.get("since")
    return exports.statement(name, inn, Span(since=since, until=query.get("until")))


def _page_or_file(query: dict[str, Any], statement: Statement) -> Any:
    waiting = {"Kopeck-Waiting": str(statement.waiting)}
    form = query["format"] or _accepted()
    if form == "json":
        return statement.listing.page(cursor=query.get("cursor"), limit=query["limit"]), waiting
    export = exports.write(statement, ExportFormat(form), now=now(), seconds=EXPORT_SECONDS)
    return _file(export, headers=waiting)


def _file(export: Export, *, headers: dict[str, str]) -> Response:
    """Answer with a file that is already whole: its length tells it from half of it, whoever stands between."""
    response = Response(_pieces(export.file), headers=headers, content_type=export.content_type)
    response.content_length = export.size
    response.headers.update(
        {
            "Content-Disposition": f'attachment; filename="{export.filename}"',
            "Kopeck-Rows": str(export.rows),
            # Asked for again it would be another file, of which no part fits to this one.
            "Accept-Ranges": "none",
        }
    )
    response.call_on_close(export.file.close)
    return response


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        while piece := file.read(PIECE_BYTES):
            yield piece


def _accepted() -> str:
    """Return the format that the Accept header asks for."""
    best = request.accept_mimetypes.best_match(["application/json", "text/csv", XLSX])
    return {"text/csv": ExportFormat.CSV, XLSX: ExportFormat.XLSX}.get(best or "", "json")

"""Door: REST for billings and operators, with its OpenAPI document and Swagger UI."""

from pathlib import Path

import flask_swagger_ui
from flask import Flask, Response, make_response, request, send_from_directory
from flask_smorest import Api
from werkzeug.routing import IntegerConverter

import rules
import webhooks
from api import deliveries, endpoints, health, inbox, incidents, ledger, organizations, parsing, verify
from fields import Flag, Inn, Kopecks, Moment, OperationId, QueryMoment, QueryNumber, Whole
from schemas import ProblemOut
from server.problems import PROBLEM_TYPE

PREFIX = "/api/v1"
SWAGGER_FILES = Path(flask_swagger_ui.__file__).parent / "dist"
SWAGGER_AGE_SECONDS = 3600
SWAGGER_POLICY = (
    "default-src 'none'; connect-src 'self'; img-src 'self' data:; "
    "style-src 'self' 'unsafe-inline'; script-src 'self' 'unsafe-inline'; frame-ancestors 'none'"
)

SETTINGS = {
    "API_TITLE": "Kopeck",
    "API_VERSION": "v1",
    "OPENAPI_VERSION": "3.1.0",
    "OPENAPI_URL_PREFIX": PREFIX,
    "OPENAPI_JSON_PATH": "openapi.json",
    "OPENAPI_SWAGGER_UI_PATH": "swagger/",
    "OPENAPI_SWAGGER_UI_URL": f"{PREFIX}/swagger/files/",
    "API_SPEC_OPTIONS": {
        # From the address of the document itself, which a proxy may serve under a prefix of its own.
        "servers": [{"url": "../.."}],
        "info": {
            "description": "Money in, counted once. Amounts are whole kopecks. Errors are RFC 9457 problems.",
        },
        "components": {
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": "`flask keys create`"},
                "signature": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "X-Signature",
                    "description": "Hex HMAC-SHA256 of the raw body.",
                },
            }
        },
        "security": [{"key": []}],
    },
}


class NumberConverter(IntegerConverter):
    """A path part that is the number of a row; longer ones are addresses that do not exist."""

    regex = "[0-9]{1,18}"


class KopeckApi(Api):
    """flask-smorest with our errors instead of its own."""

    ERROR_SCHEMA = ProblemOut

    def _register_error_handlers(self) -> None:
        """Leave errors to server/problems.py."""

    def _openapi_swagger_ui(self) -> Response:
        """Show Swagger's page, the only one that may run scripts: its own."""
        page = super()._openapi_swagger_ui()
        # Relative, because of prefixes; the page itself answers with its last slash and without.
        root = "../../.." if request.path.endswith("/") else "../.."
        response = make_response(page.replace(f'"{PREFIX}/', f'"{root}{PREFIX}/'))
        response.headers["Content-Security-Policy"] = SWAGGER_POLICY
        return response

    def _register_pagination_header(self) -> None:
        """Document no such header: pages carry their cursor in the body."""

    def _register_responses(self) -> None:
        """Document every error as the problem+json that it is."""
        for name in ("DEFAULT_ERROR", "BAD_REQUEST"):
            content = {PROBLEM_TYPE: {"schema": self.ERROR_SCHEMA}}
            self.spec.components.response(name, {"description": "A problem (RFC 9457)", "content": content}, lazy=True)


def init_app(app: Flask) -> None:
    """Attach every REST blueprint, the webhook door beside them, and the document of all."""
    parsing.init_app(app)
    app.url_map.converters["number"] = NumberConverter
    app.config.from_mapping(SETTINGS)
    api = KopeckApi(app)
    _describe_fields(api)
    for module in (webhooks, organizations, endpoints, deliveries, incidents, inbox, ledger, verify):
        api.register_blueprint(module.blueprint, url_prefix=PREFIX)
    api.register_blueprint(health.blueprint)
    _keep_old_addresses(app)
    app.add_url_rule(f"{PREFIX}/swagger/files/<path:name>", "swagger_file", _swagger_file)


def _describe_fields(api: KopeckApi) -> None:
    api.register_field(Kopecks, "integer", "int64")
    api.register_field(Whole, "integer", None)
    api.register_field(QueryNumber, "integer", None)
    api.register_field(Flag, "boolean", None)
    api.register_field(Inn, "string", None)
    api.register_field(OperationId, "string", "uuid")
    api.register_field(Moment, "string", "date-time")
    api.register_field(QueryMoment, "string", "date-time")
    api.register_converter(parsing.InnConverter, lambda _: {"type": "string", "pattern": f"^({rules.INN.pattern})$"})
    api.register_converter(NumberConverter, lambda _: {"type": "integer", "minimum": 0, "maximum": 10**18 - 1})


def _keep_old_addresses(app: Flask) -> None:
    """Answer under /api/ too where callers of the system before Kopeck know the address."""
    app.add_url_rule("/api/organizations/<inn:inn>/balance/", "old_balance", organizations.show_balance)
    app.add_url_rule(
        "/api/webhook/bank/", "old_webhook", webhooks.bank_webhook, methods=["POST"], defaults={"name": "plain"}
    )


def _swagger_file(name: str) -> Response:
    """Serve Swagger UI's own files from the package, so that the page needs nothing from outside."""
    return send_from_directory(SWAGGER_FILES, name, max_age=SWAGGER_AGE_SECONDS, conditional=False)

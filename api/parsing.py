"""How the API reads bodies and queries: as strictly as the webhook door, with the same errors."""

from collections.abc import Mapping
from typing import Any, NoReturn

from flask import Flask, Request
from marshmallow import RAISE, Schema, ValidationError
from webargs.flaskparser import FlaskParser
from werkzeug.routing import BaseConverter

import rules
from errors import InvalidQuery, NotJson, UnusableBody
from server.body import read_body
from strict_json import is_json, parse_json, problems


class InnConverter(BaseConverter):
    """A path part that is an INN; anything else is an address that does not exist."""

    regex = rules.INN.pattern
    part_isolating = True


class Reader(FlaskParser):
    """Reads JSON with strict_json.parse_json() and answers in our own words."""

    DEFAULT_VALIDATION_STATUS = 400
    DEFAULT_UNKNOWN_BY_LOCATION = {  # noqa: RUF012 - declared by webargs
        **FlaskParser.DEFAULT_UNKNOWN_BY_LOCATION,
        "query": RAISE,
    }

    def _raw_load_json(self, req: Request) -> Any:
        if not is_json(req.headers.get("Content-Type", "")):
            raise NotJson
        return parse_json(read_body())

    def handle_error(
        self,
        error: ValidationError,
        req: Request,
        schema: Schema,
        *,
        error_status_code: int | None,
        error_headers: Mapping[str, str] | None,
    ) -> NoReturn:
        """Raise our own error for what a schema refused."""
        messages = error.messages
        assert isinstance(messages, dict)
        if "query" in messages:
            errors = [
                {"parameter": problem["pointer"].removeprefix("#/"), "detail": problem["detail"]}
                for problem in problems(messages["query"])
            ]
            raise InvalidQuery("The parameters in `errors` cannot be used.", errors=errors)
        raise UnusableBody(errors=problems(messages["json"]))


READER = Reader()


def init_app(app: Flask) -> None:
    """Teach the app's routes what an INN looks like."""
    app.url_map.converters["inn"] = InnConverter

"""Who may call and what they may see: API keys with scopes, or nothing at all for reads in development.

Calls that are repeated with one Idempotency-Key are carried out once.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import partial, wraps
from typing import Any, TypeVar

from flask import Response, current_app, g, request
from flask_smorest import Blueprint

from auth import api_keys, idempotency
from auth.api_keys import Own
from auth.idempotency import Answer
from context import cipher, now, settings
from database.session import look_ups
from errors import IdempotencyKeyInvalid, KeyRefused, OrganizationUnknown, ScopeMissing
from outbox import queries
from server.body import read_body

View = TypeVar("View", bound=Callable[..., Any])

IDEMPOTENCY_KEY = re.compile(r"[!-~]{1,255}", re.ASCII)
HEADER: dict[str, Any] = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "Any text that is new for each call. A repeat with the same one gets the first answer for a day.",
    "schema": {"type": "string", "pattern": f"^{IDEMPOTENCY_KEY.pattern}$"},
}


def require(
    scope: str, *, read_only: bool = False, one_organization: bool = False, looks_up: bool = False
) -> Callable[[View], View]:
    """Ask for an API key with this scope; `read_only` calls go without one in development.

    With `one_organization` keys of one organisation may call it too. Then what the path names must be theirs, and the
    view asks own_id() or own_inn() for the rest. All other calls are refused to them.

    `looks_up`: all that the view does with the database is look_up(). Then the key is found on the same connection.

    Every call that is not `read_only` may have an Idempotency-Key. Goes right under the route and above every other
    decorator, so that nothing of a stranger's request is parsed.
    """
    assert scope in api_keys.SCOPES

    def decorate(view: View) -> View:
        @wraps(view)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            act = partial(_call, view, args, kwargs, one_organization)
            # A key that is shown must be good, even where none is asked for.
            asked = settings().production or not read_only or "Authorization" in request.headers
            # Read before anything: who shows none gets no connection to the database.
            token = _bearer_token() if asked else None
            with look_ups() if looks_up else nullcontext():
                if token is not None:
                    g.caller = api_keys.authorize(token, scope)
                return act() if read_only or HEADER["name"] not in request.headers else _once(act)

        guarded.access = scope  # type: ignore[attr-defined]
        guarded.read_only = read_only  # type: ignore[attr-defined]
        guarded.one_organization = one_organization  # type: ignore[attr-defined]
        return guarded if read_only else Blueprint.doc(parameters=[HEADER])(guarded)  # type: ignore[return-value]

    return decorate


def caller() -> str:
    """Name the API key of this request, for what is kept about who did what; only for views that always ask for one.

    The word in front is ours: a key that is named like a person at the shell does not look like one.
    """
    return f"key:{g.caller.name}"


def own_id() -> int | None:
    """Return the only organisation that this request may see; None when it may see all."""
    own = _own()
    return None if own is None else own.id


def own_inn(inn: str | None) -> str | None:
    """Return the organisation that is asked for, or the only one that there is for this caller.

    Raises OrganizationUnknown for any other, as if it were not there.
    """
    own = _own()
    if own is not None and inn not in (None, own.inn):
        raise OrganizationUnknown
    return inn if own is None else own.inn


def _own() -> Own | None:
    return g.caller.own if "caller" in g else None


def _call(view: Callable[..., Any], args: Any, kwargs: Mapping[str, Any], one_organization: bool) -> Any:
    own = _own()
    if own is not None:
        if not one_organization:
            raise ScopeMissing("This API key is for one organisation; this call concerns all of them.")
        _find_own(own, kwargs)
    return view(*args, **kwargs)


def _find_own(own: Own, path: Mapping[str, Any]) -> None:
    """Look whether what a path names belongs to the caller's organisation; raise as if it were not there."""
    own_inn(path.get("inn"))
    if "endpoint_id" in path:
        queries.find_endpoint(path["endpoint_id"], owner_id=own.id)
    if "delivery_id" in path:
        queries.find_delivery(path["delivery_id"], owner_id=own.id)


def _once(act: Callable[[], Any]) -> Response:
    """Carry out a call, unless it is the repeat of one: then answer as the first time."""
    key = request.headers["Idempotency-Key"]
    if not IDEMPOTENCY_KEY.fullmatch(key):
        raise IdempotencyKeyInvalid
    call = idempotency.Call(caller_id=g.caller.id, key=key, request_sha256=_request_sha256())
    answer = idempotency.run_once(cipher(), call, lambda: _answer(current_app.make_response(act())), now=now())
    response = Response(answer.body, answer.status, content_type=answer.content_type)
    if answer.replayed:
        response.headers["Idempotent-Replayed"] = "true"
    return response


def _answer(response: Response) -> Answer:
    return Answer(status=response.status_code, content_type=response.content_type, body=response.get_data(as_text=True))


def _request_sha256() -> str:
    """Name a request by what must be the same in a repeat of it; the last slash may be left out."""
    named = [request.method, request.path.rstrip("/"), request.query_string.decode("latin-1")]
    return hashlib.sha256(json.dumps(named).encode() + read_body()).hexdigest()


def _bearer_token() -> str:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise KeyRefused("Send Authorization: Bearer KEY; `flask keys create --help` says how to get one.")
    return token.strip()

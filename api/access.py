"""Who may call: API keys with scopes, or nothing at all for reads in development."""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from flask import g, request

from auth import api_keys
from context import settings
from errors import KeyRefused

View = TypeVar("View", bound=Callable[..., Any])


def require(scope: str, *, read_only: bool = False) -> Callable[[View], View]:
    """Ask for an API key with this scope; `read_only` calls go without one in development.

    Goes right under the route and above every other decorator, so that nothing of a stranger's request is parsed.
    """
    assert scope in api_keys.SCOPES

    def decorate(view: View) -> View:
        @wraps(view)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            # A key that is shown must be good, even where none is asked for.
            if settings().production or not read_only or "Authorization" in request.headers:
                g.caller = api_keys.authorize(_bearer_token(), scope)
            return view(*args, **kwargs)

        guarded.access = scope  # type: ignore[attr-defined]
        return guarded  # type: ignore[return-value]

    return decorate


def caller() -> str:
    """Name the API key of this request, for what is kept about who did what; only for views that always ask for one.

    The word in front is ours: a key that is named like a person at the shell does not look like one.
    """
    return f"key:{g.caller}"


def _bearer_token() -> str:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise KeyRefused("Send Authorization: Bearer KEY; `flask keys create --help` says how to get one.")
    return token.strip()

"""Every status, cause and reason that a table or a caller may hold, each with the moves that lead to it.

The tables' CHECK constraints and the OpenAPI document take them from here.
"""

from enum import StrEnum

CREDITED = "balance.credited"


EVERYTHING = "*"
"""The events that an endpoint may ask for, by name or all at once; a ping goes to its own endpoint alone."""


def listens_to(event_types: str, kind: str) -> bool:
    """Tell whether an endpoint's filter, names with spaces between them, lets a type of event through."""
    return not {EVERYTHING, kind}.isdisjoint(event_types.split())


class Scheme(StrEnum):
    """How a receiver wants its events written and signed; docs/events.md describes each."""

    STANDARD = "standard"
    X_SIGNATURE = "x-signature"
    ACQUIREMOCK = "acquiremock"

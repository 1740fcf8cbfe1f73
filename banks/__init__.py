"""The registry: every bank that may announce money, by the name in its webhook path."""

from collections.abc import Mapping, Sequence

import signing
from banks.base import Bank
from banks.plain import PlainBank
from config import secrets_variable
from errors import BankUnknown

BANKS: dict[str, Bank] = {bank.name: bank for bank in (PlainBank(),)}


def problems(secrets: Mapping[str, Sequence[str]]) -> list[str]:
    """Tell which banks lack secrets, and which secrets lack a bank or a use: it would only show as refused webhooks."""
    mute = [name for name in BANKS if name not in secrets]
    lost = [name for name in secrets if name not in BANKS]
    useless = {
        f"{secrets_variable(name)} {problem}"
        for name, listed in secrets.items()
        for secret in listed
        if (problem := signing.problem_with(secret))
    }
    return [
        *(f"{secrets_variable(name)} is missing: nothing of that bank could be verified" for name in mute),
        *(f"{secrets_variable(name)} is for a bank that is not in the registry" for name in lost),
        *sorted(useless),
    ]


def is_known(name: str) -> bool:
    """Return whether a bank of this name is in the registry; rows may have stayed of one that was taken out."""
    return name in BANKS


def find(name: str) -> Bank:
    """Return the bank of this name; raise BankUnknown."""
    if not is_known(name):
        raise BankUnknown
    return BANKS[name]

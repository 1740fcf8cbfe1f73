"""The names of AcquireMock's settings, read as the sandbox's own; a SANDBOX_* setting takes precedence.

Called by settings.py alone.
"""

import re
from collections.abc import Mapping
from urllib.parse import quote

PLAIN = {"WEBHOOK_SECRET": "SANDBOX_WEBHOOK_SECRET", "BASE_URL": "SANDBOX_BASE_URL"}
CURRENCY = ("CURRENCY_CODE", "CURRENCY_SYMBOL")
SMTP = ("SMTP_HOST", "SMTP_PORT", "SMTP_USER", "SMTP_PASS")
NAMES = (*PLAIN, *CURRENCY, *SMTP)
SMTP_PORT = "587"
HOST = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:]+", re.ASCII)
SMTPS_PORT = "465"
PUBLIC_SECRET = "default_secret_key_change_in_production"  # noqa: S105 - upstream's default, which everybody knows


def adopted(environ: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Return the values for SANDBOX_* names that upstream's names give, and what is wrong with those."""
    given = {name: environ.get(name, "").strip() for name in NAMES}
    values = {own: given[name] for name, own in PLAIN.items() if given[name]}
    problems = []
    if given["WEBHOOK_SECRET"] == PUBLIC_SECRET:
        problems.append("WEBHOOK_SECRET is AcquireMock's default, which everybody knows; use another one")
    code, symbol = (given[name] for name in CURRENCY)
    if code or symbol:
        values["SANDBOX_CURRENCY"] = f"{code or 'USD'} {symbol}".strip()
    if any(given[name] for name in SMTP):
        of_smtp = _smtp_problems(given)
        problems += of_smtp
        values["SANDBOX_SMTP_URL"] = "" if of_smtp else _smtp_url(given)
    return values, problems


def source_of(name: str) -> str:
    """Return upstream's name for a setting that it has."""
    own = {own: name for name, own in PLAIN.items()}
    return {**own, "SANDBOX_CURRENCY": " or ".join(CURRENCY), "SANDBOX_SMTP_URL": "SMTP_HOST"}[name]


def _smtp_problems(given: Mapping[str, str]) -> list[str]:
    problems = []
    if given["SMTP_HOST"] and not HOST.fullmatch(given["SMTP_HOST"]):
        problems.append("SMTP_HOST must be a host name or an address, without a port")
    elif not given["SMTP_HOST"]:
        names = ", ".join(name for name in SMTP if given[name])
        problems.append(f"SMTP_HOST is missing: without it {names} cannot be used")
    if bool(given["SMTP_USER"]) != bool(given["SMTP_PASS"]):
        problems.append("SMTP_USER and SMTP_PASS are set together, or none of them")
    port = given["SMTP_PORT"]
    if port and not (port.isascii() and port.isdigit() and len(port) < 6 and 1 <= int(port) <= 65535):
        problems.append("SMTP_PORT must be a number from 1 to 65535")
    return problems


def _smtp_url(given: Mapping[str, str]) -> str:
    host, port = given["SMTP_HOST"], given["SMTP_PORT"] or SMTP_PORT
    user = f"{quote(given['SMTP_USER'], safe='')}:{quote(given['SMTP_PASS'], safe='')}@" if given["SMTP_USER"] else ""
    scheme = "smtps" if port == SMTPS_PORT else "smtp"
    return f"{scheme}://{user}{f'[{host}]' if ':' in host else host}:{port}"

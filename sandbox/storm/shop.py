"""The tested shop as seen from outside: its addresses, and the balances, logs and incidents that it shows.

What a shop does not offer is None.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any
from urllib.parse import urlencode, urlsplit
from uuid import UUID

from http_client import addresses
from sandbox.message import Message
from sandbox.storm.connection import BankConnection, Reply, ShopSilent

PAGES_MAX = 2000
ATTEMPTS_MAX = 3


@dataclass(frozen=True, kw_only=True)
class Addresses:
    """The addresses of a shop; `{inn}` stands for an organisation, None for a missing feature."""

    webhook: str
    balance: str
    log: str | None
    incidents: str | None


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One row of a log: an operation and the change of the balance."""

    operation_id: str
    delta: int
    version: object
    adds_up: bool


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What the shop showed at one moment: balances, logs and held money; None if not readable."""

    balances: Mapping[str, int | None]
    logs: Mapping[str, tuple[Entry, ...]] | None = None
    held: Mapping[str, int] | None = None
    notes: tuple[str, ...] = field(default=())


def addresses_of(base: str, *, webhook: str | None = None) -> Addresses:
    """Return the addresses of a Kopeck from any of its addresses."""
    parts = urlsplit(base)
    root = f"{parts.scheme}://{parts.netloc}/api/v1"
    return Addresses(
        webhook=webhook or f"{root}/webhook/bank/",
        balance=f"{root}/organizations/{{inn}}/balance/",
        log=f"{root}/organizations/{{inn}}/log/",
        incidents=f"{root}/incidents/",
    )


class Shop:
    """Reads the public endpoints of a shop, with an API key if one is given."""

    def __init__(self, places: Addresses, *, api_key: str | None = None, kopecks_in_unit: int = 1) -> None:
        for address in (places.webhook, places.balance, places.log, places.incidents):
            if address:
                addresses.split(address.replace("{inn}", "0"))
        self.places = places
        self._headers = {"Accept": "application/json"} | ({"Authorization": f"Bearer {api_key}"} if api_key else {})
        self._connections: dict[tuple[str, str, int], BankConnection] = {}
        self._kopecks_in_unit = kopecks_in_unit

    def read(self, inns: tuple[str, ...]) -> Reading:
        """Read balances, logs and incidents; raise ShopSilent if a balance cannot be read."""
        try:
            balances = {inn: self._balance(inn) for inn in inns}
            notes: list[str] = []
            logs = self._logs(balances, notes) if self.places.log else None
            held = self._held(notes) if self.places.incidents and logs is not None else None
        finally:
            for connection in self._connections.values():
                connection.close()
        return Reading(balances=balances, logs=logs, held=held, notes=tuple(notes))

    def _balance(self, inn: str) -> int | None:
        reply = self._get(self.places.balance.replace("{inn}", inn))
        if reply.status == 404:
            return None
        if reply.status in (401, 403):
            raise ShopSilent(
                Message(
                    "The shop does not show balances to us ({status}). Give an API key that may read them.",
                    status=reply.status,
                )
            )
        try:
            stated = reply.content["balance"]
            kopecks = Decimal(str(stated)) * self._kopecks_in_unit
            if reply.status != 200 or isinstance(stated, bool) or kopecks != int(kopecks):
                raise ValueError
        except (KeyError, TypeError, ValueError, InvalidOperation, OverflowError):
            raise ShopSilent(
                Message("The balance of {inn} cannot be read: status {status}.", inn=inn, status=reply.status)
            ) from None
        return int(kopecks)

    def _logs(self, balances: Mapping[str, int | None], notes: list[str]) -> dict[str, tuple[Entry, ...]] | None:
        logs = {}
        for inn, balance in balances.items():
            try:
                address = (self.places.log or "").replace("{inn}", inn)
                rows = () if balance is None else tuple(_entry(row) for row in self._rows(address, 500))
            except (_Unreadable, KeyError, TypeError, ValueError):
                notes.append("No log can be read; the shop is judged by its balances and answers alone.")
                return None
            logs[inn] = rows
        return logs

    def _held(self, notes: list[str]) -> dict[str, int] | None:
        """Return the operations whose money is held as an incident, with their amounts."""
        found = {}
        try:
            for row in self._rows((self.places.incidents or "") + "?state=all", 100):
                webhook = (row.get("facts") or {}).get("announced") or {}
                if row.get("kind") in ("unknown_inn", "balance_limit"):
                    found[_uuid(row["operation_id"])] = int(webhook["amount"])
        except (_Unreadable, KeyError, TypeError, ValueError, AttributeError):
            notes.append("Incidents cannot be read; what the shop says it holds is believed.")
            return None
        return found

    def _rows(self, address: str, limit: int) -> Iterator[Any]:
        cursor = None
        for _ in range(PAGES_MAX):
            query = urlencode({"limit": limit} | ({"cursor": cursor} if cursor else {}))
            reply = self._get(f"{address}{'&' if '?' in address else '?'}{query}")
            if reply.status != 200:
                raise _Unreadable
            page = reply.content
            yield from page if isinstance(page, list) else page["items"]
            cursor = None if isinstance(page, list) else page.get("next")
            if not cursor:
                return
        raise _Unreadable

    def _get(self, url: str) -> Reply:
        target = addresses.split(url)
        connection = self._connections.setdefault(target[:3], BankConnection(url))
        for _ in range(ATTEMPTS_MAX):
            reply = connection.get(target.path, self._headers)
            if reply is not None and reply.status < 500:
                return reply
        raise ShopSilent(
            Message(
                "The shop at {host}:{port} does not answer, or fails. Is it running?",
                host=target.host,
                port=target.port,
            )
        )


class _Unreadable(Exception):
    """A list is missing or has an unknown format."""


def _entry(row: Any) -> Entry:
    before, after, delta = row.get("balance_before"), row.get("balance_after"), int(row["delta"])
    return Entry(
        operation_id=_uuid(row["operation_id"]),
        delta=delta,
        version=row.get("version"),
        adds_up=before is None or after is None or int(before) + delta == int(after),
    )


def _uuid(text: str) -> str:
    try:
        return str(UUID(text))
    except ValueError:
        return str(text)

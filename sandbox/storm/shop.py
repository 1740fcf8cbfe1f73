"""The tested shop as seen from outside: its addresses, and the balances, logs and incidents that it shows.

What a shop does not offer is None.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from http_client import addresses
from sandbox.message import Message
from sandbox.storm.connection import BankConnection, Reply, ShopSilent
from sandbox.storm.readings import same_id

PAGES_MAX = 2000
ATTEMPTS_MAX = 3


@dataclass(frozen=True, kw_only=True)
class Addresses:
    """The addresses of a shop; `{inn}` stands for an organisation, None for a missing feature."""

    webhook: str
    balance: str
    log: str | None
    incidents: str | None
    organisations: str | None = None


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One row of a log: an operation and the change of the balance; its document if it is shown."""

    operation_id: str
    delta: int
    version: object
    adds_up: bool
    document_number: str | None = None


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What the shop showed at one moment: balances, logs and held money; None if not readable.

    `listed` are the balances in the shop's list of organisations; `fractions` are balances that are no whole kopecks.
    """

    balances: Mapping[str, int | None]
    logs: Mapping[str, tuple[Entry, ...]] | None = None
    held: Mapping[str, int] | None = None
    listed: Mapping[str, int] | None = None
    fractions: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = field(default=())

    def balance(self, inn: str) -> int:
        """Return a balance, also of a payer that only the list shows; 0 if there is none."""
        shown = self.balances.get(inn)
        return shown if shown is not None else (self.listed or {}).get(inn, 0)


def addresses_of(base: str, *, webhook: str | None = None) -> Addresses:
    """Return the addresses of a Kopeck from any of its addresses."""
    parts = urlsplit(base)
    root = f"{parts.scheme}://{parts.netloc}/api/v1"
    return Addresses(
        webhook=webhook or f"{root}/webhook/bank/",
        balance=f"{root}/organizations/{{inn}}/balance/",
        log=f"{root}/organizations/{{inn}}/log/",
        incidents=f"{root}/incidents/",
        organisations=f"{root}/organizations/",
    )


class Shop:
    """Reads the public endpoints of a shop, with an API key if one is given."""

    def __init__(self, places: Addresses, *, api_key: str | None = None, kopecks_in_unit: int = 1) -> None:
        for address in (places.webhook, places.balance, places.log, places.incidents, places.organisations):
            if address:
                addresses.split(address.replace("{inn}", "0"))
        self.places = places
        self._headers = {"Accept": "application/json"} | ({"Authorization": f"Bearer {api_key}"} if api_key else {})
        self._connections: dict[tuple[str, str, int], BankConnection] = {}
        self._kopecks_in_unit = kopecks_in_unit

    def read(self, inns: tuple[str, ...], made_up: tuple[str, ...] = (), *, earlier: Reading | None = None) -> Reading:
        """Read balances, logs and incidents; raise ShopSilent if the balance of one of `inns` cannot be read.

        `made_up` are payers that no shop should have. Of other organisations only the list is read, and the log if the
        list shows another balance than an `earlier` reading.
        """
        fractions: dict[str, str] = {}
        notes: list[str] = []
        try:
            balances = {inn: self._balance(inn, fractions) for inn in inns}
            balances |= {inn: self._balance_of_nobody(inn) for inn in made_up}
            listed = self._listed(notes) if self.places.organisations else None
            shown = {inn: balance for inn, balance in (balances | (listed or {})).items() if balance is not None}
            moved = {inn for inn, balance in shown.items() if earlier and balance != earlier.balance(inn)}
            logged = {inn for inn in inns if inn in shown}
            logs = self._logs(logged, moved - logged, notes) if self.places.log else None
            held = self._held(notes) if self.places.incidents and logs is not None else None
        finally:
            for connection in self._connections.values():
                connection.close()
        return Reading(balances=balances, logs=logs, held=held, listed=listed, fractions=fractions, notes=tuple(notes))

    def _balance(self, inn: str, fractions: dict[str, str]) -> int | None:
        reply = self._get(_with_inn(self.places.balance, inn))
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
            if reply.status != 200:
                raise ValueError
            kopecks = self._kopecks(reply.content)
        except (KeyError, TypeError, ValueError, InvalidOperation, OverflowError):
            raise ShopSilent(
                Message("The balance of {inn} cannot be read: status {status}.", inn=inn, status=reply.status)
            ) from None
        if kopecks != int(kopecks):
            fractions[inn] = str(kopecks)
        return int(kopecks.to_integral_value())

    def _balance_of_nobody(self, inn: str) -> int | None:
        """Return the balance of a payer that cannot exist; None if the shop refuses to show it, in whatever way."""
        try:
            reply = self._get(_with_inn(self.places.balance, inn))
            return int(self._kopecks(reply.content)) if reply.status == 200 else None
        except (ShopSilent, KeyError, TypeError, ValueError, InvalidOperation, OverflowError):
            return None

    def _kopecks(self, content: Any) -> Decimal:
        stated = content["balance"]
        if isinstance(stated, bool):
            raise TypeError
        kopecks = Decimal(str(stated)) * self._kopecks_in_unit
        if not kopecks.is_finite():
            raise ValueError
        return kopecks

    def _listed(self, notes: list[str]) -> dict[str, int] | None:
        try:
            rows = self._rows(self.places.organisations or "", 500)
            return {str(row["inn"]): int(self._kopecks(row)) for row in rows}
        except (_Unreadable, KeyError, TypeError, ValueError, InvalidOperation, OverflowError):
            notes.append(
                "The list of organisations cannot be read; money of a payer that is not asked for is not seen."
            )
            return None

    def _logs(self, inns: set[str], strays: set[str], notes: list[str]) -> dict[str, tuple[Entry, ...]] | None:
        """Return the logs; those of strays as far as the shop has them."""
        logs = {}
        for inn in (*inns, *strays):
            try:
                logs[inn] = tuple(map(_entry, self._rows(_with_inn(self.places.log or "", inn), 500)))
            except (_Unreadable, KeyError, TypeError, ValueError):
                if inn in inns:
                    notes.append("No log can be read; the shop is judged by its balances and answers alone.")
                    return None
        return logs

    def _held(self, notes: list[str]) -> dict[str, int] | None:
        """Return the operations whose money is held as an incident, with their amounts."""
        found = {}
        try:
            for row in self._rows((self.places.incidents or "") + "?state=all", 100):
                webhook = (row.get("facts") or {}).get("announced") or {}
                if row.get("kind") in ("unknown_inn", "balance_limit"):
                    found[same_id(row["operation_id"])] = int(webhook["amount"])
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
                "The shop at {host}:{port} does not answer, or fails. Is it running?"
                " If on another port, put PORT=… into .env, or give --url.",
                host=target.host,
                port=target.port,
            )
        )


class _Unreadable(Exception):
    """A list is missing or has an unknown format."""


def _entry(row: Any) -> Entry:
    before, after, delta = row.get("balance_before"), row.get("balance_after"), int(row["delta"])
    return Entry(
        operation_id=same_id(row["operation_id"]),
        delta=delta,
        version=row.get("version"),
        adds_up=before is None or after is None or int(before) + delta == int(after),
        document_number=row.get("document_number"),
    )


def _with_inn(address: str, inn: str) -> str:
    return address.replace("{inn}", quote(inn, safe=""))

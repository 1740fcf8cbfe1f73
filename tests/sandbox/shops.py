"""Shops for storms: one in this process with a selectable fault, and Kopeck itself."""

import json
import subprocess
import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from uuid import UUID

import signing
from config import ROOT
from sandbox.storm.shop import Addresses, addresses_of
from tests.databases import Database
from tests.faults.server import WITH_US, Server
from tests.sandbox.factories import SECRET

BODY_MAX = 64 * 1024
MONEY_MAX = 2**63 - 1


class Refused(Exception):
    """A request that the shop refuses."""

    def __init__(self, status: int) -> None:
        self.status = status


class Shop:
    """A small receiver with a selectable `fault`; it may show its log or not."""

    def __init__(self, fault: str = "none", *, shows_log: bool = False, speaks: bool = False) -> None:
        self.fault = fault
        self.shows_log = shows_log
        self.speaks = speaks
        self.lock = threading.Lock()
        self.known: dict[Any, int] = {}
        self.balances: defaultdict[str, Any] = defaultdict(int)
        self.rows: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        self.credits: Counter[str] = Counter()
        self.failing: set[Any] = set()
        self.received = 0
        self.requests = 0

    def __enter__(self) -> Self:
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def addresses(self) -> Addresses:
        places = addresses_of(f"http://127.0.0.1:{self._server.server_address[1]}")
        return places if self.shows_log else replace(places, log=None, incidents=None)

    def doubled(self) -> set[str]:
        """Return which operations were credited more than once."""
        return {id_ for id_, times in self.credits.items() if times > 1}

    # ---- The webhook

    def receive(self, body: bytes, signature: str | None) -> tuple[int, Any]:
        self.requests += 1
        if self.fault == "is busy now and then" and self.requests % 5 == 0:
            return 503, None
        try:
            self._verify(body, signature)
            members = self._read(body)
        except Refused as refusal:
            return refusal.status, {"status": "refused"}
        if self.fault == "refuses what is not ASCII" and not members["document_number"].isascii():
            return 400, None
        return self._take(members, body)

    def _verify(self, body: bytes, signature: str | None) -> None:
        expected = signing.sign(body, SECRET)
        if self.fault in ("believes everybody", "knows no signatures"):
            return
        if self.fault == "compares what is there" and signature is not None and expected.startswith(signature):
            return
        if self.fault == "verifies what it parsed" and signature is not None:
            try:
                text = json.dumps(json.loads(body), sort_keys=True, separators=(",", ":"))
            except ValueError:
                raise Refused(400) from None
            if signing.sign(text.encode(), SECRET) == signature:
                return
        if signature != expected:
            statuses = {"sends forgers away politely": 302, "thanks forgers": 200, "stumbles over forgers": 500}
            raise Refused(statuses.get(self.fault, 401))

    def _read(self, body: bytes) -> dict[str, Any]:
        if len(body) > BODY_MAX:
            raise Refused(413)
        try:
            members = json.loads(body)
            members["operation_id"] = str(UUID(members["operation_id"]))
            amount, inn = members["amount"], members["payer_inn"]
            least = -MONEY_MAX if self.fault == "takes debts" else 1
            fits = type(amount) is int and least <= amount <= MONEY_MAX and inn.isdigit() and members["document_date"]
            if not fits or not members["document_date"].startswith("20"):
                raise ValueError
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise Refused(500 if self.fault == "stumbles over bad bodies" else 400) from None
        result: dict[str, Any] = members
        return result

    def _take(self, members: dict[str, Any], body: bytes) -> tuple[int, Any]:
        key = self._key(members, body)
        if self.fault == "looks before it locks":
            is_known = key in self.known
            threading.Event().wait(0.03)  # the duration of a query
            with self.lock:
                return self._answer(is_known, key, members)
        with self.lock:
            return self._answer(key in self.known, key, members)

    def _key(self, members: dict[str, Any], body: bytes) -> Any:
        id_, written = members["operation_id"], json.loads(body)["operation_id"]
        return {
            "tells repeats by their bytes": body,
            "tells repeats by the id as text": written,
            "counts another amount": (id_, members["amount"]),
            "counts another payer": (id_, members["payer_inn"]),
        }.get(self.fault, id_)

    def _answer(self, is_known: bool, key: Any, members: dict[str, Any]) -> tuple[int, Any]:
        self.received += 1
        if is_known:
            if self.fault == "lets the last amount win":
                self._credit({**members, "amount": members["amount"] - self.known[key]})
                self.known[key] = members["amount"]
            failing = self.fault == "fails at repeats" or key in self.failing
            word = "conflict" if self.fault == "calls repeats conflicts" else "duplicate"
            return (500, None) if failing else (200, {"status": word} if self.speaks else None)
        self.known[key] = members["amount"]
        if self.fault == "says that it holds" and self.received % 10 == 0:
            return 202, {"status": "held"}
        if self.fault != "loses some" or self.received % 10:
            self._credit(members)
        if self.fault == "fails when it has credited" and self.received % 10 == 0:
            self.failing.add(key)
            return 500, None
        return 200, {"status": "credited"} if self.speaks else None

    def _credit(self, members: dict[str, Any]) -> None:
        inn, amount = members["payer_inn"], members["amount"]
        if self.fault == "credits the neighbour" and self.received % 10 == 0:
            inn = next((other for other in self.balances if other != inn), inn)
        before = self.balances[inn]
        self.balances[inn] = float(before) + amount if self.fault == "adds floats" else before + amount
        if self.fault == "forgets rows" and self.received % 10 == 0:
            return
        wrong = self.fault == "writes rows that do not add up"
        self.credits[members["operation_id"]] += 1
        self.rows[inn].append(
            {
                "operation_id": members["operation_id"],
                "delta": amount,
                "version": len(self.rows[inn]) + 1,
                "balance_before": int(before),
                "balance_after": int(before) + amount + wrong,
            }
        )

    # ---- Balances, logs, incidents

    def show(self, path: str) -> tuple[int, Any]:
        kind = path.split("?", maxsplit=1)[0].split("/")[-2]
        with self.lock:
            if kind != "balance" and not self.shows_log:
                return 404, None
            if kind == "incidents":
                return 200, {"items": [], "next": None}
            inn = path.split("?", maxsplit=1)[0].split("/")[-3]
            if inn not in self.balances:
                return 404, None
            if kind == "balance":
                return 200, {"inn": inn, "balance": int(self.balances[inn])}
            return 200, {"items": list(reversed(self.rows[inn])), "next": None}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, *_: object) -> None:
        """Do not log: many requests are broken on purpose."""


def _handler(shop: Shop) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 10

        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length", "0"))
            body = self.rfile.read(length)
            if len(body) < length:
                self.close_connection = True
                return
            self._reply(*shop.receive(body, self.headers.get("X-Signature")))

        def do_GET(self) -> None:
            self._reply(*shop.show(self.path))

        def _reply(self, status: int, content: Any) -> None:
            text = b"" if content is None else json.dumps(content).encode()
            head = f"HTTP/1.1 {status} Whatever\r\nContent-Length: {len(text)}\r\n\r\n"
            self.wfile.write(head.encode() + text)

        def log_message(self, *_: Any) -> None:
            """Do not log."""

    return Handler


class Kopeck(Server):
    """A real gunicorn with the gateway tests' secret and settings of a test's own."""

    def __init__(self, database: Database, log: Path, **settings: str) -> None:
        super().__init__(database.url, log)
        self.settings = settings

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def background(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Run a command of ours beside the server."""
        with self.log.open("ab") as output:
            command = [*WITH_US, Path(sys.executable).with_name("flask"), *arguments]
            return subprocess.Popen(command, cwd=ROOT, env=self._environ(), stdout=output, stderr=output)

    def _environ(self) -> dict[str, str]:
        return {**super()._environ(), "BANK_WEBHOOK_SECRETS": SECRET, **self.settings}


@contextmanager
def kopeck(family: str, folder: Path, **settings: str) -> Iterator[Kopeck]:
    """Serve Kopeck on a database of its own; at the end nothing must have gone wrong inside."""
    database = Database(family)
    database.create()
    try:
        with Kopeck(database, folder / "kopeck.log", **settings) as server:
            yield server
            server.flask("ledger", "verify")
            assert server.troubles() == []
    finally:
        database.drop()

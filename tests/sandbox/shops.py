"""Shops for storms: one in this process with a selectable fault, and Kopeck itself."""

import json
import math
import re
import struct
import subprocess
import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl, unquote
from uuid import UUID

import signing
from config import ROOT
from sandbox.storm.readings import same_id
from sandbox.storm.shop import Addresses, addresses_of
from tests.databases import Database
from tests.faults.server import WITH_US, Server
from tests.sandbox.factories import BANK_SECRET

BODY_MAX = 64 * 1024
MONEY_MAX = 2**63 - 1
COLUMN_MAX = 10**10 - 1
INN = re.compile(r"[0-9]{10}|[0-9]{12}", re.ASCII)
SLOW_SECONDS = 0.06
FROZEN_FROM = 60
"""How many payments a shop shows whose balances freeze."""

FORGERS_GET = {"sends forgers away politely": 302, "thanks forgers": 200, "stumbles over forgers": 500}


def signed(amount: int, bits: int) -> int:
    """Return an amount as a signed column of so many bits keeps it."""
    return (amount + 2 ** (bits - 1)) % 2**bits - 2 ** (bits - 1)


def single(amount: float) -> float:
    """Return an amount as a single float keeps it."""
    return float(struct.unpack("f", struct.pack("f", amount))[0])


CHANGED_AMOUNTS: dict[str, Callable[[int], int]] = {
    "keeps amounts as floats": lambda amount: int(float(amount)),
    "keeps amounts as single floats": lambda amount: int(single(amount)),
    "wraps at 32 bits": lambda amount: signed(amount, 32),
    "caps at 32 bits": lambda amount: min(amount, 2**31 - 1),
    "caps at ten digits": lambda amount: min(amount, COLUMN_MAX),
    "cuts kopecks off": lambda amount: amount // 100 * 100,
    "rounds to roubles": lambda amount: (amount + 50) // 100 * 100,
    "takes kopecks for roubles": lambda amount: amount * 100,
    "keeps the first ten digits": lambda amount: int(str(amount)[:10]),
    "adds a kopeck": lambda amount: amount + 1,
}
CHANGED_BALANCES: dict[str, Callable[[Any, int], Any]] = {
    "adds floats": lambda before, amount: float(before) + amount,
    "shows fractions": lambda before, amount: (before / 100 + amount / 100 + 0.001) * 100,
    "caps balances": lambda before, amount: min(before + amount, COLUMN_MAX),
    "wraps balances": lambda before, amount: signed(before + amount, 32),
}
LENIENT_AMOUNTS: dict[str, Callable[[Any], Any]] = {
    "cuts fractions off": lambda amount: int(amount) if isinstance(amount, float) and amount < 1e17 else amount,
    "rounds fractions up": lambda amount: math.ceil(amount) if isinstance(amount, float) and amount < 1e17 else amount,
    "forgets the sign": lambda amount: abs(amount) if isinstance(amount, int) else amount,
    "takes true for one": lambda amount: 1 if amount is True else amount,
    "takes one from a list": lambda amount: amount[0] if isinstance(amount, list) else amount,
    "caps what is beyond 64 bits": lambda amount: min(amount, MONEY_MAX) if isinstance(amount, int) else amount,
    "wraps what is beyond 64 bits": lambda amount: (
        amount % 2**32 if isinstance(amount, int) and amount > MONEY_MAX else amount
    ),
}
LENIENT_PAYERS: dict[str, Callable[[Any], Any]] = {
    "takes any payer": lambda inn: inn,
    "takes payers of 12 letters": lambda inn: inn[:12],
    "takes any digits": lambda inn: inn if re.fullmatch(r"\d{9,12}", inn) else int("no"),
    "takes the first ten digits": lambda inn: inn[:10] if INN.match(inn) else int("no"),
    "hides made-up payers": lambda inn: inn,
    "needs no payer": lambda inn: inn if isinstance(inn, str) and INN.fullmatch(inn) else "1000000000",
}


class Refused(Exception):
    """A request that the shop refuses."""

    def __init__(self, status: int) -> None:
        self.status = status


@dataclass
class Payment:
    """A webhook as the shop understands it."""

    id: str
    inn: str
    amount: int
    document_number: str
    body: bytes


class Shop:
    """A small receiver with a selectable `fault`; it may show its log and a list of its organisations or not."""

    def __init__(
        self, fault: str = "none", *, shows_log: bool = False, lists: bool = False, speaks: bool = False
    ) -> None:
        self.fault = fault
        self.shows_log, self.lists, self.speaks = shows_log, lists, speaks
        self.lock = threading.Lock()
        self.known: dict[Any, Payment] = {}
        self.balances: defaultdict[str, Any] = defaultdict(int)
        self.rows: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        self.credits: Counter[str] = Counter()
        self.failing: set[Any] = set()
        self.received = 0
        self.requests = 0
        self.stale: dict[str, Any] | None = None

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
        if not self.shows_log:
            places = replace(places, log=None, incidents=None)
        return places if self.lists else replace(places, organisations=None)

    def doubled(self) -> set[str]:
        """Return which operations were credited more than once."""
        return {id_ for id_, times in self.credits.items() if times > 1}

    # ---- The webhook

    def receive(self, body: bytes, headers: Message) -> tuple[int, Any]:
        self.requests += 1
        if self.fault == "is busy now and then" and self.requests % 5 == 0:
            return 503, None
        try:
            if not self.is_genuine(body, headers):
                raise Refused(FORGERS_GET.get(self.fault, 401))
            payment = self.read(body)
        except Refused as refusal:
            return refusal.status, None
        if self.fault == "refuses what is not ASCII" and not payment.document_number.isascii():
            return 400, None
        if self.fault == "refuses large amounts" and payment.amount > COLUMN_MAX:
            return 400, None
        if self.fault == "fails at large amounts" and payment.amount > COLUMN_MAX:
            return 500, None
        return self._take(payment)

    def is_genuine(self, body: bytes, headers: Message) -> bool:
        if self.fault in ("checks no signature", "knows no signatures"):
            return True
        if "webhook-signature" in headers:
            return self.fault == "looks at no timestamp" and self._is_standard(body, headers)
        given, expected = headers.get("X-Signature"), signing.sign(body, BANK_SECRET)
        if given is None:
            return self.fault == "believes the unsigned"
        if self.fault == "only asks whether there is a signature":
            return len(given) == len(expected) and given != self._of_parsed(body)
        if self.fault == "compares what is there":
            return expected.startswith(given)
        return given == expected or (self.fault == "verifies what it parsed" and given == self._of_parsed(body))

    def _is_standard(self, body: bytes, headers: Message) -> bool:
        id_, timestamp = headers["webhook-id"], int(headers["webhook-timestamp"])
        return headers["webhook-signature"] == signing.sign_standard(
            body, BANK_SECRET, message_id=id_, timestamp=timestamp
        )

    def _of_parsed(self, body: bytes) -> str:
        try:
            text = json.dumps(json.loads(body), sort_keys=True, separators=(",", ":"))
        except ValueError:
            raise Refused(400) from None
        return signing.sign(text.encode(), BANK_SECRET)

    def read(self, body: bytes) -> Payment:
        bad = {"stumbles over bad bodies": 500, "answers 200 to anything": 200}.get(self.fault, 400)
        if len(body) > BODY_MAX:
            raise Refused(413)
        try:
            return self._payment(body, self._parsed(body))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, ArithmeticError):
            raise Refused(bad) from None

    def _parsed(self, body: bytes) -> Any:
        if self.fault == "takes forms" and body[:1] not in (b"{", b"[", b" ", b"\r"):
            return {name: int(value) if name == "amount" else value for name, value in parse_qsl(body.decode())}
        if self.fault == "decodes whatever comes":
            return json.loads(body.decode(errors="ignore"))
        if self.fault == "takes what is broken off" and body[:1] == b"{" and body[-1:] != b"}":
            return json.loads(body[: body.rindex(b",")] + b', "document_date": "2026-01-01T00:00:00Z"}')
        if self.fault == "reads no exponents":
            body = re.sub(rb'("amount": [0-9]+)e[0-9]+', rb"\1", body)
        members = json.loads(body)
        return members[0] if self.fault == "takes the first of a list" and isinstance(members, list) else members

    def _payment(self, body: bytes, members: Any) -> Payment:
        date, id_ = members["document_date"], self._id(members)
        if self.fault != "reads no dates" and not date.startswith("20"):
            raise ValueError
        amount, inn = self._amount(members), self._inn(members)
        return Payment(id=id_, inn=inn, amount=amount, document_number=members["document_number"], body=body)

    def _id(self, members: Any) -> str:
        if self.fault == "needs no id":
            return same_id(members.get("operation_id"))
        if self.fault == "reads ids as text":
            return str(UUID(members["operation_id"])) and members["operation_id"]
        return str(UUID(members["operation_id"]))

    def _amount(self, members: Any) -> int:
        amount = members["amount"]
        if self.fault in LENIENT_AMOUNTS:
            amount = LENIENT_AMOUNTS[self.fault](amount)
        elif self.fault in ("reads numbers as it likes", "reads no exponents"):
            amount = self._number(amount)
        least = -MONEY_MAX if self.fault == "takes debts" else 0 if self.fault == "takes nothing" else 1
        if type(amount) is not int or not least <= amount <= MONEY_MAX:
            raise ValueError
        return amount

    def _number(self, amount: Any) -> int:
        """Read a number as older systems do: as text, and with a point or an exponent."""
        if isinstance(amount, bool):
            raise TypeError
        number = Decimal(str(amount))
        if number != number.to_integral_value():
            raise ValueError
        return int(number)

    def _inn(self, members: Any) -> str:
        inn = members.get("payer_inn") if self.fault == "needs no payer" else members["payer_inn"]
        if self.fault in LENIENT_PAYERS:
            inn = LENIENT_PAYERS[self.fault](inn)
        elif self.fault == "reads numbers as it likes":
            inn = str(inn).strip() if isinstance(inn, str | int) else inn
        if self.fault not in LENIENT_PAYERS and not (isinstance(inn, str) and INN.fullmatch(inn)):
            raise ValueError
        return str(inn)

    def _take(self, payment: Payment) -> tuple[int, Any]:
        key = self._key(payment)
        if self.fault in ("looks before it locks", "fails at concurrent repeats"):
            with self.lock:
                is_known = key in self.known
            threading.Event().wait(0.03)  # the duration of a query
            with self.lock:
                if self.fault == "fails at concurrent repeats" and not is_known and key in self.known:
                    return 500, None
                return self._answer(is_known, key, payment)
        if self.fault == "is slow":
            threading.Event().wait(SLOW_SECONDS)
        with self.lock:
            return self._answer(key in self.known, key, payment)

    def _key(self, payment: Payment) -> Any:
        return {
            "knows repeats by their bytes": payment.body,
            "knows no repeats": object(),
            "counts another amount": (payment.id, payment.amount),
            "counts another payer": (payment.id, payment.inn),
        }.get(self.fault, payment.id)

    def _answer(self, is_known: bool, key: Any, payment: Payment) -> tuple[int, Any]:
        self.received += 1
        if is_known:
            return self._repeat(key, payment)
        self.known[key] = payment
        if self.fault == "says that it holds" and self.received % 10 == 0:
            self.failing.add(key)
            return 202, {"status": "held"}
        if self.fault == "freezes its balances" and self.stale is None and self.received > FROZEN_FROM:
            self.stale = dict(self.balances)
        if not (self.fault == "loses some" and self.received % 10 == 0) and self.fault != "loses everything":
            self._credit(payment)
        if self.fault == "fails when it has credited" and self.received % 10 == 0:
            self.failing.add(key)
            return 500, None
        return 200, {"status": "credited"} if self.speaks else None

    def _repeat(self, key: Any, payment: Payment) -> tuple[int, Any]:
        first = self.known[key]
        is_altered = (first.amount, first.inn) != (payment.amount, payment.inn)
        if is_altered and self.fault == "lets the last one win":
            self._credit(replace(first, amount=-first.amount))
            self._credit(payment)
            self.known[key] = payment
        if self.fault == "says that it holds" and key in self.failing:
            return 202, {"status": "held"}
        if self.fault == "fails at repeats" or key in self.failing:
            return 500, None
        if self.fault == "refuses repeats":
            return 409, None
        word = "conflict" if is_altered and self.fault != "calls everything a duplicate" else "duplicate"
        word = "conflict" if self.fault == "calls repeats conflicts" else word
        return 200, {"status": word} if self.speaks else None

    def _credit(self, payment: Payment) -> None:
        inn, amount = payment.inn, payment.amount
        if self.fault == "credits the neighbour" and self.received % 10 == 0:
            inn = next((other for other in self.balances if other != inn), inn)
        if self.fault in CHANGED_AMOUNTS:
            amount = CHANGED_AMOUNTS[self.fault](amount)
        before = self.balances[inn]
        after = before + amount
        if self.fault in CHANGED_BALANCES:
            after = CHANGED_BALANCES[self.fault](before, amount)
        self.balances[inn] = after
        if self.fault == "forgets rows" and self.received % 10 == 0:
            return
        wrong = self.fault == "writes rows that do not add up"
        number = payment.document_number[:4] if self.fault == "cuts documents" else payment.document_number
        self.credits[payment.id] += 1
        self.rows[inn].append(
            {
                "operation_id": payment.id,
                "delta": amount,
                "version": len(self.rows[inn]) + 1,
                "balance_before": int(before),
                "balance_after": int(before) + amount + wrong,
                "document_number": number,
            }
        )

    # ---- Balances, logs, incidents

    def show(self, path: str) -> tuple[int, Any]:
        names = [unquote(name) for name in path.split("?", maxsplit=1)[0].split("/")]
        with self.lock:
            balances = self.balances if self.stale is None else self.stale
            if names[-2] == "incidents":
                return (200, {"items": [], "next": None}) if self.shows_log else (404, None)
            if names[-2] == "organizations":
                rows = [{"inn": inn, "balance": int(balance)} for inn, balance in balances.items()]
                return (200, {"items": rows, "next": None}) if self.lists else (404, None)
            inn = names[-3]
            if inn not in self.balances or (self.fault == "hides made-up payers" and not INN.fullmatch(inn)):
                return 404, None
            if names[-2] == "balance":
                shown = balances.get(inn, 0)
                return 200, {"inn": inn, "balance": shown if self.fault == "shows fractions" else int(shown)}
            return (200, {"items": list(reversed(self.rows[inn])), "next": None}) if self.shows_log else (404, None)


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
            self._reply(*shop.receive(body, self.headers))

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
        return {**super()._environ(), "BANK_WEBHOOK_SECRETS": BANK_SECRET, **self.settings}


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

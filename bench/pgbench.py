"""pgbench running credit.sql: the statements of one credit, prepared, without Python and without HTTP.

The script is held against what the ledger really sends before it is run, so that it cannot go stale.
"""

import difflib
import hashlib
import os
import re
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import event

import signing
from bench.databases import Database
from bench.inside import inside
from bench.load import DOCUMENT_DATE, SECRET, Reading, credit_body
from bench.measures import settled
from bench.truth import hold
from database.extension import db
from database.session import transaction
from ledger import posting
from ledger.posting import Credit
from models import CURRENCY
from rules import Facts

SCRIPT = Path(__file__).with_name("credit.sql")
FEWER_CLIENTS = (8, 16, 32)
"""How many clients are tried besides as many as there are connections over HTTP; pgbench is quicker with few."""

PATIENCE_SECONDS = 60
ONE = r"(?:%\(\w+\)s|(?<!:):\w+|\(:\w+ \|\| :\w+\)|\bnull\b)"
CAST = r"(?:::(?:timestamp with time zone|\w+)(?:\(\d+\))?(?:\[\])?)?"
VALUE = rf"(?:array\[{ONE}{CAST}\]|{ONE}){CAST}"
"""A value in a statement of SQLAlchemy's, or of the script: there a UUID is made of two numbers, a list of one."""


def check_script(database: Database) -> None:
    """Raise Untrue unless the script's statements are those of one credit."""
    ours, theirs = script_statements(SCRIPT.read_text()), ledger_statements(database)
    difference = "\n".join(difflib.unified_diff(ours, theirs, "bench/credit.sql", "ledger.post()", lineterm="", n=0))
    hold(ours == theirs, f"bench/credit.sql is not what the ledger sends for one credit:\n{difference}")


def script_statements(text: str) -> list[str]:
    """Return the statements of a pgbench script in their normal form, without BEGIN and COMMIT."""
    lines = [line for line in text.splitlines() if not line.startswith(("--", "\\"))]
    statements = re.split(r";|\\gset", "\n".join(lines))
    return [normal(text) for text in statements if text.strip() and normal(text) not in ("begin", "commit")]


def ledger_statements(database: Database) -> list[str]:
    """Return the statements of a second credit in their normal form: the first one also warms up."""
    statements: list[str] = []
    with inside(database):
        _credit_once(database.inns[0], 1)
        with _watched(statements):
            _credit_once(database.inns[0], 2)
    return statements


def normal(statement: str) -> str:
    """Write a statement without what may differ: values, their casts, capitals, spaces."""
    spaced = re.sub(r"\s+", " ", statement.strip().lower())
    return re.sub(r" ?([()]) ?", r"\1", re.sub(VALUE, "?", spaced))


def run(database: Database, clients: int, seconds: int) -> Reading:
    """Run the script for so many seconds; raise Untrue unless each transaction is a credit."""
    command = ["pgbench", "--no-vacuum", "--protocol=prepared", f"--file={SCRIPT}", f"--time={seconds}"]
    load = [f"--client={clients}", f"--jobs={min(clients, os.cpu_count() or 1)}"]
    variables = [f"--define={name}={value}" for name, value in _variables(database).items()]
    url = database.url
    where = [f"--host={url.host}", f"--port={url.port}", f"--username={url.username}", str(url.database)]
    before = settled(database)
    ran = subprocess.run(  # noqa: S603 - our own words
        [*command, *load, *variables, *where],
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds + PATIENCE_SECONDS,
    )
    grown = settled(database) - before
    hold(ran.returncode == 0, f"pgbench: {ran.stderr[-2000:]}")
    answers, failed = _number("transactions actually processed", ran.stdout), _number("failed transactions", ran.stdout)
    hold(failed == 0 and grown == answers, f"{answers} transactions, {failed} failed, {grown} credits in the database")
    return Reading(answers=int(answers), rate=_number("tps", ran.stdout))


def _number(name: str, told: str) -> float:
    found = re.search(rf"{name}(?: =|:) ([0-9.]+)", told)
    hold(found is not None, f"pgbench does not tell {name}: {told}")
    assert found is not None
    return float(found[1])


def _variables(database: Database) -> dict[str, object]:
    body = credit_body(database.inns[0], 1)
    return {
        "first_inn": database.inns[0],
        "organizations": len(database.inns),
        # Counted up by each client, in front of random digits: as with UUIDv7, ids follow time.
        "moment": time.time_ns() // 1000,
        "now": datetime.now(UTC).isoformat(),
        "document_date": DOCUMENT_DATE,
        "one": 1,
        "source": "plain",
        "currency": CURRENCY,
        "reason": "credit",
        "body": f"\\x{body.hex()}",
        "body_sha256": hashlib.sha256(body).hexdigest(),
        "key_id": signing.key_id(SECRET),
    }


def _credit_once(inn: str, number: int) -> None:
    now = datetime.now(UTC)
    facts = Facts(source="plain", amount=1, payer_inn=inn, document_number=str(number), document_date=now)
    body = credit_body(inn, number)
    operation_id = uuid.uuid4()
    credit = Credit(
        operation_id=operation_id, inn=inn, facts=facts, external_id=None, body=body, key_id="bench", received_at=now
    )
    with transaction() as session:
        posting.post(session, [credit])


@contextmanager
def _watched(statements: list[str]) -> Iterator[None]:
    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(normal(statement))

    event.listen(db.engine, "before_cursor_execute", note)
    yield
    event.remove(db.engine, "before_cursor_execute", note)

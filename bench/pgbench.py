"""pgbench with credit.sql: the statements of one credit, prepared, without Python and HTTP.

Before the run, the script is compared with the statements that the ledger sends.
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

from bench import processor
from bench.checks import check
from bench.databases import Database
from bench.in_process import app_context
from bench.load import DOCUMENT_DATE, Reading, credit_body
from bench.measures import stable_count
from database.extension import db
from database.session import transaction
from ledger import posting
from ledger.entries import Credit
from models import CURRENCY, EMPTY_LOG_SHA256
from rules import Facts

SCRIPT = Path(__file__).with_name("credit.sql")
FEWER_CLIENTS = (8, 16, 32)
"""Smaller numbers of clients that are tried too. pgbench is quicker with few."""

GRACE_SECONDS = 60
ONE = r"(?:%\(\w+\)s|(?<!:):\w+|\(:\w+ \|\| :\w+\)|\bnull\b)"
CAST = r"(?:::(?:timestamp with time zone|\w+)(?:\(\d+\))?(?:\[\])?)?"
VALUE = rf"(?:array\[{ONE}{CAST}\]|{ONE}){CAST}"
"""A value in a statement of SQLAlchemy or of the script. In the script, a UUID is joined from two numbers."""


def check_script(database: Database) -> None:
    """Raise CheckFailed unless the script's statements are those of one credit."""
    ours, theirs = script_statements(SCRIPT.read_text()), ledger_statements(database)
    difference = "\n".join(difflib.unified_diff(ours, theirs, "bench/credit.sql", "posting.post()", lineterm="", n=0))
    check(ours == theirs, f"bench/credit.sql differs from what the ledger sends for one credit:\n{difference}")


def script_statements(text: str) -> list[str]:
    """Return the normalized statements of a pgbench script, without BEGIN and COMMIT."""
    lines = [line for line in text.splitlines() if not line.startswith(("--", "\\"))]
    statements = re.split(r";|\\gset", "\n".join(lines))
    return [normalize(text) for text in statements if text.strip() and normalize(text) not in ("begin", "commit")]


def ledger_statements(database: Database) -> list[str]:
    """Return the normalized statements of a second credit. The first one also warms up."""
    statements: list[str] = []
    with app_context(database):
        _credit_once(database.inns[0], 1)
        with _recorded(statements):
            _credit_once(database.inns[0], 2)
    return statements


def normalize(statement: str) -> str:
    """Normalize a statement: values, casts, case and white space may differ."""
    spaced = re.sub(r"\s+", " ", statement.strip().lower())
    return re.sub(r" ?([()]) ?", r"\1", re.sub(VALUE, "?", spaced))


def run(database: Database, clients: int, seconds: int) -> Reading:
    """Run the script for so many seconds. Raise CheckFailed unless each transaction is a credit."""
    command = ["pgbench", "--no-vacuum", "--protocol=prepared", f"--file={SCRIPT}", f"--time={seconds}"]
    load = [f"--client={clients}", f"--jobs={min(clients, os.cpu_count() or 1)}"]
    variables = [f"--define={name}={value}" for name, value in _variables(database).items()]
    url = database.url
    where = [f"--host={url.host}", f"--port={url.port}", f"--username={url.username}", str(url.database)]
    before = stable_count(database)
    with processor.watch(database.processes) as used:
        ran = subprocess.run(  # noqa: S603 - our own arguments
            [*command, *load, *variables, *where],
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds + GRACE_SECONDS,
        )
    grown = stable_count(database) - before
    check(ran.returncode == 0, f"pgbench: {ran.stderr[-2000:]}")
    answers, failed = _number("transactions actually processed", ran.stdout), _number("failed transactions", ran.stdout)
    check(failed == 0 and grown == answers, f"{answers} transactions, {failed} failed, {grown} credits in the database")
    return used.by(Reading(answers=int(answers), rate=_number("tps", ran.stdout)))


def _number(name: str, output: str) -> float:
    found = re.search(rf"{name}(?: =|:) ([0-9.]+)", output)
    check(found is not None, f"the output of pgbench has no {name}: {output}")
    assert found is not None
    return float(found[1])


def _variables(database: Database) -> dict[str, object]:
    body = credit_body(database.inns[0], 1)
    return {
        "first_inn": database.inns[0],
        "organizations": len(database.inns),
        # Each client counts it up, in front of random digits. As with UUIDv7, ids follow time.
        "moment": time.time_ns() // 1000,
        "now": datetime.now(UTC).isoformat(),
        "document_date": DOCUMENT_DATE,
        "one": 1,
        "source": "plain",
        "currency": CURRENCY,
        "reason": "credit",
        "body": f"\\x{body.hex()}",
        "body_sha256": hashlib.sha256(body).hexdigest(),
        "key_id": "bench",
        "account": "bank:plain",
        "row_sha256": EMPTY_LOG_SHA256,
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
def _recorded(statements: list[str]) -> Iterator[None]:
    def record(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(normalize(statement))

    event.listen(db.engine, "before_cursor_execute", record)
    yield
    event.remove(db.engine, "before_cursor_execute", record)

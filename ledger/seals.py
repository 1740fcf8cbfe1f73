"""A seal: a signed file with the head of every log; what it names can be changed or removed only by being seen.

Called by `flask ledger seal` and `flask ledger verify --against`. docs/proof.md describes the form. Writes no row.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import IO, Any

from sqlalchemy import Select, Table, func, select, tuple_
from sqlalchemy.orm import Session

import rules
import signing
from database.bulk import table_of
from database.session import snapshot
from ledger import trial_balance
from ledger.findings import Finding
from models import EMPTY_LOG_SHA256, BalanceLog, Organization, OverdraftLimit, Transfer

FORM = "kopeck-seal-1"
ROWS_AT_A_TIME = 500

ORGANIZATIONS, LOG, LIMITS, TRANSFERS = (
    table_of(model) for model in (Organization, BalanceLog, OverdraftLimit, Transfer)
)


class NoSeal(Exception):
    """The file is no seal, or not one of this key; the message says which."""


@dataclass(frozen=True, kw_only=True)
class Sealed:
    """What was sealed."""

    organizations: int
    rows: int
    sha256: str


def problems(seal_key: str | None) -> list[str]:
    """Say what is wrong with the setting."""
    problem = None if seal_key is None else signing.problem_with_private_key(seal_key)
    return [] if problem is None else [f"SEAL_KEY {problem}"]


def seal(file: IO[bytes], *, key: str, now: datetime) -> Sealed:
    """Write a seal of the ledger as it stands."""
    with snapshot() as session:
        return write(session, file, key=key, now=now)


def verify(file: IO[bytes], *, public_key: str) -> Iterator[Finding]:
    """Compare the ledger with a seal, as check() does."""
    with snapshot() as session:
        yield from check(session, file, public_key=public_key)


def write(session: Session, file: IO[bytes], *, key: str, now: datetime) -> Sealed:
    """Write a seal of everything that the session sees: a line of JSON for the whole, one for each organisation."""
    digest, organizations, rows = hashlib.sha256(), 0, 0

    def put(line: dict[str, Any]) -> None:
        written = json.dumps(line, separators=(",", ":")).encode() + b"\n"
        digest.update(written)
        file.write(written)

    put(_head(session, key, now))
    for row in session.execute(_organizations_query().execution_options(yield_per=ROWS_AT_A_TIME)):
        put(row._asdict())
        organizations, rows = organizations + 1, rows + row.version
    put({"organizations": organizations, "rows": rows})
    sha256 = digest.hexdigest()
    file.write(json.dumps({"signature": signing.sign_document(sha256.encode(), key)}).encode() + b"\n")
    return Sealed(organizations=organizations, rows=rows, sha256=sha256)


def _head(session: Session, key: str, now: datetime) -> dict[str, Any]:
    transfer = session.execute(_last_transfer_query()).one_or_none()
    balance = trial_balance.read(session)
    return {
        "form": FORM,
        "sealed_at": rules.rfc3339(now),
        "public_key": signing.public_key(key),
        "transfers": transfer.number if transfer else 0,
        "transfers_sha256": transfer.row_sha256 if transfer else EMPTY_LOG_SHA256,
        "accounts": {line.account: [line.debits, line.credits] for line in balance.lines},
    }


def _last_transfer_query() -> Select[Any]:
    return select(*TRANSFERS.c["number", "row_sha256"]).order_by(TRANSFERS.c.number.desc()).limit(1)


def _organizations_query() -> Select[Any]:
    newest = select(LIMITS).where(LIMITS.c.organization_id == ORGANIZATIONS.c.id).order_by(LIMITS.c.number.desc())
    number, sha256 = (
        newest.with_only_columns(column).limit(1).correlate(ORGANIZATIONS).scalar_subquery()
        for column in (LIMITS.c.number, LIMITS.c.row_sha256)
    )
    names = ("inn", "version", "balance", "outside_debits", "head_sha256")
    return select(
        *ORGANIZATIONS.c[names],
        func.coalesce(number, 0).label("limits"),
        func.coalesce(sha256, EMPTY_LOG_SHA256).label("limits_sha256"),
    ).order_by(ORGANIZATIONS.c.id)


def check(session: Session, file: IO[bytes], *, public_key: str) -> Iterator[Finding]:
    """Compare the ledger with a seal; yield what is gone or changed.

    Raises NoSeal before anything is compared. That all rows before the sealed ones stand is what the chain says.
    """
    authenticate(file, public_key=public_key)
    file.seek(0)
    head = json.loads(file.readline())
    yield from _compare_transfers(session, head)
    while lines := [json.loads(line) for line in islice(file, ROWS_AT_A_TIME)]:
        sealed = {line["inn"]: line for line in lines if "inn" in line}
        yield from _compare_organizations(session, sealed)


def version_of(file: IO[bytes], inn: str, *, public_key: str) -> int:
    """Return the version at which an organisation was sealed; raise NoSeal when it was not."""
    authenticate(file, public_key=public_key)
    file.seek(0)
    for line in file:
        sealed = json.loads(line)
        if sealed.get("inn") == inn:
            return int(sealed["version"])
    raise NoSeal("This seal is older than the organisation.")


def authenticate(file: IO[bytes], *, public_key: str) -> None:
    """Raise NoSeal unless every byte of a seal is as it was signed with the other half of this key."""
    digest, last = hashlib.sha256(), b""
    file.seek(0)
    first = file.readline()
    if not first.startswith(f'{{"form":"{FORM}",'.encode()):
        raise NoSeal("This file is no seal.")
    digest.update(first)
    for line in file:
        digest.update(last)
        last = line
    try:
        (name, signature), *others = json.loads(last).items()
    except (ValueError, AttributeError):
        raise NoSeal("This seal is not whole.") from None
    exact = json.dumps({"signature": signature}).encode() + b"\n" == last
    if name != "signature" or others or not exact or not isinstance(signature, str):
        raise NoSeal("This seal is not whole.")
    if not signing.document_holds(digest.hexdigest().encode(), signature, public_key):
        raise NoSeal("This seal was changed, or signed with another key.")


def _compare_transfers(session: Session, head: dict[str, Any]) -> Iterator[Finding]:
    if not head["transfers"]:
        return
    sha256 = session.scalar(select(TRANSFERS.c.row_sha256).where(TRANSFERS.c.number == head["transfers"]))
    if sha256 != head["transfers_sha256"]:
        yield Finding(row=f"transfers {head['transfers']}", problem=_problem(sha256))


def _compare_organizations(session: Session, sealed: dict[str, dict[str, Any]]) -> Iterator[Finding]:
    organizations = {
        row.inn: row for row in session.execute(select(*ORGANIZATIONS.c).where(ORGANIZATIONS.c.inn.in_(sealed)))
    }
    present = [(organizations[inn].id, line) for inn, line in sealed.items() if inn in organizations]
    hashes = _hashes(session, LOG, "version", [(id_, line["version"]) for id_, line in present])
    limits = _hashes(session, LIMITS, "number", [(id_, line["limits"]) for id_, line in present])
    for inn, line in sealed.items():
        row = organizations.get(inn)
        if row is None:
            yield Finding(row=f"organizations inn {inn}", problem="was sealed, and is gone")
            continue
        sha256 = hashes.get((row.id, line["version"]))
        if line["version"] and sha256 != line["head_sha256"]:
            yield Finding(row=f"balance_log inn {inn} version {line['version']}", problem=_problem(sha256))
        if row.version < line["version"]:
            problem = f"is at version {row.version}, and was sealed at {line['version']}"
            yield Finding(row=f"organizations inn {inn}", problem=problem)
        if row.outside_debits < line["outside_debits"]:
            yield Finding(row=f"organizations inn {inn}", problem="its outside_debits are less than what was sealed")
        limit = limits.get((row.id, line["limits"]))
        if line["limits"] and limit != line["limits_sha256"]:
            yield Finding(row=f"overdraft_limits inn {inn} number {line['limits']}", problem=_problem(limit))


def _problem(sha256: str | None) -> str:
    return "was sealed, and is gone" if sha256 is None else "is not the row that was sealed, or one before it is not"


def _hashes(session: Session, table: Table, number: str, keys: Sequence[tuple[int, int]]) -> dict[tuple[int, int], str]:
    """Return the hashes of rows that are named by their organisation and their number."""
    columns = table.c["organization_id", number, "row_sha256"]
    rows = session.execute(select(*columns).where(tuple_(*columns[:2]).in_(keys)))
    return {(organization_id, at): sha256 for organization_id, at, sha256 in rows}

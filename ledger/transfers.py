"""transfer(): money moves between two system accounts, such as an acquirer's payout; no balance changes.

Called by the CLI and by whoever settles with acquirers. Each row is chained to the one before.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError

from database.bulk import table_of
from database.session import survives_deadlock, transaction
from errors import OperationTaken, TryAgain
from ledger import accounts, chain
from models import CURRENCY, EMPTY_LOG_SHA256, Transfer

TRANSFERS = table_of(Transfer)


@dataclass(frozen=True, kw_only=True)
class Moved:
    """A transfer that is recorded; `is_new` unless the same was recorded before."""

    number: int
    is_new: bool


@survives_deadlock
def transfer(
    *, operation_id: UUID, debit_account: str, credit_account: str, amount: int, note: str, by: str, now: datetime
) -> Moved:
    """Debit one account and credit another, in kopecks, once; raise OperationTaken when the id was used otherwise."""
    facts = {"debit_account": debit_account, "credit_account": credit_account, "amount": amount}
    try:
        with transaction() as session:
            recorded = session.execute(
                select(*TRANSFERS.c).where(TRANSFERS.c.operation_id == operation_id)
            ).one_or_none()
            if recorded is not None:
                if {name: getattr(recorded, name) for name in facts} != facts:
                    raise OperationTaken
                return Moved(number=recorded.number, is_new=False)
            accounts.make(session.connection(), (debit_account, credit_account))
            last = session.execute(
                select(*TRANSFERS.c["number", "row_sha256"]).order_by(TRANSFERS.c.number.desc()).limit(1)
            ).one_or_none()
            row: dict[str, Any] = {
                "number": last.number + 1 if last else 1,
                "operation_id": operation_id,
                **facts,
                "currency": CURRENCY,
                "note": note,
                "made_by": by,
                "made_at": now,
            }
            row["row_sha256"] = chain.transfer_sha256(last.row_sha256 if last else EMPTY_LOG_SHA256, row)
            session.execute(insert(TRANSFERS).values(row))
    except IntegrityError:
        raise TryAgain("Somebody else recorded a transfer at this instant.") from None
    return Moved(number=row["number"], is_new=True)

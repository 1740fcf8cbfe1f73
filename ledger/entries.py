"""What can be posted: a credit that a source announced, or a debit that somebody asked for or that has happened.

Called by the use cases, which make them, and by posting.py. Touches no table.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, NamedTuple, Self
from uuid import UUID

import rules
from enums import AccountKind, LogReason, PostingStatus
from ledger import accounts
from models import CURRENCY
from rules import Facts, Operation


class Key(NamedTuple):
    """What no second entry may have: its operation, among credits or among debits.

    In the order of the unique indexes, in which whoever inserts several must proceed. The operation's id is kept as a
    number, which is compared and hashed many times for each entry, and a UUID only slowly.
    """

    is_debit: bool
    number: int
    source: str

    @classmethod
    def of(cls, operation: Operation, *, is_debit: bool) -> Self:
        """Return the key of an operation."""
        return cls(is_debit, operation.id.int, operation.source)

    @property
    def operation(self) -> Operation:
        """Return the operation again."""
        return Operation(UUID(int=self.number), self.source)


@dataclass(frozen=True, kw_only=True)
class Credit:
    """Money announced by a source, in kopecks, for the organisation with this INN."""

    operation_id: UUID
    inn: str
    facts: Facts
    external_id: str | None
    body: bytes
    key_id: str
    received_at: datetime
    may_create: bool = False  # whether an organisation is made for an INN that has none
    id: UUID | None = None  # of one that is posted again, in a rebuilt ledger
    forward_id: UUID | None = None

    reason = LogReason.CREDIT
    posted = PostingStatus.CREDITED
    taken_outside = 0

    @property
    def operation(self) -> Operation:
        """Return what no second payment may have."""
        return Operation(self.operation_id, self.facts.source)

    @cached_property
    def key(self) -> Key:
        """Return what no second entry may have."""
        return Key.of(self.operation, is_debit=False)

    @property
    def delta(self) -> int:
        """Return by how much the balance moves."""
        return self.facts.amount

    @property
    def moment(self) -> datetime:
        """Return when it happened."""
        return self.received_at

    @cached_property
    def counter_account(self) -> str:
        """Return where the money came from."""
        return accounts.code(AccountKind.BANK, self.facts.source)

    def refusal(self, balance: int, _overdraft_limit: int, _outside_debits: int) -> PostingStatus | None:
        """Return why a balance cannot take it, or None."""
        return None if rules.fits(balance, self.facts.amount) else PostingStatus.BALANCE_LIMIT

    def row(self, id_: UUID, organization_id: int) -> dict[str, Any]:
        """Return its row of payments."""
        return {
            "id": id_,
            "operation_id": self.operation_id,
            "external_id": self.external_id,
            "forward_id": self.forward_id,
            "source": self.facts.source,
            "organization_id": organization_id,
            "payer_inn": self.facts.payer_inn,
            "amount": self.facts.amount,
            "currency": CURRENCY,
            "document_number": self.facts.document_number,
            "document_date": self.facts.document_date,
            "body": self.body,
            "body_sha256": hashlib.sha256(self.body).hexdigest(),
            "key_id": self.key_id,
            "received_at": self.received_at,
        }


class DebitFacts(NamedTuple):
    """What is said of one debit: the part in which a repeat must agree with the first time."""

    inn: str
    amount: int
    counter_account: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Debit:
    """Money that leaves the balance of the organisation with this INN, in kopecks; `outside` if it has left already."""

    operation_id: UUID
    source: str
    inn: str
    amount: int
    counter_account: str
    outside: bool
    note: str
    made_by: str
    made_at: datetime
    id: UUID | None = None

    may_create = False
    posted = PostingStatus.DEBITED

    @cached_property
    def key(self) -> Key:
        """Return what no second entry may have."""
        return Key.of(Operation(self.operation_id, self.source), is_debit=True)

    @property
    def reason(self) -> LogReason:
        """Return why the balance moves."""
        return LogReason.OUTSIDE_DEBIT if self.outside else LogReason.DEBIT

    @property
    def facts(self) -> DebitFacts:
        """Return what a repeat must agree in."""
        return DebitFacts(self.inn, self.amount, self.counter_account, self.reason)

    @property
    def delta(self) -> int:
        """Return by how much the balance moves."""
        return -self.amount

    @property
    def taken_outside(self) -> int:
        """Return how much of it was taken without asking us."""
        return self.amount if self.outside else 0

    @property
    def moment(self) -> datetime:
        """Return when it is recorded."""
        return self.made_at

    def refusal(self, balance: int, overdraft_limit: int, outside_debits: int) -> PostingStatus | None:
        """Return why a balance cannot give it, or None."""
        if self.outside:
            # Below this, what was taken outside and a limit together are more than the database can add up.
            fits = min(balance, -outside_debits) - self.amount >= rules.BALANCE_MIN
            return None if fits else PostingStatus.BALANCE_LIMIT
        fits = rules.may_leave(balance, self.amount, overdraft_limit=overdraft_limit)
        return None if fits else PostingStatus.OVERDRAFT

    def row(self, id_: UUID, organization_id: int) -> dict[str, Any]:
        """Return its row of debits."""
        return {
            "id": id_,
            "operation_id": self.operation_id,
            "source": self.source,
            "organization_id": organization_id,
            "amount": self.amount,
            "currency": CURRENCY,
            "note": self.note,
            "made_by": self.made_by,
            "made_at": self.made_at,
        }


Entry = Credit | Debit

"""Use case: carry out a call of the API once, however often it comes with the same Idempotency-Key.

Called by the API around other use cases, whose transaction it opens: a call and its answer are committed together.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, delete, func, select, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from database.bulk import insert_absent, table_of
from database.columns import new_id
from database.failures import is_contention, is_deadlock
from database.session import AnyRow, shared_transaction, survives_deadlock
from encryption import SecretCipher
from errors import IdempotencyKeyInUse, IdempotencyKeyReused, LimitReached, SecretUnreadable
from limits import IDEMPOTENCY_CALLS_MAX, IDEMPOTENCY_CALLS_PURGED, IDEMPOTENCY_SECONDS
from models import IdempotencyKey

KEYS = table_of(IdempotencyKey)


@dataclass(frozen=True, kw_only=True)
class Call:
    """Whose call it is, by which key it is known, and what a repeat must agree in."""

    caller_id: int
    key: str
    request_sha256: str


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a caller is answered; `replayed` when it is the answer of the first time."""

    status: int
    content_type: str | None
    body: str
    replayed: bool = False


@survives_deadlock
def run_once(cipher: SecretCipher, call: Call, act: Callable[[], Answer], *, now: datetime) -> Answer:
    """Carry out a call and keep its answer, or return the answer that was kept; what act() raises leaves no trace.

    Who comes second waits for the first by the unique constraint. Raises IdempotencyKeyReused, IdempotencyKeyInUse
    when it waits too long, or LimitReached.
    """
    with shared_transaction() as session:
        _purge(session, now)
        mine = _claim(session, call, now)
        row = session.execute(select(*KEYS.c).where(*_is_of(call))).one()
        if row.id != mine:
            return _kept(cipher, call, row)
        answer = act()
        kept = {"content_type": answer.content_type, "body": answer.body}
        encrypted = cipher.encrypt(json.dumps(kept), bound_to=_place(row.id, call))
        values = {"status": answer.status, "answer": encrypted.encode()}
        session.execute(update(KEYS).where(KEYS.c.id == row.id).values(values))
        return answer


def _purge(session: Session, now: datetime) -> None:
    """Remove some of the answers that are too old, of whatever caller."""
    old = select(KEYS.c.id).where(KEYS.c.created_at <= _oldest(now)).order_by(KEYS.c.created_at)
    ids = session.scalars(old.limit(IDEMPOTENCY_CALLS_PURGED).with_for_update(skip_locked=True)).all()
    if ids:
        session.execute(delete(KEYS).where(KEYS.c.id.in_(ids)))


def _claim(session: Session, call: Call, now: datetime) -> UUID:
    """Take a key that is free, and return the id of the row that then stands for it."""
    mine = new_id(now)
    row = {**vars(call), "id": mine, "created_at": now}
    try:
        session.execute(delete(KEYS).where(*_is_of(call), KEYS.c.created_at <= _oldest(now)))
        insert_absent(session.connection(), KEYS, [row], unique=("caller_id", "key"))
    except OperationalError as error:
        if is_contention(error) and not is_deadlock(error):
            raise IdempotencyKeyInUse from None
        raise
    _refuse_too_many(session, call, mine)
    return mine


def _refuse_too_many(session: Session, call: Call, mine: UUID) -> None:
    """Raise LimitReached for a call that is new; a repeat gets its answer whatever was asked since."""
    if session.scalar(select(KEYS.c.id).where(KEYS.c.id == mine)) is None:
        return
    kept = select(KEYS.c.id).where(KEYS.c.caller_id == call.caller_id).limit(IDEMPOTENCY_CALLS_MAX + 1)
    if (session.scalar(select(func.count()).select_from(kept.subquery())) or 0) > IDEMPOTENCY_CALLS_MAX:
        raise LimitReached(
            f"{IDEMPOTENCY_CALLS_MAX} calls of this API key had an Idempotency-Key within a day; wait, or send none."
        )


def _is_of(call: Call) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return KEYS.c.caller_id == call.caller_id, KEYS.c.key == call.key


def _kept(cipher: SecretCipher, call: Call, row: AnyRow) -> Answer:
    if row.request_sha256 != call.request_sha256:
        raise IdempotencyKeyReused
    try:
        kept = json.loads(cipher.decrypt(row.answer.decode(), bound_to=_place(row.id, call)))
    except SecretUnreadable:
        raise SecretUnreadable(
            "This call was carried out before, and its answer cannot be decrypted: SECRETS_KEYS lacks the key that it "
            "was encrypted with, or the row was changed."
        ) from None
    return Answer(status=row.status, content_type=kept["content_type"], body=kept["body"], replayed=True)


def _oldest(now: datetime) -> datetime:
    return now - timedelta(seconds=IDEMPOTENCY_SECONDS)


def _place(row_id: UUID, call: Call) -> str:
    return f"idempotency_keys.answer/{row_id}/{call.caller_id}/{call.request_sha256}/{call.key}"

"""What a shop may do to a payment after the payer is gone: capture, cancel, refund, and give it a script before.

Called by our own API; upstream has none of it. Each function is one transaction.
"""

from typing import Any
from uuid import uuid4

from sandbox import context, store
from sandbox.errors import GatewayError, not_found
from sandbox.gateway import invoices, model, outcomes
from sandbox.gateway.model import Invoice, Status
from sandbox.store import Connection

CANCELABLE = frozenset({Status.PENDING, Status.WAITING_FOR_OTP, Status.AUTHORIZED})


def set_script(invoice_id: str, chain: str, *, manual_capture: bool | None = None) -> Invoice:
    """Say what the next tries come to, whatever card they are made with; only before the first of them ended it."""
    try:
        steps = model.read_script(chain)
    except model.UnusableScript as problem:
        raise GatewayError("UNUSABLE", 400, str(problem), invoice_id) from None
    columns: dict[str, Any] = {"script": ",".join(steps), "script_position": 0}
    if manual_capture is not None:
        columns["manual_capture"] = manual_capture
    with context.store().writing() as connection:
        found = _found(connection, invoice_id)
        if not found.is_payable:
            raise _not_possible(found)
        return invoices.update(connection, invoice_id, updated_at=context.now(), **columns)


def capture(invoice_id: str, amount: int | None = None) -> Invoice:
    """Take the money that is held, all of it or less; what is not taken is let go."""
    with context.store().writing() as connection:
        found = _found(connection, invoice_id)
        if found.status is not Status.AUTHORIZED:
            raise _not_possible(found)
        wanted = found.amount if amount is None else amount
        if not 1 <= wanted <= found.amount:
            raise GatewayError("UNUSABLE", 400, "Capture at least 1 and at most what is held.", invoice_id)
        captured = outcomes.collect(connection, found, wanted, cause="captured", now=context.now())
    context.sandbox().bell.set()
    return captured


def cancel(invoice_id: str) -> Invoice:
    """Let go of money that is held, or of a payment that nobody has made yet."""
    with context.store().writing() as connection:
        found = _found(connection, invoice_id)
        if found.status not in CANCELABLE:
            raise _not_possible(found)
        return invoices.set_status(
            connection, found, Status.CANCELED, cause="canceled", now=context.now(), **outcomes.NO_CODE
        )


def refund(invoice_id: str, amount: int | None = None, *, idempotency_key: str | None = None) -> Invoice:
    """Give back what was taken, all that is left of it or a part; the same key gives back once."""
    with context.store().writing() as connection:
        found = _found(connection, invoice_id)
        if idempotency_key is not None and _is_refunded(connection, invoice_id, idempotency_key):
            return found
        left = found.captured - found.refunded
        if left <= 0:
            raise _not_possible(found)
        wanted = left if amount is None else amount
        if not 1 <= wanted <= left:
            raise GatewayError("UNUSABLE", 400, "Refund at least 1 and at most what is left.", invoice_id)
        _note_refund(connection, invoice_id, wanted, idempotency_key)
        after = Status.REFUNDED if wanted == left else Status.PARTIALLY_REFUNDED
        return invoices.set_status(
            connection, found, after, cause="refunded", now=context.now(), refunded=found.refunded + wanted
        )


def _found(connection: Connection, invoice_id: str) -> Invoice:
    """Return an invoice as it stands; one whose time is over is not changed here, but cannot be used either."""
    found = invoices.find(connection, invoice_id)
    if found is None:
        raise not_found(invoice_id)
    if model.is_over(found, context.now()):
        raise GatewayError("PAYMENT_EXPIRED", 410, payment_id=invoice_id)
    return found


def _is_refunded(connection: Connection, invoice_id: str, key: str) -> bool:
    row = connection.execute("SELECT 1 FROM refunds WHERE invoice_id = ? AND idempotency_key = ?", (invoice_id, key))
    return row.fetchone() is not None


def _note_refund(connection: Connection, invoice_id: str, amount: int, key: str | None) -> None:
    connection.execute(
        "INSERT INTO refunds (id, invoice_id, amount, idempotency_key, created_at) VALUES (?, ?, ?, ?, ?)",
        (str(uuid4()), invoice_id, amount, key, store.written(context.now())),
    )


def _not_possible(found: Invoice) -> GatewayError:
    return GatewayError("NOT_POSSIBLE", 409, payment_id=found.id, reason=found.status.value)

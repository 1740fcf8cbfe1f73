"""Use cases of the shop, which upstream does not have: script, capture, cancel, refund.

Each function is one transaction.
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
    """Set the results of the next attempts, for any card; only while the payment can still be paid."""
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
    """Capture held money, fully or partly; the rest is released."""
    with context.store().writing() as connection:
        found = _found(connection, invoice_id)
        if found.status is not Status.AUTHORIZED:
            raise _not_possible(found)
        requested = found.amount if amount is None else amount
        if not 1 <= requested <= found.amount:
            raise GatewayError("UNUSABLE", 400, "Capture at least 1 and at most what is held.", invoice_id)
        captured = outcomes.collect(connection, found, requested, cause="captured", now=context.now())
    context.sandbox().wake_event.set()
    return captured


def cancel(invoice_id: str) -> Invoice:
    """Release held money, or cancel an unpaid payment."""
    with context.store().writing() as connection:
        found = _found(connection, invoice_id)
        if found.status not in CANCELABLE:
            raise _not_possible(found)
        return invoices.set_status(
            connection, found, Status.CANCELED, cause="canceled", now=context.now(), **outcomes.NO_CODE
        )


def refund(invoice_id: str, amount: int | None = None, *, idempotency_key: str | None = None) -> Invoice:
    """Refund the captured money, fully or partly; the same key refunds once."""
    with context.store().writing() as connection:
        found = _found(connection, invoice_id)
        if idempotency_key is not None and _is_refunded(connection, invoice_id, idempotency_key):
            return found
        left = found.captured - found.refunded
        if left <= 0:
            raise _not_possible(found)
        requested = left if amount is None else amount
        if not 1 <= requested <= left:
            raise GatewayError("UNUSABLE", 400, "Refund at least 1 and at most what is left.", invoice_id)
        _record_refund(connection, invoice_id, requested, idempotency_key)
        after = Status.REFUNDED if requested == left else Status.PARTIALLY_REFUNDED
        return invoices.set_status(
            connection, found, after, cause="refunded", now=context.now(), refunded=found.refunded + requested
        )


def _found(connection: Connection, invoice_id: str) -> Invoice:
    """Return an invoice; raise an error if it does not exist or its time is over."""
    found = invoices.find(connection, invoice_id)
    if found is None:
        raise not_found(invoice_id)
    if model.is_over(found, context.now()):
        raise GatewayError("PAYMENT_EXPIRED", 410, payment_id=invoice_id)
    return found


def _is_refunded(connection: Connection, invoice_id: str, key: str) -> bool:
    row = connection.execute("SELECT 1 FROM refunds WHERE invoice_id = ? AND idempotency_key = ?", (invoice_id, key))
    return row.fetchone() is not None


def _record_refund(connection: Connection, invoice_id: str, amount: int, key: str | None) -> None:
    connection.execute(
        "INSERT INTO refunds (id, invoice_id, amount, idempotency_key, created_at) VALUES (?, ?, ?, ?, ?)",
        (str(uuid4()), invoice_id, amount, key, store.written(context.now())),
    )


def _not_possible(found: Invoice) -> GatewayError:
    return GatewayError("NOT_POSSIBLE", 409, payment_id=found.id, reason=found.status.value)

"""The clock of the sandbox: sends webhooks and mails that are due, lets slow issuers answer, ends what is overdue.

Started as a thread by `flask run`, or as a process by `flask sandbox worker`; any number of both may run.
"""

import atexit
import logging
import threading
from concurrent.futures import Future, ThreadPoolExecutor

from flask import Flask

from sandbox import context
from sandbox.gateway import invoices, mailbox, outcomes, webhooks
from sandbox.gateway.model import is_over
from sandbox.gateway.webhooks import Parcel
from transport import Client

SENDERS = 8
"""How many webhooks are sent at the same time, so that one slow shop does not hold up the others."""

TICK_SECONDS = 0.5
TROUBLE_SECONDS = 2.0
BATCH = 100

log = logging.getLogger("sandbox")


def start(app: Flask) -> threading.Thread:
    """Work in a thread of this process, for as long as it lives."""
    stop = threading.Event()
    thread = threading.Thread(target=run, args=(app, stop), name="sandbox-worker", daemon=True)
    thread.start()
    atexit.register(stop.set)
    return thread


def run(app: Flask, stop: threading.Event) -> None:
    """Work until `stop` is set; then finish what was begun."""
    with app.app_context(), ThreadPoolExecutor(SENDERS) as pool, ThreadPoolExecutor(1) as postman:
        client, under_way = webhooks.new_client(), set[Future[None]]()
        bell, mails = context.sandbox().bell, postman.submit(int)
        while not stop.is_set():
            bell.clear()
            under_way = {future for future in under_way if not future.done()}
            try:
                settle_due()
                if mails.done():  # a mail server that is slow holds up nothing else
                    mails = postman.submit(_send_mails, app)
                parcels = _claim(SENDERS - len(under_way))
                under_way |= {pool.submit(_send, app, client, parcel) for parcel in parcels}
            except Exception:
                if not stop.wait(TROUBLE_SECONDS):  # a process that ends takes the pools away first; that is no error
                    log.exception("sandbox worker: unexpected error")
            else:
                bell.wait(TICK_SECONDS)
    client.close()


def settle_due() -> int:
    """Expire what is overdue and decide what issuers have made up their minds about; return how many moved."""
    store, now = context.store(), context.now()
    with store.reading() as connection:
        if not (invoices.overdue(connection, now, 1) or invoices.undecided(connection, now, 1)):
            return 0
    with store.writing() as connection:
        overdue = [found for found in invoices.overdue(connection, now, BATCH) if is_over(found, now)]
        undecided = invoices.undecided(connection, now, BATCH)
        for invoice in overdue:
            outcomes.expire(connection, invoice, now=now)
        for invoice in undecided:
            outcomes.decide(connection, invoice, now=now)
    return len(overdue) + len(undecided)


def deliver_due() -> int:
    """Send every webhook that is due, one after the other; return how many were sent."""
    client, sent = webhooks.new_client(), 0
    try:
        while parcels := _claim(BATCH):
            for parcel in parcels:
                _post(client, parcel)
            sent += len(parcels)
    finally:
        client.close()
    return sent


def _claim(limit: int) -> list[Parcel]:
    if limit <= 0 or not webhooks.is_due(context.store(), context.now()):
        return []
    return webhooks.claim(context.store(), now=context.now(), limit=limit)


def _send(app: Flask, client: Client, parcel: Parcel) -> None:
    with app.app_context():
        try:
            _post(client, parcel)
        except Exception:
            log.exception("sandbox worker: a webhook was not sent; it will be when its lease is over")
        context.sandbox().bell.set()


def _send_mails(app: Flask) -> int:
    with app.app_context():
        try:
            return mailbox.send_due(context.store(), context.settings().smtp_url, context.now())
        except Exception:
            log.exception("sandbox worker: mails were not sent")
            return 0


def _post(client: Client, parcel: Parcel) -> None:
    box = context.sandbox()
    webhooks.send(
        box.store,
        client,
        parcel,
        secret=context.webhook_secret(),
        form=box.settings.amount_form,
        clock=box.clock,
    )

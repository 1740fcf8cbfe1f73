"""The sandbox's worker: sends due webhooks and mails, decides payments of slow issuers, expires overdue payments.

It runs as a thread of the server, or as a process of its own. Any number of workers may run.
"""

import atexit
import logging
import threading
from concurrent.futures import Future, ThreadPoolExecutor

from flask import Flask

from http_client.client import Client
from sandbox import context
from sandbox.gateway import invoices, mailbox, outcomes, webhooks
from sandbox.gateway.model import is_over
from sandbox.gateway.webhooks import ClaimedWebhook

SENDERS = 8
"""How many webhooks are sent at the same time, so that one slow shop does not delay the others."""

TICK_SECONDS = 0.5
ERROR_WAIT_SECONDS = 2.0
BATCH = 100

log = logging.getLogger("sandbox")


def start(app: Flask) -> threading.Thread:
    """Start a worker thread that runs until the process ends."""
    stop = threading.Event()
    thread = threading.Thread(target=run, args=(app, stop), name="sandbox-worker", daemon=True)
    thread.start()
    atexit.register(stop.set)
    return thread


def run(app: Flask, stop: threading.Event) -> None:
    """Work until `stop` is set; then finish what was started."""
    with app.app_context(), ThreadPoolExecutor(SENDERS) as pool, ThreadPoolExecutor(1) as mail_pool:
        client, running = webhooks.new_client(context.settings()), set[Future[None]]()
        wake_event, mails = context.sandbox().wake_event, mail_pool.submit(int)
        while not stop.is_set():
            wake_event.clear()
            running = {future for future in running if not future.done()}
            try:
                settle_due()
                if mails.done():  # a slow mail server must not delay webhooks
                    mails = mail_pool.submit(_send_mails, app)
                claimed = _claim(SENDERS - len(running))
                running |= {pool.submit(_send_in_thread, app, client, webhook) for webhook in claimed}
            except Exception:
                # At exit the interpreter closes the pools first. That is not an error.
                if not stop.wait(ERROR_WAIT_SECONDS):
                    log.exception("sandbox worker: unexpected error")
            else:
                wake_event.wait(TICK_SECONDS)
    client.close()


def settle_due() -> int:
    """Expire overdue payments and decide those whose issuer has answered; return how many changed."""
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
    """Send every due webhook, one after the other; return how many were sent."""
    client, sent = webhooks.new_client(context.settings()), 0
    try:
        while claimed := _claim(BATCH):
            for webhook in claimed:
                _send_webhook(client, webhook)
            sent += len(claimed)
    finally:
        client.close()
    return sent


def _claim(limit: int) -> list[ClaimedWebhook]:
    if limit <= 0 or not webhooks.is_due(context.store(), context.now()):
        return []
    return webhooks.claim(context.store(), now=context.now(), limit=limit)


def _send_in_thread(app: Flask, client: Client, webhook: ClaimedWebhook) -> None:
    with app.app_context():
        try:
            _send_webhook(client, webhook)
        except Exception:
            log.exception("sandbox worker: a webhook was not sent; it will be sent when its lease ends")
        context.sandbox().wake_event.set()


def _send_mails(app: Flask) -> int:
    with app.app_context():
        try:
            return mailbox.send_due(context.store(), context.settings().smtp_url, context.now())
        except Exception:
            log.exception("sandbox worker: mails were not sent")
            return 0


def _send_webhook(client: Client, webhook: ClaimedWebhook) -> None:
    sandbox = context.sandbox()
    webhooks.send(
        sandbox.store,
        client,
        webhook,
        secret=context.webhook_secret(),
        form=sandbox.settings.amount_form,
        clock=sandbox.clock,
    )

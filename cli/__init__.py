"""Door: the shell. One file a group of commands, from orgs to secrets, and the worker.

`flask db` is Flask-Migrate's.
"""

from flask import Flask

from cli import (
    accounts,
    backup,
    bank,
    deliveries,
    endpoints,
    inbox,
    incidents,
    keys,
    ledger,
    orgs,
    prune,
    seals,
    webhook_secrets,
    worker,
)


def init_app(app: Flask) -> None:
    """Attach every group of commands to `flask`."""
    # The three in the middle are one group, `flask ledger`.
    books = (ledger, accounts, seals)
    for module in (orgs, bank, backup, *books, inbox, incidents, endpoints, deliveries, keys, webhook_secrets):
        app.cli.add_command(module.group)
    app.cli.add_command(prune.command)
    app.cli.add_command(worker.command)

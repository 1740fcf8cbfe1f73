"""Door: the shell. One file a group of commands, from orgs to secrets, and the worker.

`flask db` is Flask-Migrate's.
"""

from flask import Flask

from cli import (
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
    webhook_secrets,
    worker,
)


def init_app(app: Flask) -> None:
    """Attach every group of commands to `flask`."""
    for module in (orgs, bank, backup, ledger, inbox, incidents, endpoints, deliveries, keys, webhook_secrets):
        app.cli.add_command(module.group)
    app.cli.add_command(prune.command)
    app.cli.add_command(worker.command)

"""Door: the shell. One file a group of commands: orgs, bank, ledger, incidents, keys, secrets.

`flask db` is Flask-Migrate's.
"""

from flask import Flask

from cli import bank, incidents, keys, ledger, orgs, webhook_secrets


def init_app(app: Flask) -> None:
    """Attach every group of commands to `flask`."""
    for module in (orgs, bank, ledger, incidents, keys, webhook_secrets):
        app.cli.add_command(module.group)

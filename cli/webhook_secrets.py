"""`flask secrets`: how to change the secret that a bank signs with, without losing a webhook."""

import secrets

import click

import signing
from cli.output import Group, example, shown
from config import secrets_variable
from context import settings
from ledger import statements

group = Group("secrets", help="The secrets that banks sign with.")


@group.command(epilog=example("flask secrets rotate", "flask secrets rotate --bank plain"))
@click.option("--bank", default="plain", show_default=True, help="Whose secret.")
def rotate(bank: str) -> None:
    """Make a new secret and say, step by step, how to put it in place; changes nothing itself."""
    current = settings().bank_secrets.get(bank)
    if current is None:
        raise click.ClickException(f"No bank named {bank} is known here.")
    click.echo(f"In place for {bank}, newest first:")
    signed = {row.key_id: row for row in statements.payments_by_key()}
    for key_id in map(signing.key_id, current):
        use = (
            f"{signed[key_id].count} payments, the last {shown(signed[key_id].last)}" if key_id in signed else "unused"
        )
        click.echo(f"  key_id {key_id}: {use}")
    fresh = secrets.token_hex(32)
    click.echo(f"""
New secret {signing.key_id(fresh)}, made now and kept nowhere:
  {fresh}

1. Put it in front, keep the old one behind it, and restart:  {secrets_variable(bank)}=NEW,OLD
   Both are accepted from then on.
2. Give the new secret to the bank.
3. Run `flask secrets rotate` again now and then, until only {signing.key_id(fresh)} is still used.
4. Take the old secret out and restart.""")

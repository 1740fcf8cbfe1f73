"""`flask secrets`: how to change the secret that a bank signs with, without losing a webhook."""

import secrets

import click

import signing
from cli.wording import Group, example
from context import settings

group = Group("secrets", help="The secrets that banks sign with.")


@group.command(epilog=example("flask secrets rotate", "flask secrets rotate --bank plain"))
@click.option("--bank", default="plain", show_default=True, help="Whose secret.")
def rotate(bank: str) -> None:
    """Make a new secret and say, step by step, how to put it in place; changes nothing itself."""
    variable = "BANK_WEBHOOK_SECRETS" if bank == "plain" else f"BANK_WEBHOOK_SECRETS_{bank.upper()}"
    current = settings().bank_secrets.get(bank, ())
    click.echo(f"In place for {bank}, newest first (by key_id, as payments record it):")
    for secret in current:
        click.echo(f"  {signing.key_id(secret)}")
    fresh = secrets.token_hex(32)
    click.echo(f"""
New secret {signing.key_id(fresh)}, made now and kept nowhere:
  {fresh}

1. Put it in front, keep the old one behind it, and restart:  {variable}=NEW,OLD
   Both are accepted from then on.
2. Give the new secret to the bank.
3. Watch `key_id` in payments until only {signing.key_id(fresh)} is used.
4. Take the old secret out and restart.""")

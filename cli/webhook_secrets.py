"""`flask secrets`: how to change the secret that a bank signs with, without losing a webhook."""

import hashlib
import secrets

import click

from cli.output import Group, example, say, shown
from config import secrets_variable
from context import cipher, settings
from ledger import statements

group = Group("secrets", help="The secrets that banks sign with.")


@group.command(epilog=example("flask secrets rotate", "flask secrets rotate --bank plain"))
@click.option("--bank", default="plain", show_default=True, help="Whose secret.")
def rotate(bank: str) -> None:
    """Make a new secret and say, step by step, how to put it in place; changes nothing itself."""
    current = settings().bank_secrets.get(bank)
    if current is None:
        raise click.ClickException(f"No bank named {bank} is known here.")
    say(f"In place for {bank}, newest first:")
    signed = {row.key_id: row for row in statements.payments_by_key()}
    for secret in current:
        key_ids = [*cipher().key_ids(secret), _first_key_id(secret)]
        found = [signed[key_id] for key_id in key_ids if key_id in signed]
        count = sum(int(row.payments) for row in found)
        use = f"{count} payments, the last {shown(max(row.last for row in found))}" if found else "unused"
        say(f"  key_id {key_ids[0]}: {use}")
    fresh = secrets.token_hex(32)
    say(
        "",
        f"New secret {cipher().key_id(fresh)}, made now and kept nowhere:",
        f"  {fresh}",
        "",
        f"1. Put it in front, keep the old one behind it, and restart:  {secrets_variable(bank)}=NEW,OLD",
        "   Both are accepted from then on.",
        "2. Give the new secret to the bank.",
        f"3. Run `flask secrets rotate` again now and then, until only {cipher().key_id(fresh)} is still used.",
        "4. Take the old secret out and restart.",
    )


def _first_key_id(secret: str) -> str:
    """Return what payments from before 2026-11-30 call a secret: a plain hash, by which a guess could be checked."""
    return hashlib.sha256(b"kopeck key id:" + secret.encode()).hexdigest()[:12]

"""`flask ledger`, what it proves: seals, and the key that signs them."""

import io
import sys
from pathlib import Path
from uuid import UUID

import click
from sqlalchemy import URL

import signing
from cli import files
from cli.ledger import group
from cli.output import Shaped, counted, example, progress, say
from config import database_address
from context import now, settings
from fields import OperationId
from ledger import rebuild as rebuilding
from ledger import seals
from ledger.findings import Progress
from outbox import proofs

OPERATION = Shaped("operation", OperationId())


@group.command("new-key", epilog=example("flask ledger new-key"))
def new_key() -> None:
    """Print a new SEAL_KEY, once, and the public key with which others verify what it signs."""
    key = signing.new_private_key()
    say("Put this into .env; it is not shown again:", err=True)
    say(f"SEAL_KEY={key}")
    say(f"Give this to whoever verifies: {signing.public_key(key)}", err=True)


@group.command(epilog=example("flask ledger seal --out seal-2026-11-30.jsonl"))
@click.option("--out", type=files.PATH, required=True, help="A new file to write.")
def seal(out: Path) -> None:
    """Write the heads of all logs into a signed file; keep it where nobody of this server can change it."""
    key = _key()
    with files.new_file(out) as part, part.open("wb") as file:
        sealed = seals.seal(file, key=key, now=now())
    say(
        f"Sealed {counted(sealed.rows, 'row')} of {counted(sealed.organizations, 'organisation')} in {out}.",
        f"Its SHA-256 before the signature: {sealed.sha256}",
        f"Verify with: {signing.public_key(key)}",
    )


@group.command(
    epilog=example(
        "flask ledger proof ccf0a86d-041b-4991-bcf7-e2352f7b8a4a --seal seal-2026-11-30.jsonl",
        "flask ledger proof ccf0a86d-041b-4991-bcf7-e2352f7b8a4a --out packet.json",
    )
)
@click.argument("operation_id", type=OPERATION)
@click.option("--source", default="plain", show_default=True, help="The bank that announced it.")
@click.option(
    "--seal", "seal_file", type=files.EXISTING, help="The chain ends at this seal; at the newest row, if left out."
)
@click.option("--out", type=files.PATH, help="A new file to write; standard output, if left out.")
def proof(operation_id: UUID, source: str, seal_file: Path | None, out: Path | None) -> None:
    """Print all that is known of one payment, signed, for others to check: see docs/proof.md."""
    key = _key()
    inn = proofs.organization_of(operation_id, source)
    until = None if seal_file is None else _sealed_version(seal_file, inn, signing.public_key(key))
    packet = proofs.packet(operation_id, source, until=until, key=key, now=now())
    files.write(io.BytesIO(packet), out)


def _key() -> str:
    key = settings().seal_key
    if key is None:
        raise click.ClickException("SEAL_KEY is not set. `flask ledger new-key` makes one; put it into .env.")
    return key


def _sealed_version(seal_file: Path, inn: str, public_key: str) -> int:
    try:
        with seal_file.open("rb") as file:
            return seals.version_of(file, inn, public_key=public_key)
    except seals.NoSeal as error:
        raise click.ClickException(f"{seal_file}: {error}") from None


@group.command(
    epilog=example(
        "flask ledger rebuild --into sqlite:////tmp/again.db",
        "flask ledger rebuild --into - < url-with-a-password",
    )
)
@click.option(
    "--into", "target", required=True, help="The URL of an empty database, or - to read it from standard input."
)
def rebuild(target: str) -> None:
    """Post every stored body, assignment and debit again into an empty database, and compare row by row."""
    steps = rebuilding.into(_url(target))
    broken = rows = 0
    try:
        start = next(steps)
    except rebuilding.NotEmpty:
        raise click.ClickException("That database is not empty, and nothing is written over it.") from None
    assert isinstance(start, Progress)
    with progress(start.total, "Posting again") as advance:
        for step in steps:
            if isinstance(step, Progress):
                advance(step.rows)
                rows += step.rows
            else:
                broken += 1
                say(f"{step.row}: {step.problem}")
    if broken:
        raise click.ClickException(f"{counted(broken, 'finding')} in {counted(rows, 'row')} that were posted again.")
    say(f"Equal: {counted(rows, 'row')} posted again, every one with the same hash.")


def _url(target: str) -> URL:
    """Read the URL of a database; one with a password would be seen by others of this machine."""
    text = sys.stdin.readline().strip() if target == "-" else target
    try:
        url = database_address(text)
    except ValueError as error:
        raise click.UsageError(f"--into {error}") from None
    if target != "-" and url.password is not None:
        raise click.UsageError("A password has no place on a command line: write the URL to standard input, --into -.")
    return url

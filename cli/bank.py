"""`flask bank`: play the bank against a running server, with real signatures over real HTTP."""

import json
import shlex
import uuid

import click

import signing
from cli.orgs import SAMPLE_INN
from cli.output import Group, example, say
from context import settings
from http_client import client, connection

WEBHOOK_PATH = "/api/v1/webhook/bank/"
SAMPLE_DATE = "2024-04-27T21:00:00Z"
SAMPLE_AMOUNT = 145_000
"""Kopecks, as in the sample webhook."""

group = Group("bank", help="Play the bank: sign webhooks and send them.")


@group.command(
    epilog=example(
        "flask bank send --inn 1234567890 --amount 145000",
        "flask bank send --operation-id 5c0e2f0a-8d3b-4c53-9d0b-2f6a7c1e9b44 --repeat 3",
    )
)
@click.option("--inn", default=SAMPLE_INN, show_default=True, help="Whose money it is.")
@click.option("--amount", type=int, default=SAMPLE_AMOUNT, show_default=True, help="Kopecks.")
@click.option("--operation-id", default=None, help="A UUID; a new one if left out.")
@click.option("--document-number", default="PAY-328", show_default=True)
@click.option("--document-date", default=SAMPLE_DATE, show_default=True, help="RFC 3339, with its zone.")
@click.option("--repeat", type=click.IntRange(1, 1000), default=1, show_default=True, help="Send the same so often.")
@click.option("--url", default=None, help="The webhook address; this server's own if left out.")
def send(
    inn: str,
    amount: int,
    operation_id: str | None,
    document_number: str,
    document_date: str,
    repeat: int,
    url: str | None,
) -> None:
    """Sign a webhook, send it to a running server, and show what went and what came back."""
    body = _body(inn, amount, operation_id or str(uuid.uuid4()), document_number, document_date)
    headers = {"Content-Type": "application/json", "X-Signature": signing.sign(body, _newest_secret())}
    address = url or _own_address()
    accepted = True
    for _ in range(repeat):
        _show_request(address, headers, body)
        answer = _send(address, headers, body)
        say(f"< {answer.status} {answer.reason}", f"< {answer.body.decode(errors='replace').strip()}", "")
        accepted = accepted and 200 <= answer.status < 300
    if not accepted:
        raise click.ClickException("The server did not accept it; its answer above says why.")


@group.command(epilog=example("flask bank curl", "flask bank curl --inn 7707083893 --amount 100"))
@click.option("--inn", default=SAMPLE_INN, show_default=True, help="Whose money it is.")
@click.option("--amount", type=int, default=SAMPLE_AMOUNT, show_default=True, help="Kopecks.")
@click.option("--operation-id", default=None, help="A UUID; a new one if left out.")
def curl(inn: str, amount: int, operation_id: str | None) -> None:
    """Print a signed webhook as a curl command, ready to paste; sends nothing."""
    _print_curl(inn, amount, operation_id or str(uuid.uuid4()))


@group.command(epilog=example("flask bank welcome"))
def welcome() -> None:
    """Print the addresses of this server and a first webhook to paste, as `make run` does before it serves.

    It fails if the port is taken, also by Kopeck itself. While it serves, use `flask bank curl`.
    """
    if not client.is_free(settings().host, settings().port):
        taken = f"{settings().host} port {settings().port} cannot be listened on. Does another server run there?"
        raise click.ClickException(
            f"{taken} If it is Kopeck, `flask bank curl` prints a webhook for it. Otherwise put another port into "
            f".env, such as PORT={settings().port + 10}, and try again."
        )
    say(f"The API, to try   {_own_address('/api/v1/swagger/')}")
    say(f"A balance         {_own_address(f'/api/v1/organizations/{SAMPLE_INN}/balance/')}", "")
    say("Ctrl-C in this terminal ends all that `make run` starts.", "")
    say("In another terminal, announce money as the bank would, twice; it is counted once:", "")
    _print_curl(SAMPLE_INN, SAMPLE_AMOUNT, str(uuid.uuid4()))


def _body(inn: str, amount: int, operation_id: str, document_number: str, document_date: str) -> bytes:
    members = {
        "operation_id": operation_id,
        "amount": amount,
        "payer_inn": inn,
        "document_number": document_number,
        "document_date": document_date,
    }
    return json.dumps(members, ensure_ascii=False).encode()


def _print_curl(inn: str, amount: int, operation_id: str) -> None:
    body = _body(inn, amount, operation_id, "PAY-328", SAMPLE_DATE)
    signature = signing.sign(body, _newest_secret())
    say(f"curl -sS {_own_address()} \\")
    say(f"  -H 'Content-Type: application/json' -H 'X-Signature: {signature}' \\")
    say(f"  -d {shlex.quote(body.decode())}")


def _newest_secret() -> str:
    return settings().bank_secrets["plain"][0]


def _own_address(path: str = WEBHOOK_PATH) -> str:
    everywhere = settings().host in ("0.0.0.0", "::")  # noqa: S104 - compared, not listened on
    host = "127.0.0.1" if everywhere else settings().host
    host = f"[{host}]" if ":" in host else host
    return f"http://{host}:{settings().port}{path}"


def _show_request(address: str, headers: dict[str, str], body: bytes) -> None:
    say(f"> POST {address}")
    for name, value in headers.items():
        say(f"> {name}: {value}")
    say(f"> {body.decode()}")


def _send(address: str, headers: dict[str, str], body: bytes) -> connection.Answer:
    try:
        return client.post(address, body, headers)
    except connection.Unreachable as error:
        raise click.ClickException(str(error)) from None

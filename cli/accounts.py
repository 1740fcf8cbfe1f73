"""`flask ledger`, its other half: system accounts, what is debited, and whether both sides are equal."""

import uuid
from datetime import date

import click

import rules
import services
from cli.ledger import group
from cli.output import INN, NOTE, Shaped, example, money, operator, say, table
from context import now
from enums import PostingStatus
from fields import AccountCode, Day, OperationId
from ledger import transfers, trial_balance
from ledger.entries import Debit

ACCOUNT = Shaped("account", AccountCode())
OPERATION = Shaped("operation", OperationId())
DATE = Shaped("date", Day())
KOPECKS = click.IntRange(1, rules.MONEY_MAX)

SOURCE = "shell"
"""The source of what a person debits: its operation ids are apart from those of banks and acquirers."""


@group.command(
    "trial-balance", epilog=example("flask ledger trial-balance", "flask ledger trial-balance --on 2026-12-31")
)
@click.option("--on", type=DATE, help="As it was at the end of this day, Moscow time; now, if left out.")
def print_trial_balance(on: date | None) -> None:
    """Print what each account was debited and credited; exit status 1 unless both come to the same."""
    balance = trial_balance.at(on)
    rows = [(line.account, *map(rules.roubles, (line.debits, line.credits, line.balance))) for line in balance.lines]
    rows.append(("all", *map(rules.roubles, (balance.debits, balance.credits, balance.debits - balance.credits))))
    say(*table(("ACCOUNT", "DEBITS", "CREDITS", "BALANCE"), rows))
    if balance.debits != balance.credits:
        raise click.ClickException("Debits and credits differ. Nothing was changed; run `flask ledger verify`.")


@group.command(
    epilog=example(
        'flask ledger debit 1234567890 5000 --to fees:shop "commission of March"',
        'flask ledger debit 1234567890 145000 --to disputes:yookassa --outside "chargeback 17"',
    )
)
@click.argument("inn", type=INN)
@click.argument("amount", type=KOPECKS)
@click.argument("note", type=NOTE)
@click.option("--to", "account", type=ACCOUNT, required=True, help="The account that it goes to, such as fees:shop.")
@click.option("--outside", is_flag=True, help="It has left already, so it is recorded whatever the balance.")
@click.option("--operation", type=OPERATION, help="A UUID by which a repeat is known; a new one, if left out.")
def debit(inn: str, amount: int, note: str, account: str, outside: bool, operation: uuid.UUID | None) -> None:
    """Take an AMOUNT of kopecks from the balance of INN, once, with a NOTE that says why."""
    entry = Debit(
        operation_id=operation or uuid.uuid4(),
        source=SOURCE,
        inn=inn,
        amount=amount,
        counter_account=account,
        outside=outside,
        note=note,
        made_by=operator(),
        made_at=now(),
    )
    receipt = services.debit(entry)
    if receipt.status is PostingStatus.DUPLICATE:
        say(f"Debit {receipt.debit_id} was recorded before; nothing was changed.")
        return
    say(f"Debited {money(amount)} as {receipt.debit_id}, operation {entry.operation_id}.")
    if receipt.incident_id is not None:
        say(f"The balance is below what may be owed: see `flask incidents show {receipt.incident_id}`.", err=True)


@group.command(epilog=example('flask ledger transfer bank:plain transit:yookassa 970000 "payout of 30 November"'))
@click.argument("debit_account", type=ACCOUNT)
@click.argument("credit_account", type=ACCOUNT)
@click.argument("amount", type=KOPECKS)
@click.argument("note", type=NOTE)
@click.option("--operation", type=OPERATION, help="A UUID by which a repeat is known; a new one, if left out.")
def transfer(debit_account: str, credit_account: str, amount: int, note: str, operation: uuid.UUID | None) -> None:
    """Debit one system account and credit another with an AMOUNT of kopecks, once; no balance changes."""
    if debit_account == credit_account:
        raise click.UsageError("Name two accounts.")
    moved = transfers.transfer(
        operation_id=operation or uuid.uuid4(),
        debit_account=debit_account,
        credit_account=credit_account,
        amount=amount,
        note=note,
        by=operator(),
        now=now(),
    )
    say(f"Transfer {moved.number} is recorded." if moved.is_new else f"Transfer {moved.number} was recorded before.")

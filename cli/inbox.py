"""`flask inbox`: what is acknowledged and not credited yet; list it, and credit it without a worker."""

from collections.abc import Iterator
from itertools import islice

import click

import banks
from cli.output import Group, counted, example, say, shown, table
from context import now
from ledger import inbox, overdue
from worker import jobs

START_WORKER = (
    "Webhooks wait too long. Start `flask worker`, or run `flask inbox credit` once. "
    "The log gives the reason why any stay."
)

group = Group("inbox", help="What is acknowledged and not credited yet.")


@group.command("list", epilog=example("flask inbox list", "flask inbox list --limit 500"))
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="At most this many.")
def list_(limit: int) -> None:
    """List webhooks that wait, the oldest first; exit status 1 if they wait too long."""
    header = ("ID", "SOURCE", "RECEIVED", "UNKNOWN INN", "ATTEMPTS", "NEXT")
    lines = [
        (row.id, row.source, row.received_at, row.unknown_inn, row.attempt_count, row.due_at)
        for row in islice(inbox.webhook_list().rows(), limit)
    ]
    say(*(table(header, lines) if lines else ["Nothing waits."]), *summary())
    if (what_to_do := advice()) is not None:
        raise click.ClickException(what_to_do)


@group.command("credit", epilog=example("flask inbox credit"))
def credit() -> None:
    """Credit what is due now, without a worker, and say what is left."""
    taken = jobs.credit()
    left = sum(bank.count for bank in inbox.backlog())
    say(f"{taken} taken up, {left} left.", *summary())


def summary() -> Iterator[str]:
    """Say of each bank how much waits, and since when."""
    for bank in inbox.backlog():
        what = counted(bank.count, "webhook")
        since = shown(bank.oldest_at)
        gone = "" if banks.is_known(bank.source) else f" {overdue.BANK_GONE}"
        yield f"{what} of bank {shown(bank.source)}: acknowledged, not credited yet, the oldest since {since}.{gone}"


def advice() -> str | None:
    """Say what to do about what waits so long that nobody may be at work, if anything does."""
    late = [bank.source for bank in inbox.backlog() if inbox.is_overdue(bank.oldest_at, now=now())]
    sentences = []
    if any(map(banks.is_known, late)):
        sentences.append(START_WORKER)
    if gone := ", ".join(source for source in late if not banks.is_known(source)):
        sentences.append(f"Not in the registry: {gone}. {overdue.BRING_BACK}")
    return " ".join(sentences) or None

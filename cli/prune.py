"""`flask prune`: what is finished and old goes; money, and whatever waits, stays."""

from datetime import timedelta

import click
from flask.cli import with_appcontext

import ledger.pruning
import outbox.pruning
from cli.output import counted, example, guarded, progress, say
from context import now

DAYS_MAX = 36_500


@click.command("prune", epilog=example("flask prune --older-than 365", "flask prune --older-than 90 --yes"))
@click.option("--older-than", "days", type=click.IntRange(1, DAYS_MAX), required=True, help="Days since it finished.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@with_appcontext
@guarded
def command(days: int, yes: bool) -> None:
    """Delete finished deliveries with their attempts, events that nobody waits for, and resolved incidents.

    Payments and the log stay for ever. So does what is still open, and each incident that holds money or says to whom
    it was assigned. Stopped anywhere, it can be run again.
    """
    before = now() - timedelta(days=days)
    found, incidents = outbox.pruning.count(before), ledger.pruning.count(before)
    say(
        f"Finished before {before:%Y-%m-%d %H:%M:%SZ}:",
        f"  deliveries  {found.deliveries}, with {counted(found.attempts, 'attempt')}",
        f"  events      {found.events}",
        f"  incidents   {incidents}",
    )
    total = found.deliveries + found.events + incidents
    if not total:
        return
    if not yes:
        click.confirm("Delete all of this? It cannot be undone", abort=True)
    deliveries = attempts = events = closed = 0
    with progress(total, "Deleting") as advance:
        for part in outbox.pruning.prune(before):
            deliveries, attempts, events = (
                deliveries + part.deliveries,
                attempts + part.attempts,
                events + part.events,
            )
            advance(part.deliveries + part.events)
        for some in ledger.pruning.prune(before):
            closed += some
            advance(some)
    deleted = (
        *(counted(deliveries, "delivery", "deliveries"), counted(attempts, "attempt")),
        *(counted(events, "event"), counted(closed, "incident")),
    )
    say(f"Deleted: {', '.join(deleted)}.")

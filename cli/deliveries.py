"""`flask deliveries`: what was announced, and what came of it."""

import click

from cli.output import INN, NUMBER, Group, example, say, shown, table
from context import now
from enums import DeliveryStatus
from outbox import endpoints, queries

STATUSES = [status.value for status in DeliveryStatus]
"""As they are written: click would offer the names of an Enum's members."""

group = Group("deliveries", help="Deliveries: what was announced, and what came of it.")


@group.command("list", epilog=example("flask deliveries list --status exhausted", "flask deliveries list --endpoint 1"))
@click.option("--endpoint", "endpoint_id", type=NUMBER, help="Only those to this endpoint.")
@click.option("--status", type=click.Choice(STATUSES), help="Only these.")
@click.option("--organization", type=INN, help="Only those about the organisation with this INN.")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="At most this many.")
def list_(endpoint_id: int | None, status: str | None, organization: str | None, limit: int) -> None:
    """List deliveries, the newest first."""
    listing = queries.delivery_list(endpoint_id=endpoint_id, status=status, inn=organization)
    lines = [
        (
            row.id,
            row.endpoint_id,
            row.event_type,
            row.organization,
            row.version,
            row.status,
            row.attempt_count,
            row.created_at,
            row.due_at,
        )
        for row in listing.page(limit=limit).items
    ]
    header = ("ID", "ENDPOINT", "EVENT", "ORGANISATION", "VERSION", "STATUS", "ATTEMPTS", "CREATED", "DUE")
    for line in table(header, lines):
        say(line)


@group.command(epilog=example("flask deliveries show 1"))
@click.argument("delivery_id", type=NUMBER)
def show(delivery_id: int) -> None:
    """Show one delivery with every attempt."""
    row, attempts = queries.find_delivery(delivery_id)
    for name, value in row._mapping.items():
        say(f"{name:13} {shown(value)}")
    lines = [
        (attempt.number, attempt.started_at, attempt.cause, attempt.duration_ms, attempt.status_code, attempt.error)
        for attempt in attempts
    ]
    for line in table(("NUMBER", "STARTED", "CAUSE", "MS", "ANSWER", "ERROR"), lines):
        say(line)


@group.command(epilog=example("flask deliveries retry 1"))
@click.argument("delivery_id", type=NUMBER)
def retry(delivery_id: int) -> None:
    """Have a delivery tried once more, now; its schedule goes on as if it had not been."""
    endpoints.retry(delivery_id, now=now())
    say(f"It is due now, and a worker tries it; `flask deliveries show {delivery_id}` tells what came of it.")

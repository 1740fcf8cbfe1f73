"""`flask incidents`: look at what could not be counted, and settle it."""

import json

import click

import services
from cli.output import INN, NOTE, NUMBER, Group, example, money, operator, say, shown, table
from context import now
from enums import IncidentState
from ledger import bodies, incidents, statements

group = Group("incidents", help="What is authentic and could not be counted.")


@group.command("list", epilog=example("flask incidents list", "flask incidents list --state all"))
@click.option(
    "--state",
    type=click.Choice([state.value for state in IncidentState]),
    default=IncidentState.OPEN.value,
    show_default=True,
)
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="At most this many.")
def list_(state: str, limit: int) -> None:
    """List incidents, the newest first."""
    rows = statements.incident_list(state).page(limit=limit).items
    lines = []
    for row in rows:
        # Read with care: somebody may have rewritten them, and this list is where it is looked at.
        announced = bodies.member(row.facts, "announced")
        amount = bodies.member(announced, "amount")
        lines.append(
            (
                row.id,
                row.kind,
                row.source,
                bodies.member(announced, "payer_inn"),
                money(amount) if type(amount) is int else amount,
                row.seen_count,
                row.last_seen_at,
                "yes" if row.payment_id else None,
                row.resolution,
            )
        )
    for line in table(
        ("ID", "KIND", "SOURCE", "PAYER", "AMOUNT", "SEEN", "LAST SEEN", "CREDITED", "RESOLUTION"), lines
    ):
        say(line)


@group.command(epilog=example("flask incidents show 1"))
@click.argument("incident_id", type=NUMBER)
def show(incident_id: int) -> None:
    """Show one incident with what arrived."""
    row = incidents.find(incident_id)
    for name, value in row._mapping.items():
        if name not in ("body", "fingerprint", "facts"):
            say(f"{name:14} {shown(value)}")
    for resolution in incidents.resolutions([incident_id])[incident_id]:
        how = (resolution.resolved_at, resolution.resolved_by, resolution.resolution)
        say(f"{'resolved':14} {' '.join(shown(value) for value in how if value is not None)}")
    say(f"{'facts':14} {json.dumps(row.facts, ensure_ascii=False)}")
    say(f"{'body':14} {row.body.decode(errors='backslashreplace')}")


@group.command(epilog=example("flask incidents assign 1 1234567890"))
@click.argument("incident_id", type=NUMBER)
@click.argument("inn", type=INN)
def assign(incident_id: int, inn: str) -> None:
    """Credit the money that an incident holds to an organisation, once."""
    receipt = services.assign_incident(incident_id, inn=inn, by=operator(), now=now())
    say(f"Credited to {inn} as payment {receipt.payment_id}.")


@group.command(epilog=example('flask incidents resolve 1 "the bank sent it again with a valid date"'))
@click.argument("incident_id", type=NUMBER)
@click.argument("resolution", type=NOTE)
def resolve(incident_id: int, resolution: str) -> None:
    """Close an incident with a note; no money moves."""
    services.resolve_incident(incident_id, resolution=resolution, by=operator(), now=now())
    say("Resolved.")

"""`flask endpoints`: where events are announced."""

from datetime import datetime

import click

import schemas
from cli.output import INN, MOMENT, NUMBER, TEXT, Group, example, operator, say, shown, table
from context import cipher, now, settings
from enums import EVERYTHING, EventType, Scheme
from errors import SecretUnreadable
from limits import ROTATION_SECONDS_MAX
from outbox import endpoints, queries, replays, stored_secrets
from outbox.endpoints import Reveal
from worker import jobs

SCHEMES = [scheme.value for scheme in Scheme]
"""As they are written: click would offer the names of an Enum's members."""

group = Group("endpoints", help="Endpoints: where events are announced.")


@group.command(
    epilog=example(
        "flask endpoints create https://billing.example.com/kopeck",
        "flask endpoints create https://crm.example.com/hook --organization 1234567890 --ordered",
    )
)
@click.argument("url")
@click.option(
    "--scheme", type=click.Choice(SCHEMES), default=Scheme.STANDARD.value, show_default=True, help="How to sign."
)
@click.option("--organization", type=INN, help="The INN of the only organisation to announce; all, if left out.")
@click.option(
    "--event", "event_types", multiple=True, type=click.Choice([EventType.CREDITED.value]), help="Only these events."
)
@click.option("--ordered", is_flag=True, help="One after the other, for each organisation.")
@click.option("--description", type=TEXT, default="", help="For people.")
def create(
    url: str, scheme: str, organization: str | None, event_types: tuple[str, ...], ordered: bool, description: str
) -> None:
    """Register an endpoint and print its secret, once."""
    revealed = endpoints.create(
        cipher(),
        url=url,
        scheme=Scheme(scheme),
        organization=organization,
        event_types=" ".join(event_types) or EVERYTHING,
        ordered=ordered,
        description=description,
        loopback_allowed=settings().loopback_endpoints,
        https_only=settings().production,
        networks=settings().endpoint_networks,
        now=now(),
    )
    _print_secret(revealed)


@group.command("list", epilog=example("flask endpoints list"))
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="At most this many.")
def list_(limit: int) -> None:
    """List endpoints, the oldest first."""
    rows = queries.endpoint_list().page(limit=limit).items
    unreadable = stored_secrets.unreadable(cipher())
    lines = [
        (
            *(row.id, row.organization or "all", row.scheme),
            "unreadable" if row.id in unreadable else "readable",
            *(row.disabled_because, row.failing_since, row.url),
        )
        for row in rows
    ]
    for line in table(("ID", "FOR", "SCHEME", "SECRET", "DISABLED", "FAILING SINCE", "URL"), lines):
        say(line)
    if unreadable:
        say(f"{len(unreadable)} cannot be signed for: {SecretUnreadable.words}", err=True)


@group.command(epilog=example("flask endpoints show 1"))
@click.argument("endpoint_id", type=NUMBER)
def show(endpoint_id: int) -> None:
    """Show one endpoint, without its secret."""
    for name, value in queries.find_endpoint(endpoint_id)._mapping.items():
        say(f"{name:17} {shown(value)}")


@group.command(epilog=example("flask endpoints ping 1"))
@click.argument("endpoint_id", type=NUMBER)
def ping(endpoint_id: int) -> None:
    """Send a `ping` now, and show what came back."""
    delivery_id = endpoints.ping(endpoint_id, now=now())
    attempt = jobs.deliver_one(delivery_id)
    if attempt is None:
        say(f"Not sent here: a worker was faster, or the log says why. Look at `flask deliveries show {delivery_id}`.")
    elif attempt.status is None:
        raise click.ClickException(f"No answer: {attempt.error}")
    else:
        say(f"< {attempt.status} after {attempt.duration_ms} ms")
        if attempt.excerpt:
            say(f"< {attempt.excerpt}")


@group.command(epilog=example("flask endpoints rotate 1", "flask endpoints rotate 1 --overlap 3600"))
@click.argument("endpoint_id", type=NUMBER)
@click.option(
    "--overlap",
    type=click.IntRange(0, ROTATION_SECONDS_MAX),
    default=schemas.ROTATION_SECONDS,
    show_default=True,
    help="For how many seconds the old secret stays good.",
)
def rotate(endpoint_id: int, overlap: int) -> None:
    """Make a new secret and print it, once; the old one stays good for a while."""
    _print_secret(endpoints.rotate(cipher(), endpoint_id, overlap_seconds=overlap, now=now()))


@group.command(
    "reencrypt", epilog=example("flask endpoints reencrypt", "flask endpoints reencrypt --unbound 3 --unbound 4")
)
@click.option(
    "--unbound",
    multiple=True,
    type=NUMBER,
    metavar="ENDPOINT_ID",
    help="Also a secret of this endpoint that `flask db upgrade` could not read; only if nobody has changed the table.",
)
def reencrypt(unbound: tuple[int, ...]) -> None:
    """Encrypt all secrets with the newest of SECRETS_KEYS; then the older keys can be taken out."""
    done, unread = stored_secrets.reencrypt(cipher(), unbound=unbound)
    say(f"{done} encrypted with the newest key.")
    if unread:
        numbers = ", ".join(map(str, unread))
        raise click.ClickException(
            f"These endpoints' secrets cannot be read: {numbers}. Put the key that is missing back into SECRETS_KEYS, "
            "or give each a new secret: `flask endpoints rotate NUMBER --overlap 0`."
        )


@group.command(epilog=example("flask endpoints disable 1"))
@click.argument("endpoint_id", type=NUMBER)
def disable(endpoint_id: int) -> None:
    """Stop announcing to an endpoint; what is due meanwhile is paused."""
    endpoints.disable(endpoint_id, now=now())
    say("Disabled. What happens meanwhile can be replayed.")


@group.command(epilog=example("flask endpoints enable 1"))
@click.argument("endpoint_id", type=NUMBER)
def enable(endpoint_id: int) -> None:
    """Announce to an endpoint again, beginning with what was paused."""
    endpoints.enable(endpoint_id, now=now())
    say("Enabled. What happened while it was disabled comes with `flask endpoints replay`.")


@group.command(epilog=example("flask endpoints delete 1"))
@click.argument("endpoint_id", type=NUMBER)
def delete(endpoint_id: int) -> None:
    """Delete an endpoint and its secret; its deliveries stay to be read."""
    endpoints.remove(endpoint_id, now=now())
    say("Deleted.")


@group.command(epilog=example("flask endpoints replay 1 --since 2026-03-01T00:00:00Z"))
@click.argument("endpoint_id", type=NUMBER)
@click.option("--since", type=MOMENT, required=True, help="From this moment on.")
def replay(endpoint_id: int, since: datetime) -> None:
    """Have everything since a moment sent again, also what the endpoint was never sent."""
    replay_id = replays.start(endpoint_id, since=since, by=operator(), now=now())
    jobs.replay()
    queued = replays.find(endpoint_id, replay_id)["queued"]
    say(
        f"Replay {replay_id}: {queued} events are queued; a worker sends them. "
        f"See `flask deliveries list --endpoint {endpoint_id}`."
    )


def _print_secret(revealed: Reveal) -> None:
    say(f"Endpoint {revealed.id}. Give this to whoever runs it; it is not shown again:", err=True)
    say(revealed.secret)
    if revealed.public_key:
        say(f"Or this, if it should not be able to sign: {revealed.public_key}", err=True)

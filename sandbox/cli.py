"""`flask --app sandbox sandbox`: the storm, a worker process, and the addresses of the pages.

A storm exits with status 1 if it has findings, or if the shop could not be checked.
"""

import json
import signal
import sys
import threading
from dataclasses import replace
from types import FrameType

import click
from flask import current_app
from flask.cli import AppGroup

from http_client import addresses, client
from sandbox import context, worker
from sandbox.storm import text
from sandbox.storm.compare import SLOW_SECONDS
from sandbox.storm.connection import ShopSilent
from sandbox.storm.plan import Plan, make_plan
from sandbox.storm.play import CONNECTIONS, PATIENCE_SECONDS
from sandbox.storm.run import SETTLE_SECONDS, Storm
from sandbox.storm.shop import Addresses, Shop, addresses_of

BAR_FROM_STEPS = 200
"""A shorter storm shows no progress bar."""

STORM_EXAMPLE = """\b
Example:
  flask --app sandbox sandbox storm --seed 7 --operations 5000 --organisations 20
  flask --app sandbox sandbox storm --seed 7 --day 2
  flask --app sandbox sandbox storm --unsigned --webhook-url http://127.0.0.1:9000/api/webhook/bank/ \\
    --balance-url 'http://127.0.0.1:9000/api/organizations/{inn}/balance/'
"""
WELCOME_EXAMPLE = """\b
Example:
  flask --app sandbox sandbox welcome
"""
WORKER_EXAMPLE = """\b
Example:
  flask --app sandbox sandbox worker
"""

group = AppGroup("sandbox", help="Play a storm, run the worker, print the addresses.")


@group.command(name="worker", epilog=WORKER_EXAMPLE)
def work() -> None:
    """Send webhooks and expire overdue payments until SIGTERM or Ctrl-C; `make run` and `flask run` have their own."""
    stop = threading.Event()
    sandbox = context.sandbox()

    def end(_signal: int, _frame: FrameType | None) -> None:
        stop.set()
        sandbox.wake_event.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    worker.run(current_app._get_current_object(), stop)  # type: ignore[attr-defined]


@group.command(epilog=WELCOME_EXAMPLE)
def welcome() -> None:
    """Print the addresses of the pages, as `make run` does before it serves.

    It fails if the port is taken, also by the sandbox itself.
    """
    ours = context.settings()
    if not client.is_free(ours.host, ours.port):
        taken = f"The sandbox cannot listen on {ours.host} port {ours.port}."
        raise click.ClickException(
            f"{taken} Put another port into .env, such as SANDBOX_PORT={ours.port + 10}, and try again."
        )
    click.echo(f"The sandbox       {ours.base_url}/")
    click.echo(f"A mock bank       {ours.base_url}/bank/")


@group.command(epilog=STORM_EXAMPLE)
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="The same seed gives the same day.")
@click.option("--operations", type=click.IntRange(1, 100_000), default=1000, show_default=True)
@click.option("--organisations", type=click.IntRange(1, 10_000), default=10, show_default=True)
@click.option("--day", type=click.IntRange(1), default=1, show_default=True, help="The same day with new ids.")
@click.option("--again", is_flag=True, help="This day was played before; nothing may be credited.")
@click.option("--inn", "inns", multiple=True, help="An organisation that the shop knows; may be repeated.")
@click.option("--amount-max", type=click.IntRange(1), default=None, help="No valid amount is larger, in kopecks.")
@click.option("--url", default=None, help="The address of a Kopeck; default SANDBOX_SHOP_URL.")
@click.option("--webhook-url", default=None, help="Another shop: its webhook address.")
@click.option("--balance-url", default=None, help="Its balance address, with {inn}.")
@click.option("--log-url", default=None, help="Its log address, with {inn}.")
@click.option("--incidents-url", default=None, help="Its address for a list of held money.")
@click.option("--list-url", default=None, help="Its address for a list of organisations with their balances.")
@click.option("--balance-in", type=click.Choice(["kopecks", "roubles"]), default="kopecks", show_default=True)
@click.option("--unsigned", is_flag=True, help="For a shop without signatures: sign nothing.")
@click.option("--connections", type=click.IntRange(1, 500), default=CONNECTIONS, show_default=True)
@click.option("--patience", type=click.FloatRange(0), default=PATIENCE_SECONDS, show_default=True, help="Seconds.")
@click.option("--settle", type=click.FloatRange(0), default=SETTLE_SECONDS, show_default=True, help="Seconds.")
@click.option(
    "--slow", type=click.FloatRange(0), default=SLOW_SECONDS, show_default=True, help="A later answer is late."
)
@click.option("--plan", "only_plan", is_flag=True, help="Print the plan, one JSON a line, and send nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def storm(
    *,
    seed: int,
    operations: int,
    organisations: int,
    day: int,
    again: bool,
    inns: tuple[str, ...],
    amount_max: int | None,
    url: str | None,
    webhook_url: str | None,
    balance_url: str | None,
    log_url: str | None,
    incidents_url: str | None,
    list_url: str | None,
    balance_in: str,
    unsigned: bool,
    connections: int,
    patience: float,
    settle: float,
    slow: float,
    only_plan: bool,
    as_json: bool,
) -> None:
    """Play a hostile day against a shop and report every kopeck; exit status 1 if there is a finding."""
    plan = make_plan(
        seed=seed, operations=operations, organisations=organisations, day=day, inns=inns, amount_max=amount_max
    )
    if only_plan:
        sys.stdout.buffer.write(plan.encoded())
        return
    ours = context.settings()
    if not ours.bank_secret and not unsigned:
        raise click.UsageError("No secret to sign with: set SANDBOX_BANK_SECRET, or pass --unsigned.")
    configured = ours.shop_url
    places = addresses_of(url or webhook_url or configured, webhook=None if url else configured)
    options = AddressOptions(webhook_url, balance_url, log_url, incidents_url, list_url)
    try:
        shop = Shop(
            options.override(places), api_key=ours.api_key, kopecks_in_unit=100 if balance_in == "roubles" else 1
        )
    except addresses.Unusable as problem:
        raise click.UsageError(f"An address cannot be used: {problem}") from None
    played = Storm(
        plan=plan,
        shop=shop,
        secret=None if unsigned else ours.bank_secret,
        connections=connections,
        patience=patience,
        settle=settle,
        again=again,
        slow_seconds=slow,
    )
    _run(played, plan, as_json=as_json)


class AddressOptions:
    """The addresses given on the command line; they replace those of a Kopeck."""

    def __init__(
        self,
        webhook: str | None,
        balance: str | None,
        log: str | None,
        incidents: str | None,
        organisations: str | None,
    ) -> None:
        self.webhook, self.balance, self.log, self.incidents = webhook, balance, log, incidents
        self.organisations = organisations

    def override(self, places: Addresses) -> Addresses:
        """Replace addresses; a shop with its own balance address has no others unless they are given, too."""
        if self.balance:
            places = replace(places, balance=self.balance, log=None, incidents=None, organisations=None)
        return replace(
            places,
            webhook=self.webhook or places.webhook,
            log=self.log or places.log,
            incidents=self.incidents or places.incidents,
            organisations=self.organisations or places.organisations,
        )


def _run(played: Storm, plan: Plan, *, as_json: bool) -> None:
    try:
        hidden = len(plan.steps) < BAR_FROM_STEPS
        with click.progressbar(length=len(plan.steps), label="Storm", hidden=hidden, file=sys.stderr) as bar:
            report = played.run(bar.update)
    except ShopSilent as problem:
        raise click.ClickException(str(problem)) from None
    if as_json:
        click.echo(json.dumps(report.as_json(), indent=2))
    else:
        for line in text.report_lines(report, plan):
            click.echo(line)
    if not report.is_clean:
        raise SystemExit(1)

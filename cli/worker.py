"""`flask worker`: the clock that delivers, credits and replays, in one process and without a broker."""

import signal
import threading

import click
from flask.cli import with_appcontext

from cli.output import example, say
from context import settings
from worker import loop as clockwork
from worker import signals


@click.command("worker", epilog=example("flask worker"))
@with_appcontext
def command() -> None:
    """Deliver events, credit the inbox and continue replays, until Ctrl-C or SIGTERM; run as many as you like."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    signals.keep_settings()
    say(f"Worker on {settings().database_url.get_backend_name()}: waiting for events. Ctrl-C ends it.")
    clockwork.run(stop)
    say("Worker: what was begun is finished.")

"""How gunicorn serves Kopeck: `gunicorn` alone, in this folder, is the whole command."""

import gc
import signal
import threading
from typing import Any

from limits import CONNECTIONS_MAX, HEADER_SECONDS, SHUTDOWN_SECONDS
from server import gunicorn_worker, settings
from server.access_log import AccessLog

_settings = settings.load()

NEW_OBJECTS = 20_000
"""How many more objects there must be before the collector looks at the new ones."""

wsgi_app = "app:create_app()"
bind = f"[{_settings.host}]:{_settings.port}" if ":" in _settings.host else f"{_settings.host}:{_settings.port}"
# As many processes as there are cores, and at least two, so that one that dies does not take the door with it. On two
# cores one was more than a third slower than two, three an eighth (python -m bench --only one-worker three-workers).
workers = 2
# Greenlets: a request that waits for a commit costs no thread, and a slow client nothing but its connection. With
# threads it was about half as fast (--only gthread-8 gthread-32).
worker_class = gunicorn_worker.Worker
worker_connections = CONNECTIONS_MAX
# How long the headers of a request may take; how long a connection may be idle is the worker's own business.
keepalive = HEADER_SECONDS
graceful_timeout = SHUTDOWN_SECONDS
# No header of a proxy decides anything here: neither the scheme, where two that disagree would be answered by gunicorn
# itself, nor which application or path is meant.
secure_scheme_headers: dict[str, str] = {}
forwarder_headers = ""
forwarded_allow_ips = ""
# gunicorn 27 opens a control socket under HOME, where a second server would take its place.
control_socket_disable = True
accesslog = "-"
logger_class = AccessLog


def post_worker_init(worker: Any) -> None:
    """Prepare a worker that serves already: its signals, a look at the database for the log, the collector."""
    # Ctrl-C is the master's, which passes it on; a worker that hears it twice may hang on its own lock.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if worker.age == 1:
        # The first of them says for all what is wrong with the database, while it serves already.
        threading.Thread(target=_look_at_database, args=[worker.wsgi], daemon=True).start()
    # What the app is made of stays for good: the collector need not look at it again and again while all wait.
    gc.collect()
    gc.freeze()
    # A request leaves few cycles, and while many wait for one commit all that they hold would be looked through again
    # and again: with Python's own 700 a credit cost a twentieth more (python -m bench --only processor-web).
    gc.set_threshold(NEW_OBJECTS)


def _look_at_database(app: Any) -> None:
    # Not above: the master would load them before gevent's patches, and with them drivers, which then block.
    from context import wall_clock  # noqa: PLC0415
    from database import checks  # noqa: PLC0415

    with app.app_context():
        checks.report(clock=wall_clock)


def worker_exit(_server: Any, worker: Any) -> None:
    """Write what waits, however the worker ends, unless it is killed."""
    worker.log.write_waiting()

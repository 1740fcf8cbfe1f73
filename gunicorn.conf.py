"""How gunicorn serves Kopeck: `gunicorn` alone, in this folder, is the whole command."""

import gc
import signal
from typing import Any
from urllib.parse import quote

from gunicorn.glogging import Logger

from limits import CONNECTIONS_MAX, HEADER_SECONDS, SHUTDOWN_SECONDS
from server import gunicorn_worker, settings

_settings = settings.load()

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
# One line a request, with the id that the caller got; no query and no header, which may hold what is private.
accesslog = "-"
access_log_format = "%(t)s %(m)s %(U)s %(s)s %(D)sus %({x-request-id}o)s"


class PlainLogger(Logger):  # type: ignore[misc]
    """Writes the path as it was sent, percent-encoded: decoded, it could hold line breaks and terminal codes."""

    def atoms(self, resp: Any, req: Any, environ: dict[str, Any], request_time: Any) -> dict[str, Any]:
        """Return what an access line may be made of."""
        path = environ.get("PATH_INFO", "").encode("latin-1", "replace")
        return {**super().atoms(resp, req, environ, request_time), "U": quote(path)}


logger_class = PlainLogger


def post_worker_init(_worker: object) -> None:
    """Leave Ctrl-C to the master, which passes it on; a worker that hears it twice may hang on its own lock."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # What the app is made of stays for good: the collector need not look at it again and again while all wait.
    gc.collect()
    gc.freeze()

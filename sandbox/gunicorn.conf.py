"""How `make run` serves the sandbox: `gunicorn -c sandbox/gunicorn.conf.py`, one process with threads and a worker.

Nothing else imports gunicorn, which does not exist on Windows; `flask --app sandbox run` serves without it.
"""

import signal
from typing import Any
from urllib.parse import quote

from gunicorn.glogging import Logger

from sandbox import settings

_settings = settings.load_for_workers()

wsgi_app = "sandbox:create_app(work=True)"
bind = f"[{_settings.host}]:{_settings.port}" if ":" in _settings.host else f"{_settings.host}:{_settings.port}"
# One process: the rate limit and the storm of the bank's page are in its memory.
workers = 1
worker_class = "gthread"
# Requests wait for slow issuers and for shops, and a shop may call the sandbox while it is called.
threads = 32
# Longer than a shop may take to answer a webhook, which would otherwise be sent once more.
graceful_timeout = 15
# Longer than proxies keep a connection idle (60 seconds), so that they never use one that is just being closed.
keepalive = 75
# No header of a proxy decides anything here: neither the scheme, where two that disagree would be answered by gunicorn
# itself, nor which path is meant.
secure_scheme_headers: dict[str, str] = {}
forwarder_headers = ""
forwarded_allow_ips = ""
# gunicorn 27 opens a control socket under HOME, which would be the same one as Kopeck's.
control_socket_disable = True
accesslog = "-"
access_log_format = "%(t)s %(m)s %(U)s %(s)s %(D)sus"


class PlainLogger(Logger):  # type: ignore[misc]
    """Writes the path percent-encoded: decoded, it could contain line breaks and terminal codes."""

    def atoms(self, resp: Any, req: Any, environ: dict[str, Any], request_time: Any) -> dict[str, Any]:
        """Return the values of an access line."""
        path = environ.get("PATH_INFO", "").encode("latin-1", "replace")
        return {**super().atoms(resp, req, environ, request_time), "U": quote(path)}


logger_class = PlainLogger


def post_worker_init(_worker: object) -> None:
    """Ignore Ctrl-C in the worker; the master passes it on, and a second signal could interrupt the shutdown."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

"""What a worker does at SIGHUP: it goes on with the settings it has, and ends when its terminal was closed.

Called by `flask worker` and by worker.tasks.
"""

import logging
import os
import signal
import threading
from typing import Any

log = logging.getLogger("kopeck")

ADVICE = (
    "SIGHUP: a worker reads its settings at its start only, and goes on with those it has; restart it to change them"
)
IS_UNDER_NOHUP = hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
"""Asked before Celery sets a handler of its own."""

OUTPUTS = (1, 2)
"""Standard output and standard error."""


def keep_settings(**_: Any) -> None:
    """Have SIGHUP end nothing from now on but a worker whose terminal is gone; Celery would start anew, or end."""
    if not hasattr(signal, "SIGHUP"):
        return
    if IS_UNDER_NOHUP or not _has_terminal():
        signal.signal(signal.SIGHUP, _advise)
        return
    shown = [output for output in OUTPUTS if os.isatty(output)]
    signal.signal(signal.SIGHUP, lambda *_: _advise() if _has_terminal() else _end(shown))


def _has_terminal() -> bool:
    """Return whether this process has a terminal that could be closed, wherever its output goes."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR))
    except OSError:
        return False
    return True


def _advise(*_: object) -> None:
    # A handler may come in the middle of another line of the log.
    threading.Thread(target=log.warning, args=[ADVICE]).start()


def _end(outputs: list[int]) -> None:
    # What is said at the end can go nowhere, and must not be what ends it.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for output in outputs:
        os.dup2(nowhere, output)
    os.kill(os.getpid(), signal.SIGTERM)

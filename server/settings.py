"""The settings of a server that forks: read once by its master, checked in use, handed to every worker.

Called by gunicorn.conf.py, at the start and at each SIGHUP. Never lets settings that cannot be used end what runs.
"""

import logging
import multiprocessing
import traceback
from multiprocessing.connection import Connection

from werkzeug.utils import import_string

import config
from config import Config, ConfigError
from http_client import client

log = logging.getLogger("gunicorn.error")


def load() -> Config:
    """Return what to serve with, and keep it for the workers.

    At the start a list of problems ends the process. Later it is logged, and the server goes on with what it has.
    """
    kept = config.kept()
    try:
        settings = config.read(check=_problems)
    except ConfigError as error:
        if kept is None:
            raise SystemExit(str(error)) from None
        log.error("the settings were not read again, the server goes on with those it has: %s", error)
        return kept
    config.keep(settings)
    return settings


def _problems(settings: Config) -> list[str]:
    return [*_in_use(settings), *_listening(settings)]


def _in_use(settings: Config) -> list[str]:
    """Ask the app, in a process of its own: what the workers import must come after gevent's patches."""
    fork = multiprocessing.get_context("fork")
    ours, theirs = fork.Pipe(duplex=False)
    process = fork.Process(target=_ask_app, args=(theirs, settings))
    process.start()
    theirs.close()
    try:
        found: list[str] = ours.recv()
    except EOFError:
        found = ["the settings could not be tried: the traceback above says why"]
    process.join()
    return found


def _ask_app(answer: Connection, settings: Config) -> None:
    try:
        # By name, as gunicorn does: the app stands above the server.
        answer.send(import_string("app:problems")(settings))
    except Exception:
        traceback.print_exc()


def _listening(settings: Config) -> list[str]:
    """Find an address that gunicorn would give up the present one for, in vain."""
    kept = config.kept()
    moves = kept is not None and (kept.host, kept.port) != (settings.host, settings.port)
    if not moves or client.is_free(settings.host, settings.port):
        return []
    return [f"HOST and PORT: {settings.host} port {settings.port} cannot be listened on"]

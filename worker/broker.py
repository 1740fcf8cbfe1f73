"""How Celery's workers are woken after a commit, and what such a message looks like.

The Notifier listens to the commits of database.session, in every process. It never fails, never keeps its caller
waiting, and never says what there is to do: that is in the tables, where beat finds it too if a message is lost.
"""

import atexit
import logging
import os
import re
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from operator import attrgetter
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import certifi

from enums import Job
from http_client import certificates
from limits import BROKER_SECONDS, RETRY_AFTER_SECONDS, WAKE_EXPIRY_SECONDS, WAKE_SECONDS

MESSAGE: dict[str, Any] = {"expires": WAKE_EXPIRY_SECONDS, "expiration": WAKE_EXPIRY_SECONDS, "ignore_result": True}
"""What all messages have in common: a worker passes over one that is old (`expires`), RabbitMQ forgets it itself."""

Send = Callable[[Job], None]
"""Sends the message of one job, or raises what stands in the way."""

log = logging.getLogger("kopeck")


def new_notifier(broker_url: str, ca_bundle: Path | None = None) -> "Notifier":
    """Return a notifier that sends its messages to this broker."""
    celery = new_celery(broker_url, ca_bundle)
    _warm_up(celery, broker_url)
    return Notifier(lambda: _Broker(celery, broker_url).send)


def problems(broker_url: str | None) -> list[str]:
    """Ask Celery's client what it makes of a broker's address; nothing is connected to, and nothing of it repeated."""
    if broker_url is None:
        return []
    wrong = "CELERY_BROKER_URL cannot be used"
    try:
        parts = new_celery(broker_url).connection_for_read().info()
        float(parts.get("connect_timeout") or 0)
    except TypeError:
        return [f"{wrong}: it has an option behind ? that its client does not know"]
    except (ValueError, KeyError):
        return [f"{wrong}: its port, or a value behind ?, cannot be read"]
    if _scheme(broker_url) in ("redis", "rediss") and not re.fullmatch(r"/?|[0-9]{1,5}", parts["virtual_host"] or ""):
        return [f"{wrong}: behind the last / of a Redis address stands the number of a database, such as 0"]
    options = parts.get("ssl") or {}
    if not isinstance(options, dict):
        return [f"{wrong}: write rediss:// or amqps:// for TLS"]
    files = ((name, options[name]) for name in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile") if name in options)
    found = [(name, certificates.problem_with_file(Path(file))) for name, file in files]
    return [f"CELERY_BROKER_URL ({name}) {problem}" for name, problem in found if problem]


class Notifier:
    """Has jobs run soon: at most one message of each job in WAKE_SECONDS, sent by a thread of its own."""

    def __init__(self, connect: Callable[[], Send], *, retry_seconds: float = RETRY_AFTER_SECONDS) -> None:
        self._connect = connect
        self._retry_seconds = retry_seconds
        self._threads: dict[int, _NotifierThread] = {}

    def notify(self, job: Job) -> None:
        """Have a job run soon; call it after the commit, as often as you like."""
        # Threads, and locks that were held, do not survive a fork, and a connection serves one process: each has its
        # own. Two threads that come first at the same moment get the same one.
        process = os.getpid()
        thread = self._threads.get(process) or self._threads.setdefault(
            process, _NotifierThread(self._connect(), self._retry_seconds)
        )
        thread.notify(job)


def task_name(job: Job) -> str:
    """Name a job as its messages do, and its queue."""
    return f"kopeck.{job}"


def new_celery(broker_url: str, ca_bundle: Path | None = None) -> Any:
    """Return a Celery app that knows the queues, one for each job, how a message is written, and whom TLS trusts."""
    from celery import Celery  # noqa: PLC0415 - takes its time, which is spared to those who have no broker

    class OwnBroker(Celery):  # type: ignore[misc]
        """Celery without variables of its own: CELERY_BROKER_READ_URL and its like would lead elsewhere."""

        def _connection(self, _url: str, *arguments: Any, **options: Any) -> Any:
            return super()._connection(broker_url, *arguments, **options)

    names = [task_name(job) for job in Job]
    celery = OwnBroker("kopeck", broker=broker_url, set_as_current=False)
    celery.conf.update(
        accept_content=["json"],
        task_serializer="json",
        task_queues={name: {"exchange": "kopeck", "routing_key": name} for name in names},
        task_routes={name: {"queue": name} for name in names},
        task_default_queue=names[0],
        # Not worth a write to disk: what a broker forgets when it restarts is in the tables.
        task_default_delivery_mode="transient",
        enable_utc=True,
        timezone="UTC",
        broker_use_ssl=_tls_options(broker_url, ca_bundle),
    )
    return celery


def _tls_options(broker_url: str, ca_bundle: Path | None) -> dict[str, Any] | None:
    """Have the broker's certificate verified, which kombu does only in part by itself: not at all for Redis."""
    ours = ca_bundle.read_text(encoding="ascii", errors="ignore") if ca_bundle else None
    if _scheme(broker_url) == "rediss":
        return {
            "ssl_cert_reqs": ssl.CERT_REQUIRED,
            "ssl_check_hostname": True,
            "ssl_ca_certs": certifi.where(),
            "ssl_ca_data": ours,
        }
    if _scheme(broker_url) == "amqps":
        trusted = {"cafile": certifi.where(), "cadata": ours, "check_hostname": True}
        return {"context": trusted, "server_hostname": urlsplit(broker_url).hostname}
    return None


class _NotifierThread:
    """The thread of one process that sends; started by the first job that is asked for."""

    def __init__(self, send: Send, retry_seconds: float) -> None:
        self._send = send
        self._retry_seconds = retry_seconds
        self._waiting: set[Job] = set()
        self._wake = threading.Event()
        self._lock = threading.Lock()
        self._idle = threading.Event()
        self._started = False
        self._broker_answers = True

    def notify(self, job: Job) -> None:
        self._waiting.add(job)
        self._idle.clear()
        self._wake.set()
        if not self._started:
            self._start()

    def _start(self) -> None:
        # A process that gets no further thread has other worries, and goes on without this one.
        with self._lock, suppress(RuntimeError):
            if not self._started:
                threading.Thread(target=self._run, name="notifier", daemon=True).start()
                self._started = True
                # A command of the shell ends right after its commit.
                atexit.register(self._flush)

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            for job in Job:
                if job in self._waiting:
                    # Taken out before it is sent: what is asked for meanwhile gets a message of its own.
                    self._waiting.discard(job)
                    self._try(job)
            if not self._waiting:
                self._idle.set()
            time.sleep(WAKE_SECONDS)

    def _flush(self) -> None:
        """Wait for what is being sent, unless the broker was away the last time."""
        if self._broker_answers:
            self._idle.wait(BROKER_SECONDS)

    def _try(self, job: Job) -> None:
        try:
            self._send(job)
            self._broker_answers = True
        except Exception as error:
            if self._broker_answers:
                # Not its message, which may quote the address and with it the password.
                reason = " from ".join(type(each).__name__ for each in (error, error.__cause__) if each is not None)
                log.warning(
                    "broker not available (%s): workers are not woken, and find their work by the clock", reason
                )
            self._broker_answers = False
            # Nobody waits for a broker that is away.
            self._idle.set()
            time.sleep(self._retry_seconds)


class _Broker:
    """The connection to the broker, opened when the first message is sent; used by one thread of a process."""

    def __init__(self, celery: Any, broker_url: str) -> None:
        self._celery = celery
        self._broker_url = broker_url
        self._producer: Any = None

    def send(self, job: Job) -> None:
        """Send one message, or raise what stands in the way."""
        was_open = self._producer is not None
        try:
            self._publish(job)
        except Exception:
            self._close()
            if not was_open:
                raise
            # One that stood idle may have ended without a word; whether the broker is there a new one tells.
            self._publish(job)

    def _publish(self, job: Job) -> None:
        if self._producer is None:
            self._producer = self._connect()
        self._celery.send_task(
            task_name(job),
            producer=self._producer,
            retry=False,
            timeout=BROKER_SECONDS,
            confirm_timeout=BROKER_SECONDS,
            **MESSAGE,
        )

    def _connect(self) -> Any:
        connection = self._celery.connection_for_write(
            self._broker_url,
            connect_timeout=BROKER_SECONDS,
            transport_options=_transport_options(self._broker_url),
        )
        # Connected here: left to the producer, it would be tried for ever.
        connection.ensure_connection(max_retries=1, interval_start=0)
        return self._celery.amqp.Producer(connection, auto_declare=False)

    def _close(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            with suppress(Exception):
                producer.connection.collect(BROKER_SECONDS)


def _warm_up(celery: Any, broker_url: str) -> None:
    """Import what sending needs while nobody waits: later, greenlets would all stand still for it."""
    from kombu.transport import get_transport_cls  # noqa: PLC0415

    get_transport_cls(_scheme(broker_url))
    # Celery makes each of these when it is asked for.
    for name in ("amqp.router", "amqp.send_task_message", "Task", "AsyncResult"):
        attrgetter(name)(celery)


def _scheme(broker_url: str) -> str:
    return broker_url.partition("://")[0]


def _transport_options(broker_url: str) -> dict[str, Any]:
    if _scheme(broker_url).startswith("amqp"):
        # A broker that takes no more, or is gone, is noticed by its silence.
        return {"confirm_publish": True, "read_timeout": BROKER_SECONDS, "write_timeout": BROKER_SECONDS}
    return {"socket_timeout": BROKER_SECONDS, "socket_connect_timeout": BROKER_SECONDS}

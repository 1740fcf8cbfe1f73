"""The bell with which a door wakes Celery's workers after a commit, and what such a message looks like.

Rung through the context, heard by tasks.py. Never fails, never keeps its caller waiting, and never says what there is
to do: that is in the tables, where beat's next tick finds it too if a message is lost.
"""

import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from operator import attrgetter
from typing import Any, Literal, get_args

from limits import BROKER_SECONDS, RETRY_AFTER_SECONDS, WAKE_EXPIRY_SECONDS, WAKE_SECONDS

Job = Literal["deliver", "credit", "replay"]
JOBS: tuple[Job, ...] = get_args(Job)

MESSAGE: dict[str, Any] = {"expires": WAKE_EXPIRY_SECONDS, "expiration": WAKE_EXPIRY_SECONDS, "ignore_result": True}
"""What all messages have in common: a worker passes over one that is old (`expires`), RabbitMQ forgets it itself."""

log = logging.getLogger("kopeck")


class Bell:
    """Wakes workers; without a broker it is silent, and Celery is not even imported."""

    def __init__(self, broker_url: str | None) -> None:
        self._send = _Line(broker_url).send if broker_url else None
        self._ringers: dict[int, _Ringer] = {}

    def ring(self, job: Job) -> None:
        """Have a job run soon; call it after the commit, as often as you like."""
        if self._send is None:
            return
        # Threads, and locks that were held, do not survive a fork: each process has its own. Two threads that come
        # first at the same moment get the same one.
        process = os.getpid()
        ringer = self._ringers.get(process) or self._ringers.setdefault(process, _Ringer(self._send))
        ringer.ring(job)


def task_name(job: Job) -> str:
    """Name a job as its messages do, and its queue."""
    return f"kopeck.{job}"


def new_celery(broker_url: str) -> Any:
    """Return a Celery app that knows the queues, one for each job, and how a message is written."""
    from celery import Celery  # noqa: PLC0415 - takes its time, which is spared to those who have no broker

    names = [task_name(job) for job in JOBS]
    celery = Celery("kopeck", broker=broker_url, set_as_current=False)
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
    )
    return celery


class _Ringer:
    """The thread of one process that sends what was rung: at most one message of each job in WAKE_SECONDS."""

    def __init__(self, send: Callable[[Job], None]) -> None:
        self._send = send
        self._rung: set[Job] = set()
        self._stirred = threading.Event()
        self._lock = threading.Lock()
        self._started = False
        self._well = True

    def ring(self, job: Job) -> None:
        self._rung.add(job)
        self._stirred.set()
        if not self._started:
            self._start()

    def _start(self) -> None:
        # A process that gets no further thread has other worries, and goes on without this one.
        with self._lock, suppress(RuntimeError):
            if not self._started:
                threading.Thread(target=self._run, name="bell", daemon=True).start()
                self._started = True

    def _run(self) -> None:
        while True:
            self._stirred.wait()
            self._stirred.clear()
            for job in JOBS:
                if job in self._rung:
                    # Taken down before it is sent: what is rung meanwhile gets a message of its own.
                    self._rung.discard(job)
                    self._try(job)
            time.sleep(WAKE_SECONDS)

    def _try(self, job: Job) -> None:
        try:
            self._send(job)
            self._well = True
        except Exception as error:
            if self._well:
                # Not its message, which may quote the address and with it the password.
                reason = " from ".join(type(each).__name__ for each in (error, error.__cause__) if each is not None)
                log.warning(
                    "broker not available (%s): workers are not woken, and find their work by the clock", reason
                )
            self._well = False
            time.sleep(RETRY_AFTER_SECONDS)


class _Line:
    """The way to the broker, opened when the first message is sent; used by one thread of a process."""

    def __init__(self, broker_url: str) -> None:
        self._broker_url = broker_url
        self._celery = new_celery(broker_url)
        self._producer: Any = None
        self._warm_up()

    def send(self, job: Job) -> None:
        """Send one message, or raise what stands in the way."""
        was_open = self._producer is not None
        try:
            self._publish(job)
        except Exception:
            self._hang_up()
            if not was_open:
                raise
            # One that stood idle may have ended without a word; whether the broker is there a new one tells.
            self._publish(job)

    def _publish(self, job: Job) -> None:
        if self._producer is None:
            self._producer = self._dial()
        self._celery.send_task(
            task_name(job),
            producer=self._producer,
            retry=False,
            timeout=BROKER_SECONDS,
            confirm_timeout=BROKER_SECONDS,
            **MESSAGE,
        )

    def _dial(self) -> Any:
        connection = self._celery.connection_for_write(
            self._broker_url,
            connect_timeout=BROKER_SECONDS,
            transport_options=_transport_options(self._broker_url),
        )
        # Connected here: left to the producer, it would be tried for ever.
        connection.ensure_connection(max_retries=1, interval_start=0)
        return self._celery.amqp.Producer(connection, auto_declare=False)

    def _hang_up(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            with suppress(Exception):
                producer.connection.collect(BROKER_SECONDS)

    def _warm_up(self) -> None:
        """Import what sending needs while nobody waits: later, greenlets would all stand still for it."""
        from kombu.transport import get_transport_cls  # noqa: PLC0415

        get_transport_cls(_scheme(self._broker_url))
        # Celery makes each of these when it is asked for.
        for name in ("amqp.router", "amqp.send_task_message", "Task", "AsyncResult"):
            attrgetter(name)(self._celery)


def _scheme(broker_url: str) -> str:
    return broker_url.partition("://")[0]


def _transport_options(broker_url: str) -> dict[str, Any]:
    if _scheme(broker_url).startswith("amqp"):
        # A broker that takes no more, or is gone, is noticed by its silence.
        return {"confirm_publish": True, "read_timeout": BROKER_SECONDS, "write_timeout": BROKER_SECONDS}
    return {"socket_timeout": BROKER_SECONDS, "socket_connect_timeout": BROKER_SECONDS}

"""What a Celery worker takes from the broker: the name of a job and how old its message may be, and nothing else.

Loaded by worker.tasks. Whoever can write to the broker can have a job run once more, which does no harm; nothing that
is written there can end a worker, reach Celery's other tasks, or get into a log.
"""

import logging
import uuid
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any

from celery.worker import consumer
from kombu import transport
from kombu.transport import TRANSPORT_ALIASES, redis
from redis import DataError

from enums import Job
from worker.broker import task_name

TASKS = frozenset(map(task_name, Job))
BODY = '[[], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]'
HEADERS = {"eta": None, "retries": 0, "timelimit": [None, None], "ignore_result": True}

UNREADABLE = (ValueError, TypeError, LookupError, AttributeError, RecursionError, DataError)
"""What kombu, Celery and redis-py raise for a message that another program, or somebody on purpose, has written."""

log = logging.getLogger("kopeck")


def install() -> None:
    """Have kombu read Redis by the transport of this module."""
    for scheme in ("redis", "rediss"):
        TRANSPORT_ALIASES[scheme] = f"{__name__}:RedisTransport"
        # kombu remembers what it has resolved; whoever looked at the broker's address before would decide for us.
        transport._transport_cache.pop(scheme, None)


class Consumer(consumer.Consumer):  # type: ignore[misc]
    """Celery's consumer, which reads wake-ups only, and neither asks other workers nor listens to them."""

    class Blueprint(consumer.Consumer.Blueprint):  # type: ignore[misc]
        """The parts of a consumer, without those that read other messages: mingle, gossip, remote control."""

        default_steps = tuple(
            step
            for step in consumer.Consumer.Blueprint.default_steps
            if step.rpartition(":")[2] not in ("Mingle", "Gossip", "Control", "Agent")
        )

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], None]:
        """Return what is called with each message."""
        return partial(_take, super().create_task_handler(*args, **kwargs))

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """Pass over a message that cannot be unpacked; Celery would write it into the log."""
        _pass_over(message)


def _take(handle: Callable[[Any], None], message: Any) -> None:
    try:
        is_ours = _reduce(message)
    except UNREADABLE:
        is_ours = False
    if is_ours:
        handle(message)
    else:
        _pass_over(message)


def _pass_over(message: Any) -> None:
    log.warning("a message of the broker was passed over: it is not one of Kopeck's")
    message.reject_log_error(log, ())


def _reduce(message: Any) -> bool:
    """Leave of a message its task and its expiry; return whether it names a job of ours."""
    name, expires = message.headers["task"], message.headers["expires"]
    if name not in TASKS or datetime.fromisoformat(expires).tzinfo is None:
        return False
    number = str(uuid.uuid4())
    message.headers = {**HEADERS, "task": name, "id": number, "root_id": number, "expires": expires}
    message.body, message.content_type, message.content_encoding = BODY, "application/json", "utf-8"
    return True


class _Channel(redis.Channel):
    """kombu's channel, which passes over what is no message; it has taken it out of the queue by then."""

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[no-untyped-call]
        except UNREADABLE:
            log.warning("an entry of a queue was passed over: it is no message")
            return True


class RedisTransport(redis.Transport):
    """kombu's transport with a channel of ours."""

    Channel = _Channel

"""The brokers that tests run on: found, given a place of the test's own, emptied afterwards.

Redis and RabbitMQ are looked for on this machine, or where TEST_REDIS_URL and TEST_RABBITMQ_URL say.
"""

import os
import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import amqp
import pytest
import redis
from kombu import Connection
from sqlalchemy import URL, make_url

from enums import Job
from worker.broker import task_name

CANDIDATES = {
    "redis": os.environ.get("TEST_REDIS_URL", "redis://127.0.0.1:6379/0"),
    "rabbitmq": os.environ.get("TEST_RABBITMQ_URL", "amqp://guest:guest@127.0.0.1:5672//"),
}
MARK = "kopeck-test"


def _text(url: URL) -> str:
    return url.render_as_string(hide_password=False)


def _ask_redis(url: URL) -> str:
    with redis.Redis.from_url(_text(url), socket_connect_timeout=3) as client:
        return str(client.info()["redis_version"])


def _ask_rabbitmq(url: URL) -> str:
    with amqp.Connection(
        f"{url.host}:{url.port}", url.username, url.password, virtual_host="/", connect_timeout=3
    ) as link:
        return str(link.server_properties["version"])


def _version(family: str) -> str | None:
    ask: Callable[[URL], str] = _ask_redis if family == "redis" else _ask_rabbitmq
    try:
        return ask(make_url(CANDIDATES[family]))
    except (OSError, redis.RedisError, amqp.AMQPError):
        return None


VERSIONS = {family: version for family in CANDIDATES if (version := _version(family)) is not None}
MISSING = tuple(family for family in CANDIDATES if family not in VERSIONS)


@contextmanager
def place_on(family: str) -> Iterator[URL]:
    """Give the address of a place on a broker that no other run of the tests uses."""
    if family in MISSING:
        pytest.skip(f"no {family} answers: Celery was not tried on it")
    with (_database_of_redis if family == "redis" else _vhost_of_rabbitmq)() as url:
        yield url


@contextmanager
def _database_of_redis() -> Iterator[URL]:
    url = make_url(CANDIDATES["redis"])
    for number in range(15, 0, -1):
        mine = url.set(database=str(number))
        with redis.Redis.from_url(_text(mine)) as client:
            if not client.set(MARK, os.getpid(), nx=True, ex=900):
                continue
            if client.dbsize() > 1:
                client.delete(MARK)
                continue
            try:
                yield mine
            finally:
                client.flushdb()
            return
    pytest.skip("every database of this Redis is in use: Celery was not tried on it")


@contextmanager
def _vhost_of_rabbitmq() -> Iterator[URL]:
    url = make_url(CANDIDATES["rabbitmq"])
    name = f"kopeck_test_{os.getpid()}_{secrets.token_hex(3)}"
    if not _control("add_vhost", name):
        # Who may make none has to do with the one that is there.
        _purge(url)
        try:
            yield url
        finally:
            _purge(url)
        return
    _control("set_permissions", "-p", name, str(url.username), ".*", ".*", ".*")
    try:
        yield url.set(database=name)
    finally:
        _control("delete_vhost", name)


def _control(*arguments: str) -> bool:
    command = shutil.which("rabbitmqctl")
    if command is None:
        return False
    return subprocess.run([command, "-q", *arguments], capture_output=True, check=False).returncode == 0


def _purge(url: URL) -> None:
    with Connection(_text(url)) as connection:
        for job in Job:
            queue = connection.SimpleQueue(task_name(job))
            queue.clear()
            queue.close()

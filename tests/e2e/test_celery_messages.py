"""Messages that Kopeck never wrote: a Celery worker passes over them, and goes on with its work."""

import base64
import json
import pickle
import re
import uuid
from collections.abc import Iterator

import amqp
import pytest
import redis
from celery import Celery
from kombu import Connection
from sqlalchemy import make_url

from enums import Job
from tests import brokers
from tests.e2e.test_celery import Deployment, delivered
from tests.receivers import Receiver
from tests.waiting import wait_until
from worker import broker

JSON = "application/json"
CALL = json.dumps([[], {}, {}]).encode()
HEADERS = {
    "task": "kopeck.deliver",
    "id": "2f1c4b9e-4f0c-4b57-9d3b-6f6f0d1f6f11",
    "retries": 0,
    "eta": None,
    "expires": "2099-01-01T00:00:00+00:00",
    "timelimit": [None, None],
}


def changed(**headers: object) -> tuple[bytes, str, str, dict[str, object]]:
    return CALL, JSON, "utf-8", {**HEADERS, **headers}


def without(*names: str) -> tuple[bytes, str, str, dict[str, object]]:
    return CALL, JSON, "utf-8", {name: value for name, value in HEADERS.items() if name not in names}


def bodied(body: bytes) -> tuple[bytes, str, str, dict[str, object]]:
    return body, JSON, "utf-8", HEADERS


def older(**members: object) -> tuple[bytes, str, str, dict[str, object]]:
    """Write a message as Celery did before version 4: all in the body."""
    return (
        json.dumps({"task": "kopeck.deliver", "id": "a", "args": [], "kwargs": {}, **members}).encode(),
        JSON,
        "utf-8",
        {},
    )


ALIENS = {
    "unknown content type": (b"x", "application/x-alien", "utf-8", HEADERS),
    "no content type": (b"x", None, None, HEADERS),
    "pickled": (pickle.dumps([[], {}, {}]), "application/x-python-serialize", "binary", HEADERS),
    "unknown encoding": (CALL, JSON, "alien-8", HEADERS),
    "no headers": (b"{}", JSON, "utf-8", {}),
    "not JSON": bodied(b"{"),
    "not UTF-8": bodied(b"\xff\xfe"),
    "a number": bodied(b"5"),
    "null": bodied(b"null"),
    "a text": bodied(b'"x"'),
    "an empty list": bodied(b"[]"),
    "nested": bodied(b"[" * 200_000),
    "arguments": bodied(json.dumps([[1, 2], {"a": 1}, {}]).encode()),
    "numbers for arguments": bodied(b"[5, 5, 5]"),
    "callbacks": bodied(json.dumps([[], {}, {"callbacks": 5, "chain": "x", "chord": [1]}]).encode()),
    "huge": bodied(json.dumps([["x" * 2_000_000], {}, {}]).encode()),
    "unknown task": changed(task="os.system"),
    "task of Celery's own": changed(task="celery.chord_unlock"),
    "task is a number": changed(task=5),
    "task is a list": changed(task=["kopeck.deliver"]),
    "no task": without("task"),
    "no id": without("id"),
    "no expiry": without("expires"),
    "no time limit": without("timelimit", "retries", "eta"),
    "id is a list": changed(id=["x"]),
    "far eta": changed(eta="9999-12-31T23:59:59+00:00"),
    "eta is no time": changed(eta="x"),
    "expiry is no time": changed(expires="x"),
    "expiry is a list": changed(expires=[1]),
    "expiry without a zone": changed(expires="2099-01-01T00:00:00"),
    "time limit is a text": changed(timelimit="x"),
    "time limit is negative": changed(timelimit=[-5, "a"]),
    "time limit is tiny": changed(timelimit=[0.001, 0.001]),
    "retries is a text": changed(retries="x"),
    "stamps": changed(stamped_headers=5, stamps="x"),
    "numbers for names": changed(group=5, root_id=5, parent_id={}, lang=5, argsrepr=5, origin=5, reply_to=5),
    "compressed and is not": changed(compression="application/x-gzip"),
    "compressed by nobody knows what": changed(compression="alien"),
    "older form": older(),
    "older form, wrong types": older(task=["x"], id={}, args=5, kwargs=[]),
    "older form, eta": older(eta="x"),
}


def entry(body: bytes, content_type: str | None, encoding: str | None, headers: object, **properties: object) -> bytes:
    """Write a message as kombu keeps it in Redis."""
    place = {"exchange": "kopeck", "routing_key": "kopeck.deliver"}
    return json.dumps(
        {
            "body": base64.b64encode(body).decode(),
            "content-encoding": encoding,
            "content-type": content_type,
            "headers": headers,
            "properties": {
                "delivery_tag": str(uuid.uuid4()),
                "delivery_info": place,
                "body_encoding": "base64",
                "delivery_mode": 1,
                "priority": 0,
                **properties,
            },
        }
    ).encode()


GOOD = (CALL, JSON, "utf-8", HEADERS)
ENTRIES = [
    *(
        b"garbage",
        b"\xff\xfe",
        b"{}",
        b"[]",
        b"null",
        b"5",
        b'"x"',
        b'{"body": "x"}',
        b"[" * 200_000,
        b"x" * 2_000_000,
    ),
    *(entry(*GOOD, delivery_tag=None), entry(*GOOD, delivery_tag=[1]), entry(*GOOD, body_encoding="alien")),
    *(entry(*GOOD, delivery_info=5), entry(*GOOD, delivery_info={}), entry(*GOOD, priority="x")),
    *(entry(CALL, JSON, "utf-8", None), entry(CALL, JSON, "utf-8", 5), entry(CALL, 5, "utf-8", HEADERS)),
    *(
        json.dumps({**json.loads(entry(*GOOD)), **other}).encode()
        for other in ({"body": 5}, {"body": "%%"}, {"properties": None})
    ),
]


TAKEN = re.compile(r"was passed over|Task kopeck\.deliver\[[0-9a-f-]+\] received")
"""What a worker says of each message, once."""


@pytest.fixture(scope="module", params=brokers.CANDIDATES)
def deployment(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with Deployment(tmp_path_factory.mktemp("aliens"), request.param) as deployment:
        yield deployment


def write(address: str, message: tuple[bytes, str | None, str | None, object]) -> None:
    if address.startswith("redis"):
        with redis.Redis.from_url(address) as client:
            client.lpush("kopeck.deliver", entry(*message))
        return
    body, content_type, encoding, headers = message
    properties = {"content_type": content_type, "content_encoding": encoding, "application_headers": headers}
    known = {name: value for name, value in properties.items() if value is not None}
    with Connection(address) as connection, connection.channel() as channel:
        channel.basic_publish(amqp.Message(body, **known), exchange="kopeck", routing_key="kopeck.deliver")


def test_no_message_ends_a_worker_or_gets_into_its_log(deployment):
    # Directly, without the proxy: much is sent.
    own = make_url(brokers.CANDIDATES[deployment.broker])
    address = make_url(deployment.settings["CELERY_BROKER_URL"]).set(port=own.port)
    address = address.render_as_string(hide_password=False)
    entries = ENTRIES if address.startswith("redis") else []
    for message in ALIENS.values():
        write(address, message)
    for raw in entries:
        with redis.Redis.from_url(address) as client:
            client.lpush("kopeck.deliver", raw)
    other = Celery(broker=address)
    other.control.broadcast("shutdown")
    other.control.broadcast("pool_shrink", arguments={"n": 99})
    other.close()
    with Receiver() as receiver:
        deployment.endpoint(receiver)
        deployment.credit_unseen()
        broker.new_notifier(address).notify(Job.DELIVER)
        read = deployment.worker.log.read_text
        wait_until(lambda: len(TAKEN.findall(read())) == len(ALIENS) + len(entries) + 1, read)
        wait_until(lambda: delivered(deployment) == 1, read)

    assert deployment.worker.popen.poll() is None
    assert read().count("was passed over") >= 10
    unwanted = ("Traceback", "Unrecoverable", "broker lost", "alien", "os.system", "shutdown")
    assert [word for word in unwanted if word in read()] == []

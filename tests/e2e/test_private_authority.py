"""Certificates of a private authority: receivers of events, and brokers, with the real programs and with real TLS."""

import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from ipaddress import IPv6Address
from pathlib import Path

import pytest
import redis
from flask import Flask
from kombu.exceptions import OperationalError

from context import cipher, now, settings
from database.extension import db
from enums import Job, Scheme
from http_client.networks import Networks
from outbox import endpoints
from tests import brokers
from tests.callers import Bank
from tests.receivers import Receiver
from tests.unit.http_client.authority import Authority
from tests.waiting import wait_until
from worker import broker, jobs

IPV6 = Path("/proc/net/if_inet6")
PASSWORD = "test-password"


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def bundle(authority, tmp_path) -> Path:
    file = tmp_path / "company.pem"
    file.write_bytes(authority.pem())
    return file


# ---- Receivers


def delivered(app: Flask, url: str) -> list[tuple[str, int | None, str | None]]:
    """Announce a payment to an address, by the whole way of a delivery; return status, answer and error."""
    with app.app_context():
        endpoints.create(
            cipher(),
            url=url,
            scheme=Scheme.STANDARD,
            organization=None,
            event_types="*",
            ordered=False,
            description="",
            loopback_allowed=True,
            https_only=False,
            networks=settings().endpoint_networks,
            now=now(),
        )
        Bank(app.test_client()).send()
        jobs.deliver()
        query = (
            "SELECT d.status, a.status_code, a.error FROM deliveries d JOIN delivery_attempts a ON a.delivery_id = d.id"
        )
        return [tuple(row) for row in db.session.execute(db.text(query))]


@pytest.fixture
def secure_receiver(authority, tmp_path) -> Iterator[Receiver]:
    with Receiver(tls=authority.context_for("localhost", tmp_path)) as receiver:
        yield receiver


def test_receiver_with_a_certificate_of_the_company_gets_the_event(make_app, secure_receiver, bundle):
    app = make_app(ENDPOINTS_ON_LOOPBACK="allow", CA_BUNDLE=str(bundle))

    assert delivered(app, secure_receiver.url_for("localhost")) == [("delivered", 200, None)]
    assert len(secure_receiver.received) == 1


def test_receiver_with_a_certificate_of_nobody_gets_nothing(make_app, secure_receiver):
    app = make_app(ENDPOINTS_ON_LOOPBACK="allow")
    ((status, answer, error),) = delivered(app, secure_receiver.url_for("localhost"))

    assert (status, answer) == ("pending", None)
    assert "issuer" in error
    assert secure_receiver.received == []


def test_company_s_certificate_for_another_host_is_refused(make_app, secure_receiver, bundle):
    app = make_app(ENDPOINTS_ON_LOOPBACK="allow", CA_BUNDLE=str(bundle))
    ((status, answer, _),) = delivered(app, secure_receiver.url_for("127.0.0.1"))

    assert (status, answer) == ("pending", None)
    assert secure_receiver.received == []


def test_receiver_in_a_listed_network_gets_the_event_and_others_do_not(make_app, own_address):
    with Receiver(host=own_address) as receiver:
        # An address of this machine, which is reached in development alone.
        listed = make_app(ENDPOINTS_NETWORKS=own_address, ENDPOINTS_ON_LOOPBACK="allow")
        assert delivered(listed, receiver.url) == [("delivered", 200, None)]
    assert len(receiver.received) == 1


def test_own_address_in_a_listed_network_gets_nothing(make_app, own_address):
    with Receiver(host=own_address) as receiver:
        ((status, answered, problem),) = delivered(make_app(ENDPOINTS_NETWORKS=own_address), receiver.url)

    assert (status, answered, "that ENDPOINTS_NETWORKS (in" in problem) == ("pending", None, True)
    assert receiver.received == []


@pytest.fixture
def own_address() -> str:
    """Return an address of this machine in a private network."""
    found = [line.split()[0] for line in IPV6.read_text().splitlines()] if IPV6.exists() else []
    private = [str(IPv6Address(bytes.fromhex(digits))) for digits in found]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, suppress(OSError):
        probe.connect(("10.255.255.255", 1))
        private.append(probe.getsockname()[0])
    private = [
        address
        for address in private
        if Networks.from_text("10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,fc00::/7").lists(address)
    ]
    if not private:
        pytest.skip("this machine has no address in a private network: none was tried")
    return private[0]


# ---- Brokers


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture
def secure_redis(authority, tmp_path) -> Iterator[int]:
    """Run a Redis of the test's own that speaks TLS only, with a certificate for localhost; give its port."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not here: TLS to Redis was not tried")
    authority.context_for("localhost", tmp_path)
    port, file = free_port(), str(tmp_path / "server.pem")
    options = ["--port", "0", "--tls-port", str(port), "--tls-cert-file", file, "--tls-key-file", file]
    options += ["--tls-auth-clients", "no", "--save", "", "--dir", str(tmp_path), "--requirepass", PASSWORD]
    server = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL)
    wait_until(lambda: is_open(port), "Redis listens")
    yield port
    server.terminate()
    server.wait()


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def secure_rabbitmq(authority, tmp_path) -> Iterator[str]:
    """Put TLS in front of the RabbitMQ that is here, with a certificate for localhost; give its address."""
    with (
        brokers.place_on("rabbitmq") as url,
        closing(Terminator(authority.context_for("localhost", tmp_path), url.port)) as front,
    ):
        yield url.set(drivername="amqps", host="localhost", port=front.port).render_as_string(hide_password=False)


class Terminator:
    """Speaks TLS to clients, and plainly to a port of this machine."""

    def __init__(self, context: ssl.SSLContext, port: int) -> None:
        self._context = context
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with (
            suppress(OSError),
            self._context.wrap_socket(client, server_side=True) as inside,
            socket.create_connection(("127.0.0.1", self._target)) as outside,
        ):
            threading.Thread(target=_copy, args=(outside, inside), daemon=True).start()
            _copy(inside, outside)


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)


def sends(address: str, bundle: Path | None) -> bool:
    """Return whether a broker is believed, as a server's process connects to it."""
    celery = broker.new_celery(address, bundle)
    try:
        with celery.connection_for_write(connect_timeout=5) as connection:
            connection.ensure_connection(max_retries=1, interval_start=0)
    except OperationalError as refusal:
        return "certificate" not in str(refusal).lower()
    return True


def test_redis_is_believed_by_its_certificate_alone(secure_redis, bundle):
    address = f"rediss://:{PASSWORD}@localhost:{secure_redis}/0"

    assert not sends(address, None)
    assert not sends(address.replace("localhost", "127.0.0.1"), bundle)
    assert sends(address, bundle)
    trusted = {"ssl_ca_certs": str(bundle), "password": PASSWORD}
    with redis.Redis(host="localhost", port=secure_redis, ssl=True, **trusted) as client:
        broker.new_notifier(address, bundle).notify(Job.DELIVER)
        wait_until(lambda: client.llen("kopeck.deliver") == 1, "the message arrives")


def test_rabbitmq_is_believed_by_its_certificate_alone(secure_rabbitmq, bundle):
    assert not sends(secure_rabbitmq, None)
    assert not sends(secure_rabbitmq.replace("localhost", "127.0.0.1"), bundle)
    assert sends(secure_rabbitmq, bundle)

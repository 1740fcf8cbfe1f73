"""Whatever befalls server or database: what was acknowledged is counted once, anything else at most once."""

import os
import signal
import time
from contextlib import suppress

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

from tests.faults.deployment import FAMILIES, ROUNDS, SOME, Deployment
from tests.faults.proxy import CAN_FORGET, Proxy
from tests.faults.slow import idle, slow_bodies, slow_headers

REFUSING_SECONDS = 10 if ROUNDS > 1 else 5
SILENT_SECONDS = 10 if ROUNDS > 1 else 6
"""Longer than it may take to connect."""

long_run = pytest.mark.skipif(ROUNDS == 1, reason="takes long: only in make faults ROUNDS=2 or more")


def only(*families: str) -> pytest.MarkDecorator:
    """Try a fault on those of these families that are here."""
    return pytest.mark.parametrize("deployment", [name for name in FAMILIES if name in families], indirect=True)


def test_killed_worker_loses_nothing_and_doubles_nothing(deployment):
    for _ in deployment.rounds():
        with deployment.load() as bank:
            for worker in deployment.server.workers():
                os.kill(worker, signal.SIGKILL)
                bank.wait_for("acknowledged", 20)


def test_killed_master_loses_nothing_and_doubles_nothing(deployment):
    for _ in deployment.rounds():
        with deployment.load():
            deployment.server.kill_master()
            deployment.server.start()


def test_killed_server_loses_nothing_and_doubles_nothing(deployment):
    for _ in deployment.rounds():
        with deployment.load():
            deployment.server.kill_all()
            deployment.server.start()


def test_server_that_is_told_to_end_tells_no_lie_to_whom_it_let_in(deployment):
    for _ in deployment.rounds():
        with deployment.load():
            deployment.server.terminate()
            deployment.check_tables()
            deployment.server.start()


@only("postgresql")
def test_postgresql_stopped_at_once_loses_nothing_and_doubles_nothing(deployment):
    for _ in deployment.rounds():
        with deployment.load() as bank:
            deployment.cluster.stop("immediate")
            bank.wait_for("refusals", 20)
            deployment.cluster.start()


@only("mariadb")
def test_killed_mariadb_loses_nothing_and_doubles_nothing(deployment):
    for _ in deployment.rounds():
        with deployment.load() as bank:
            deployment.cluster.kill()
            bank.wait_for("refusals", 20)
            deployment.cluster.start()


@only("postgresql", "mariadb")
def test_connections_cut_by_the_database_lose_nothing_and_double_nothing(deployment):
    for _ in deployment.rounds():
        # Whom the server had not answered yet it may try again for, so that the bank hears nothing of it.
        with deployment.load(noticed=None) as bank:
            for _ in range(5):
                assert cut_connections(deployment) > 0
                bank.wait_for("acknowledged", 20)


def cut_connections(deployment: Deployment) -> int:
    """Have the database end every connection but the one that says so; return how many that were."""
    engine = create_engine(deployment.url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        if deployment.family == "postgresql":
            others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            cut = connection.scalars(text(f"SELECT pg_terminate_backend(pid) {others}")).all()
        else:
            query = "SELECT id FROM information_schema.processlist WHERE db = database() AND id <> connection_id()"
            cut = connection.scalars(text(query)).all()
            for id_ in cut:
                # It may have ended by itself meanwhile.
                with suppress(OperationalError):
                    connection.exec_driver_sql(f"KILL CONNECTION {id_}")
    engine.dispose()
    return len(cut)


@only("postgresql", "mariadb")
def test_unreachable_database_is_a_503_until_it_is_back_and_the_server_stays_alive(deployment):
    for _ in deployment.rounds(every=10):
        with Proxy(deployment.cluster.port) as proxy, deployment.reached_by(proxy.port), deployment.load() as bank:
            proxy.bar()
            for _ in range(REFUSING_SECONDS):
                assert (deployment.server.status("/healthz"), deployment.server.status("/readyz")) == (200, 503)
                time.sleep(1)
            bank.wait_for("refusals", 1)
            proxy.open()
            bank.wait_for("acknowledged", SOME)
            proxy.freeze()
            for _ in range(SILENT_SECONDS):
                assert deployment.server.status("/healthz") == 200
                time.sleep(1)
            proxy.thaw()
            bank.wait_for("acknowledged", SOME)
            proxy.freeze()
            proxy.cut()
            proxy.thaw()


@long_run
@pytest.mark.skipif(not CAN_FORGET, reason="only root can lose a connection without a word")
@only("postgresql", "mariadb")
def test_connections_that_fell_silent_give_back_what_they_had_locked(deployment):
    """Neither side hears of it, as when a firewall forgets a connection: each must end it by itself."""
    for _ in deployment.rounds(every=40):
        with Proxy(deployment.cluster.port) as proxy, deployment.reached_by(proxy.port), deployment.load(noticed=None):
            proxy.freeze()
            # Until the last byte is acknowledged: one sent again would find out at once.
            time.sleep(1)
            proxy.forget()
            proxy.thaw()


def test_full_disk_is_a_503_until_there_is_space(small_disk):
    deployment = small_disk
    for _ in deployment.rounds():
        with deployment.load() as bank:
            deployment.disk.fill()
            bank.wait_for("refusals", 50)
            assert deployment.server.status("/healthz") == 200
            deployment.server.kill_all()
            deployment.server.start()
            bank.wait_for("refusals", 50)
            deployment.disk.free()


def test_slow_clients_keep_nobody_else_waiting(deployment):
    for _ in deployment.rounds():
        port = deployment.server.port
        with deployment.load(noticed=False) as bank, slow_headers(port), slow_bodies(port), idle(port):
            bank.wait_for("acknowledged", 3 * SOME)


@long_run
@only("sqlite")
def test_slow_clients_do_not_keep_the_server_from_ending(deployment):
    for _ in deployment.rounds(every=10):
        port = deployment.server.port
        with deployment.load():
            with slow_headers(port), slow_bodies(port), idle(port):
                deployment.server.terminate()
            deployment.server.start()

"""Whatever befalls server or database: what was acknowledged is counted once, anything else at most once."""

import os
import signal
import time
from contextlib import suppress

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

from tests.faults.proxy import CAN_FORGET, Proxy
from tests.faults.slow import idle, slow_bodies, slow_headers
from tests.faults.stage import FAMILIES, ROUNDS, SOME, Stage

REFUSING_SECONDS = 10 if ROUNDS > 1 else 5
SILENT_SECONDS = 10 if ROUNDS > 1 else 6
"""Longer than it may take to connect."""

long_run = pytest.mark.skipif(ROUNDS == 1, reason="takes long: only in make faults ROUNDS=2 or more")


def only(*families: str) -> pytest.MarkDecorator:
    """Play a fault on those of these families that are here."""
    return pytest.mark.parametrize("stage", [name for name in FAMILIES if name in families], indirect=True)


def test_killed_worker_loses_nothing_and_doubles_nothing(stage):
    for _ in stage.rounds():
        with stage.load() as bank:
            for worker in stage.server.workers():
                os.kill(worker, signal.SIGKILL)
                bank.wait_for("acknowledged", 20)


def test_killed_master_loses_nothing_and_doubles_nothing(stage):
    for _ in stage.rounds():
        with stage.load():
            stage.server.kill_master()
            stage.server.start()


def test_killed_server_loses_nothing_and_doubles_nothing(stage):
    for _ in stage.rounds():
        with stage.load():
            stage.server.kill_all()
            stage.server.start()


def test_server_that_is_told_to_end_tells_no_lie_to_whom_it_let_in(stage):
    for _ in stage.rounds():
        with stage.load():
            stage.server.terminate()
            stage.check_tables()
            stage.server.start()


@only("postgresql")
def test_postgresql_stopped_at_once_loses_nothing_and_doubles_nothing(stage):
    for _ in stage.rounds():
        with stage.load() as bank:
            stage.cluster.stop("immediate")
            bank.wait_for("refusals", 20)
            stage.cluster.start()


@only("mariadb")
def test_killed_mariadb_loses_nothing_and_doubles_nothing(stage):
    for _ in stage.rounds():
        with stage.load() as bank:
            stage.cluster.kill()
            bank.wait_for("refusals", 20)
            stage.cluster.start()


@only("postgresql", "mariadb")
def test_connections_cut_by_the_database_lose_nothing_and_double_nothing(stage):
    for _ in stage.rounds():
        # Whom the server had not answered yet it may try again for, so that the bank hears nothing of it.
        with stage.load(noticed=None) as bank:
            for _ in range(5):
                assert cut_connections(stage) > 0
                bank.wait_for("acknowledged", 20)


def cut_connections(stage: Stage) -> int:
    """Have the database end every connection but the one that says so; return how many that were."""
    engine = create_engine(stage.url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        if stage.family == "postgresql":
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
def test_unreachable_database_is_a_503_until_it_is_back_and_the_server_stays_alive(stage):
    for _ in stage.rounds(every=10):
        with Proxy(stage.cluster.port) as proxy, stage.reached_by(proxy.port), stage.load() as bank:
            proxy.bar()
            for _ in range(REFUSING_SECONDS):
                assert (stage.server.status("/healthz"), stage.server.status("/readyz")) == (200, 503)
                time.sleep(1)
            bank.wait_for("refusals", 1)
            proxy.open()
            bank.wait_for("acknowledged", SOME)
            proxy.freeze()
            for _ in range(SILENT_SECONDS):
                assert stage.server.status("/healthz") == 200
                time.sleep(1)
            proxy.thaw()
            bank.wait_for("acknowledged", SOME)
            proxy.freeze()
            proxy.cut()
            proxy.thaw()


@long_run
@pytest.mark.skipif(not CAN_FORGET, reason="only root can lose a connection without a word")
@only("postgresql", "mariadb")
def test_connections_that_fell_silent_give_back_what_they_had_locked(stage):
    """Neither side hears of it, as when a firewall forgets a connection: each must end it by itself."""
    for _ in stage.rounds(every=40):
        with Proxy(stage.cluster.port) as proxy, stage.reached_by(proxy.port), stage.load(noticed=None):
            proxy.freeze()
            # Until the last byte is acknowledged: one sent again would find out at once.
            time.sleep(1)
            proxy.forget()
            proxy.thaw()


def test_full_disk_is_a_503_until_there_is_room(small_disk):
    stage = small_disk
    for _ in stage.rounds():
        with stage.load() as bank:
            stage.disk.fill()
            bank.wait_for("refusals", 50)
            assert stage.server.status("/healthz") == 200
            stage.server.kill_all()
            stage.server.start()
            bank.wait_for("refusals", 50)
            stage.disk.free()


def test_slow_clients_keep_nobody_else_waiting(stage):
    for _ in stage.rounds():
        port = stage.server.port
        with stage.load(noticed=False) as bank, slow_headers(port), slow_bodies(port), idle(port):
            bank.wait_for("acknowledged", 3 * SOME)


@long_run
@only("sqlite")
def test_slow_clients_do_not_keep_the_server_from_ending(stage):
    for _ in stage.rounds(every=10):
        port = stage.server.port
        with stage.load():
            with slow_headers(port), slow_bodies(port), idle(port):
                stage.server.terminate()
            stage.server.start()

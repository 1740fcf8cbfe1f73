"""What happens when gunicorn starts: what its master loads, and what the log says of a database without tables."""

import os
import subprocess
import sys

import config
from database import revisions
from tests.e2e.server import served
from tests.factories import SECRET, SECRETS_KEY
from tests.waiting import wait_until

LOAD = "import runpy, sys; runpy.run_path('gunicorn.conf.py'); print(*sys.modules)"
TOO_EARLY = {"app", "context", "database", "flask", "alembic", "cryptography", "psycopg", "pymysql", "sqlalchemy.orm"}


def test_master_loads_nothing_that_must_come_after_gevent_s_patches():
    settings = {"PATH": os.environ["PATH"], "BANK_WEBHOOK_SECRETS": SECRET, "SECRETS_KEYS": SECRETS_KEY}
    loaded = subprocess.check_output([sys.executable, "-c", LOAD], cwd=config.ROOT, env=settings, text=True).split()

    assert TOO_EARLY.isdisjoint(loaded)


def test_missing_tables_are_in_the_log_when_a_server_starts(tmp_path):
    log_lines: list[str] = []
    with served(environ={"DATABASE_URL": f"sqlite:///{tmp_path / 'empty.db'}"}, log_lines=log_lines):
        wait_until(lambda: any(revisions.MISSING in line for line in log_lines), "the log says it")
    assert sum(revisions.MISSING in line for line in log_lines) == 1

"""The ledger and the use cases import and run where Flask cannot be imported."""

import subprocess
import sys

from config import ROOT

WITHOUT_FLASK = """
import sys
from importlib.abc import MetaPathFinder


class NoFlask(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "flask" or name.startswith("flask_"):
            raise ImportError(f"{name} must not be needed here")


sys.meta_path.insert(0, NoFlask())

from datetime import UTC, datetime
from types import SimpleNamespace

from sqlalchemy import create_engine, make_url
from sqlalchemy.orm import scoped_session, sessionmaker
from werkzeug.datastructures import Headers

import banks
import services
from banks.base import Message
from database import append_only, engine, session
from database.columns import Base
from ledger import audit, incidents, organizations, posting, statements
from ledger.findings import Finding
from tests.factories import make_body

url = make_url(sys.argv[1])
own_engine = create_engine(url, **engine.engine_options(url))
engine.prepare(own_engine)
Base.metadata.create_all(own_engine)
with own_engine.begin() as connection:
    for trigger in append_only.triggers(url.get_backend_name()):
        connection.exec_driver_sql(trigger.definition)
session.use(SimpleNamespace(session=scoped_session(sessionmaker(own_engine)), engine=own_engine))
jobs = []
session.after_commit(own_engine, jobs.append)

NOW = datetime(2026, 3, 1, tzinfo=UTC)
BANK = banks.find("plain")


def receive(body, **options):
    message = Message(headers=Headers(), content_type="application/json", body=body)
    return services.receive_webhook(BANK, message, key_id="k", now=NOW, **{"unknown_inn": "create", **options})


body = make_body()
statuses = [receive(body).status, receive(body).status]
statuses.append(receive(body.replace(b"145000", b"145001")).status)
held = receive(make_body(payer_inn="7707083893"), unknown_inn="hold")
services.assign_incident(held.incident_id, inn="1234567890", by="test", now=NOW)
message = Message(headers=Headers(), content_type="application/json", body=make_body())
services.enqueue_webhook(BANK, message, key_id="k", unknown_inn="create", now=NOW)
services.process_inbox(now=NOW)
balance, incident = organizations.find("1234567890").balance, incidents.find(held.incident_id)
print(*statuses, held.status, balance, incident.resolved_by, *jobs)
assert not [step for step in audit.verify() if isinstance(step, Finding)]
assert "flask" not in sys.modules
"""


def test_money_is_counted_where_flask_cannot_be_imported(tmp_path):
    command = [sys.executable, "-W", "error", "-c", WITHOUT_FLASK, f"sqlite:///{tmp_path}/k.db"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert ended.stderr == ""
    assert ended.stdout.split() == ["credited", "duplicate", "conflict", "held", "435000", "test", "credit"]

"""Two Kopecks in a row: what the first one credits, it announces to the second one's bank door, over real HTTP."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from flask import Flask
from sqlalchemy import text

from app import create_app
from database.extension import db
from database.session import transaction
from ledger import audit
from ledger.findings import Finding
from tests import wsgi
from tests.callers import Bank, Operator
from tests.databases import Database
from tests.factories import make_config
from tests.listeners import NOBODY, Row, deliver, subscribe


@contextmanager
def another_kopeck(secret: str, clock, **settings: str) -> Iterator[tuple[Flask, str]]:
    """Serve a second Kopeck on a database of its own, whose bank signs with this secret; give it and its bank door."""
    database = Database("sqlite")
    database.create()
    app = create_app(make_config(database.url, BANK_WEBHOOK_SECRETS=secret, **settings), clock)
    database.migrate(app)
    try:
        with wsgi.listening(app) as url:
            yield app, f"{url}/api/v1/webhook/bank/"
    finally:
        with app.app_context():
            db.engine.dispose()
        database.drop()


@dataclass
class Downstream:
    """The second Kopeck; its bank is the first one."""

    app: Flask
    upstream: Flask
    endpoint: Row

    def receive(self) -> None:
        """Have the first Kopeck send what is due."""
        deliver(self.upstream)

    def get(self, path: str) -> Any:
        """Return what the second Kopeck answers, where reads need no key."""
        return self.app.test_client().get(f"/api/v1{path}").json

    def balances(self) -> dict[str, int]:
        return {item["inn"]: item["balance"] for item in self.get("/organizations/")["items"]}

    def payments(self, inn: str) -> list[Row]:
        found: list[Row] = self.get(f"/organizations/{inn}/payments/?limit=500")["items"]
        return found

    def incidents(self) -> list[Row]:
        found: list[Row] = self.get("/incidents/")["items"]
        return found

    def bank(self) -> Bank:
        """Return who can say anything to it that the first Kopeck could."""
        return Bank(self.app.test_client(), self.endpoint["secret"])

    def check(self) -> None:
        with self.app.app_context():
            assert [step for step in audit.verify() if isinstance(step, Finding)] == []


@contextmanager
def downstream_of(app: Flask, operator: Operator, clock, *, scheme: str = "x-signature", **settings: str):
    """Give a second Kopeck to which the first one announces what it credits."""
    endpoint = subscribe(operator, NOBODY, scheme=scheme)
    with another_kopeck(endpoint["secret"], clock, **settings) as (other, door):
        with app.app_context(), transaction() as session:
            # Its secret had to be known before it could be started, and its address only afterwards.
            session.execute(text("UPDATE endpoints SET url = :url WHERE id = :id"), {"url": door, "id": endpoint["id"]})
        downstream = Downstream(other, app, endpoint)
        yield downstream
        downstream.check()

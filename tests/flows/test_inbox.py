"""What waits in the inbox is counted and listed, with its age: acknowledged money that nobody credits must be seen."""

from datetime import timedelta

import pytest
from flask import Flask
from sqlalchemy import text

from database.session import transaction
from ledger import inbox
from ledger.inbox import Backlog
from pagination import Span
from tests.factories import START, make_body


@pytest.fixture
def app(make_app) -> Flask:
    return make_app(BALANCE_UPDATES="queued")


def change(app: Flask, statement: str, **values: object) -> None:
    """Do to the tables what no door does."""
    with app.app_context(), transaction() as session:
        session.execute(text(statement), values)


def backlog(app: Flask, span: Span = inbox.EVER) -> list[Backlog]:
    with app.app_context():
        return inbox.backlog(span)


def test_nothing_waits_where_nothing_came(app):
    assert backlog(app) == []


def test_backlog_counts_by_bank_since_its_oldest(app, bank, clock):
    bank.push(make_body(amount=1))
    clock.move(minutes=1)
    bank.push(make_body(amount=2))
    change(app, "UPDATE inbox SET source = 'another' WHERE id = (SELECT id FROM (SELECT max(id) AS id FROM inbox) i)")
    bank.push(make_body(amount=3))

    assert backlog(app) == [
        Backlog(source="another", count=1, oldest_at=START + timedelta(minutes=1)),
        Backlog(source="plain", count=2, oldest_at=START),
    ]


def test_backlog_of_a_span_counts_what_arrived_within_it(app, bank, clock):
    for _ in range(3):
        bank.send()
        clock.move(minutes=1)

    (found,) = backlog(app, Span(since=START + timedelta(minutes=1), until=START + timedelta(minutes=2)))

    assert (found.count, found.oldest_at) == (1, START + timedelta(minutes=1))

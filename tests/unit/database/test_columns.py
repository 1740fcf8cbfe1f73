"""Numbers and moments as the tables keep them."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import select

from database.columns import new_id
from database.extension import db
from database.session import transaction
from ledger import posting
from models import BalanceLog
from tests.factories import START, make_credit


def test_new_ids_are_version_7_and_sort_by_time():
    start = datetime(2026, 3, 1, tzinfo=UTC)
    ids = [new_id(start + timedelta(milliseconds=number)) for number in range(100)]

    assert {(id_.version, id_.variant) for id_ in ids} == {(7, "specified in RFC 4122")}
    assert ids == sorted(ids)
    assert ids[0].int >> 80 == int(start.timestamp() * 1000)


def test_times_come_back_aware_in_utc_to_the_microsecond(context):
    moment = START + timedelta(microseconds=123456)
    with transaction() as session:
        posting.post(session, [make_credit(received_at=moment)])

    (created_at,) = db.session.scalars(select(BalanceLog.created_at))
    assert created_at == moment
    assert created_at.utcoffset() == timedelta(0)

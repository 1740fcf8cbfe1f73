"""What the log says of a database that is not available: the database's own words, and nothing that a bank sent."""

import pytest
from psycopg import errors
from sqlalchemy import exc

from database.failures import NOT_READY, log_unavailable

ROW_SECURITY = 'query would be affected by row-level security policy for table "payments"'
SENT = "\nLINE 1: … WHERE operation_id = 'sent by a bank'\nDETAIL: sent by a bank"


@pytest.mark.parametrize(
    ("original", "words"),
    [
        (errors.InsufficientPrivilege(ROW_SECURITY + SENT), ROW_SECURITY),
        (errors.UndefinedTable('relation "payments" does not exist' + SENT), 'relation "payments" does not exist'),
    ],
)
def test_what_may_be_missing_is_said_beside_the_database_s_own_words(caplog, original, words):
    log_unavailable("start", exc.ProgrammingError("SELECT 1", {"body": "sent by a bank"}, original))

    assert caplog.messages == [f"start: database not available: {NOT_READY} ({words})"]


def test_other_reasons_are_the_database_s_own_words_in_one_line(caplog):
    original = errors.OperationalError("connection refused\n\tIs the server running?")
    log_unavailable("start", exc.OperationalError("SELECT 1", {"body": "sent by a bank"}, original))

    assert caplog.messages == ["start: database not available: connection refused Is the server running?"]

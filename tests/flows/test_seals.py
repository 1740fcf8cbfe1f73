"""Seals and proofs: what was sealed cannot change unseen, and others can check one payment without Kopeck."""

import base64
import json
import re
import subprocess
import sys
import uuid

import pytest
from sqlalchemy import text

import signing
from config import ROOT
from database.session import transaction
from ledger import organizations, posting, seals
from tests.callers import Bank
from tests.factories import INN, OTHER_INN, START, make_credit, make_debit
from tests.listeners import deliver
from tests.outboxes import open_endpoint

KEY = signing.new_private_key()
PUBLIC_KEY = signing.public_key(KEY)
CHECKER = re.search(r"```python\n(.*?)```", (ROOT / "docs" / "proof.md").read_text(), re.DOTALL)[1]


@pytest.fixture
def sealed(make_app, tmp_path):
    """An app with a key, three moves of one organisation and one of another; the shell of it, and a seal of them."""
    app = make_app(SEAL_KEY=KEY)
    runner, file = app.test_cli_runner(), tmp_path / "seal.jsonl"
    with app.app_context():
        post(make_credit(amount=100), make_debit(amount=30), make_credit(amount=1), make_credit(inn=OTHER_INN))
        organizations.set_overdraft_limit(INN, 5, by="test", now=START)

    def run(*arguments):
        return runner.invoke(args=["ledger", *arguments])

    assert run("seal", "--out", str(file)).exit_code == 0
    return app, run, file


def post(*entries):
    with transaction() as session:
        posting.post(session, entries)


def test_what_comes_after_a_seal_changes_nothing_of_it(sealed):
    app, run, file = sealed
    with app.app_context():
        post(make_credit(amount=5), make_credit(inn="7736050003"))

    result = run("verify", "--against", str(file))

    assert result.exit_code == 0
    assert "Nothing that seal.jsonl sealed has changed or is gone." in result.output
    assert run("verify", "--against", str(file), "--public-key", PUBLIC_KEY).exit_code == 0


FORGED = {
    "the last row": (
        "UPDATE balance_log SET row_sha256 = '{hash}' WHERE version = 3",
        f"balance_log inn {INN} version 3",
    ),
    "rows taken away": ("DELETE FROM balance_log WHERE version > 1", f"balance_log inn {INN} version 3"),
    "an organisation": (f"DELETE FROM organizations WHERE inn = '{OTHER_INN}'", f"organizations inn {OTHER_INN}"),
    "another INN": (f"UPDATE organizations SET inn = '7736050003' WHERE inn = '{OTHER_INN}'", OTHER_INN),
    "a limit": ("DELETE FROM overdraft_limits", f"overdraft_limits inn {INN}"),
}


@pytest.mark.parametrize("change", FORGED)
def test_what_was_sealed_is_missed(sealed, database, change):
    _app, run, file = sealed
    statement, named = FORGED[change]
    with database.unguarded() as connection:
        connection.execute(text(statement.format(hash="0" * 64)))

    result = run("verify", "--against", str(file))

    assert result.exit_code == 1
    assert any(named in line and "sealed" in line for line in result.output.splitlines())


def test_history_that_was_written_anew_is_seen_by_the_seal_alone(sealed, database):
    app, run, file = sealed
    database.clean()
    with app.app_context():
        post(make_credit(amount=100), make_debit(amount=29), make_credit(amount=1), make_credit(inn=OTHER_INN))
        organizations.set_overdraft_limit(INN, 5, by="test", now=START)

    assert "Clean" in run("verify").output
    result = run("verify", "--against", str(file))

    assert result.exit_code == 1
    assert f"balance_log inn {INN} version 3: is not the row that was sealed" in result.output


def test_seal_with_any_other_byte_is_refused(sealed):
    _app, run, file = sealed
    content = file.read_bytes()

    for place in range(len(content)):
        other = bytearray(content)
        other[place] ^= 1
        file.write_bytes(other)
        with file.open("rb") as opened, pytest.raises(seals.NoSeal):
            seals.authenticate(opened, public_key=PUBLIC_KEY)
    file.write_bytes(content)
    assert run("verify", "--against", str(file)).exit_code == 0


def test_seal_of_another_key_is_refused(sealed):
    _app, run, file = sealed
    other = signing.public_key(signing.new_private_key())

    result = run("verify", "--against", str(file), "--public-key", other)

    assert result.exit_code == 1
    assert "was changed, or signed with another key" in result.output


def test_without_a_key_it_is_said_how_to_make_one(run, tmp_path):
    result = run("ledger", "seal", "--out", str(tmp_path / "seal.jsonl"))

    assert result.exit_code == 1
    assert "flask ledger new-key" in result.output
    assert not list(tmp_path.iterdir())


class TestProof:
    @pytest.fixture
    def packet(self, sealed, loopback_app, tmp_path):
        """A payment that was announced, its packet, and the seal behind it."""
        app, run, _file = sealed
        operation_id = str(uuid.uuid4())
        with app.app_context():
            open_endpoint()
        answer = Bank(app.test_client()).send(operation_id=operation_id)
        assert answer.json["status"] == "credited"
        deliver(app)
        seal = tmp_path / "later.jsonl"
        assert run("seal", "--out", str(seal)).exit_code == 0
        with app.app_context():
            post(make_credit(amount=7))
        packet = tmp_path / "packet.json"
        result = run("proof", operation_id, "--seal", str(seal), "--out", str(packet))
        assert result.exit_code == 0, result.output
        return packet, seal

    @pytest.fixture
    def checker(self):
        names = {"__name__": "checker"}
        exec(CHECKER, names)
        return names

    def test_program_of_the_page_accepts_it(self, packet, tmp_path):
        program = tmp_path / "check.py"
        program.write_text(CHECKER)

        ran = subprocess.run(
            [sys.executable, str(program), *map(str, packet), PUBLIC_KEY],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
        )

        assert ran.returncode == 0, ran.stderr
        assert f"145000 kopecks to INN {INN}" in ran.stdout

    def test_it_says_what_was_announced(self, packet):
        document = json.loads(packet[0].read_bytes().splitlines()[0])

        (event,) = document["events"]
        (delivery,) = event["deliveries"]
        assert event["type"] == "balance.credited"
        assert [attempt["number"] for attempt in delivery["attempts"]] == [1]

    def test_any_other_byte_is_refused(self, packet, checker):
        content = packet[0].read_bytes()
        checker["check_packet"](content, PUBLIC_KEY)

        for place in range(len(content)):
            other = bytearray(content)
            other[place] ^= 1
            with pytest.raises(Exception):  # noqa: B017, PT011 - of whatever kind
                checker["check_packet"](bytes(other), PUBLIC_KEY)

    @pytest.mark.parametrize(
        ("member", "value", "why"),
        [
            ("key_id", "other", "contradicts"),
            ("body", base64.b64encode(b'{"amount": 5}').decode(), "another body"),
            ("operation_id", "ccf0a86d-041b-4991-bcf7-e2352f7b8a4a", "another operation"),
        ],
        ids=["key_id", "body", "operation_id"],
    )
    def test_packet_that_contradicts_itself_is_refused_whoever_signed_it(self, packet, checker, member, value, why):
        document = json.loads(packet[0].read_bytes().splitlines()[0])
        line = json.dumps({**document, member: value}, separators=(",", ":")).encode()

        with pytest.raises(ValueError, match=why):
            checker["check_packet"](line + b"\n" + signing.sign_document(line, KEY).encode() + b"\n", PUBLIC_KEY)

    def test_row_that_says_something_else_than_its_body_is_refused(self, packet, checker):
        document = json.loads(packet[0].read_bytes().splitlines()[0])
        for place in (2, 14):
            document["rows"][0][place] += 1
        line = json.dumps(document, separators=(",", ":")).encode()

        with pytest.raises(ValueError, match="says something else"):
            checker["check_packet"](line + b"\n" + signing.sign_document(line, KEY).encode() + b"\n", PUBLIC_KEY)

    def test_seal_with_any_other_byte_is_refused(self, packet, checker):
        document = checker["check_packet"](packet[0].read_bytes(), PUBLIC_KEY)
        content = packet[1].read_bytes()
        checker["check_seal"](content, document, PUBLIC_KEY)

        for place in range(len(content)):
            other = bytearray(content)
            other[place] ^= 1
            with pytest.raises(Exception):  # noqa: B017, PT011 - of whatever kind
                checker["check_seal"](bytes(other), document, PUBLIC_KEY)

    def test_seal_that_is_older_than_the_payment_proves_nothing_of_it(self, sealed):
        app, run, file = sealed
        operation_id = str(uuid.uuid4())
        Bank(app.test_client()).send(operation_id=operation_id)

        result = run("proof", operation_id, "--seal", str(file))

        assert result.exit_code == 1
        assert "The seal is older than this payment." in result.output

    def test_unknown_operation(self, sealed):
        _app, run, _file = sealed

        assert "No payment of this source has this operation id." in run("proof", str(uuid.uuid4())).output

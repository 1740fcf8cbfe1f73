"""The shell: every command does what its help says, and its mistakes end in one line and exit status 1."""

import hashlib
import json
import os
import pwd
import socket
import subprocess
import sys
import threading
import tracemalloc
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from click.testing import Result
from sqlalchemy import text

import signing
from auth import api_keys
from cli import organization_file
from config import ROOT
from encryption import SecretCipher
from tests import wsgi
from tests.callers import Bank
from tests.databases import only
from tests.factories import INN, KEY_ID, OLD_SECRET, SECRET, SECRETS_KEY, START, make_org
from tests.outboxes import open_endpoint, pay
from worker import jobs

EVIL = "a\x1b[2J\x9b31m\u202eb\u2028c\rd\ne\x00f\x7f"


@pytest.fixture
def run(app):
    runner = app.test_cli_runner()

    def run(*args: str) -> Result:
        return runner.invoke(args=list(args))

    return run


def write(path, text: str, encoding: str = "utf-8") -> str:
    path.write_text(text, encoding=encoding)
    return str(path)


class TestSeed:
    def test_demo_organisations_are_the_same_every_time(self, run, client):
        first, second = run("orgs", "seed", "--demo", "3"), run("orgs", "seed", "--demo", "4")

        assert first.output == "3 registered, 0 already there.\n"
        assert second.output == "1 registered, 3 already there.\n"
        items = client.get("/api/v1/organizations/").json["items"]
        assert items[0]["inn"] == INN
        assert all(item["inn_checksum_ok"] for item in items[1:])

    @pytest.mark.parametrize(
        ("text", "encoding"),
        [
            ("inn,name\n7707083893,Сбер\n500100732259,\n", "utf-8"),
            ("inn,name\r\n7707083893,Сбер\r\n500100732259,\r\n", "utf-8-sig"),
            ('INN;Name\n7707083893;"Сбер"\n 500100732259 ;\n', "utf-8"),
            ("name,inn,note\nСбер,7707083893,x\n,500100732259,y\n", "utf-8"),
        ],
    )
    def test_file_is_read_as_spreadsheets_write_it(self, run, client, tmp_path, text, encoding):
        result = run("orgs", "seed", write(tmp_path / "orgs.csv", text, encoding))

        assert result.output == "2 registered, 0 already there.\n"
        names = {item["inn"]: item["name"] for item in client.get("/api/v1/organizations/").json["items"]}
        assert names == {"7707083893": "Сбер", "500100732259": ""}

    def test_bad_rows_are_all_named_and_nothing_is_written(self, run, database, tmp_path):
        text = "inn,name\n7707083893,Good\n123,Short\n7736050003,\x07Bell\n7707083893,Twice\n\n,Empty\n"

        result = run("orgs", "seed", write(tmp_path / "orgs.csv", text))

        assert result.exit_code == 1
        assert "line 3: inn: Must be 10 or 12 digits." in result.output
        assert "line 4: name: Must not hold control characters." in result.output
        assert "line 5: the INN stands on line 2 already" in result.output
        assert "line 7: inn:" in result.output
        assert database.count("organizations") == 0

    @pytest.mark.parametrize(
        ("text", "encoding", "words"),
        [
            ("inn,name\n7707083893,Сбер\n", "cp1251", "not UTF-8"),
            ("tax,name\n1,2\n", "utf-8", "no column inn"),
            ("inn,inn\n7707083893,500100732259\n", "utf-8", "has one twice"),
            ("", "utf-8", "no column"),
        ],
    )
    def test_file_that_is_no_such_table_is_refused(self, run, tmp_path, text, encoding, words):
        result = run("orgs", "seed", write(tmp_path / "orgs.csv", text, encoding))

        assert result.exit_code == 1
        assert words in result.output

    def test_row_that_would_lose_something_is_bad(self, run, database, tmp_path):
        result = run("orgs", "seed", write(tmp_path / "orgs.csv", 'inn,name\n7707083893,a,b\n500100732259,"a\nb"\n'))

        assert "line 2: has more cells than the first line" in result.output
        assert "name: Must not hold control characters." in result.output
        assert database.count("organizations") == 0

    def test_name_fills_an_organisation_that_a_webhook_made_and_replaces_none(self, run, bank, client, tmp_path):
        bank.send(payer_inn="7707083893")
        file = write(tmp_path / "orgs.csv", "inn,name\n7707083893,Sber\n")
        run("orgs", "seed", file)
        run("orgs", "seed", write(tmp_path / "orgs.csv", "inn,name\n7707083893,Other\n"))

        organization = client.get("/api/v1/organizations/7707083893/").json
        assert (organization["name"], organization["balance"]) == ("Sber", 145000)

    def test_long_list_is_registered_whole(self, run, database):
        assert run("orgs", "seed", "--demo", "1201").output.endswith("1201 registered, 0 already there.\n")
        assert database.count("organizations") == 1201

    @only("sqlite")
    def test_bad_rows_are_named_up_to_a_number_and_counted(self, run, database, tmp_path):
        text = "inn,name\n" + "1,x\n" * (organization_file.BAD_ROWS_MAX + 5)

        output = run("orgs", "seed", write(tmp_path / "orgs.csv", text)).output

        assert output.count("\nline ") == organization_file.BAD_ROWS_MAX
        assert output.endswith("… and 5 more\n")

    @only("sqlite")
    def test_repeats_far_apart_are_found_in_any_part(self, run, database, tmp_path):
        inns = [f"{7_700_000_000 + number}" for number in range(300)]
        text = "\n".join(["inn", *inns, inns[0], inns[150], f"00{inns[7]}"])

        output = run("orgs", "seed", write(tmp_path / "orgs.csv", text)).output

        assert output.splitlines()[1:] == [
            "line 302: the INN stands on line 2 already",
            "line 303: the INN stands on line 152 already",
        ]
        assert database.count("organizations") == 0

    @only("sqlite")
    def test_file_may_be_a_pipe(self, run, database, tmp_path):
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        writer = threading.Thread(target=pipe.write_text, args=("inn,name\n7707083893,Сбер\n",))
        writer.start()

        assert run("orgs", "seed", str(pipe)).output == "1 registered, 0 already there.\n"
        writer.join()

    @only("sqlite")
    @pytest.mark.parametrize(
        "text", ["inn,name\n" + "7" * 100_000, 'inn,name\n"7707083893\n' + "1234567890\n" * 20_000]
    )
    def test_line_or_cell_without_an_end_is_refused(self, run, database, tmp_path, text):
        result = run("orgs", "seed", write(tmp_path / "orgs.csv", text))

        assert result.exit_code == 1
        assert len(result.output) < 200

    @only("sqlite")
    def test_memory_does_not_grow_with_the_file(self, context, tmp_path):
        def peak(count: int) -> int:
            names = "\n".join(f"{7_700_000_000 + number},{'name' * 20}" for number in range(count))
            file = tmp_path / f"{count}.csv"
            file.write_text(f"inn,name\n{names}\n")
            del names
            tracemalloc.start()
            with organization_file.read(file) as (rows, found):
                assert found == sum(1 for _ in rows) == count
            try:
                return tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()

        small = peak(1000)

        assert peak(20_000) < small + 2_000_000

    def test_demo_has_no_place_in_production(self, make_app, database):
        result = make_app(KOPECK_ENV="production").test_cli_runner().invoke(args=["orgs", "seed", "--demo", "3"])

        assert result.exit_code == 1
        assert database.count("organizations") == 0

    @pytest.mark.parametrize("args", [[], ["--demo", "1", "app.py"]])
    def test_either_a_file_or_demo(self, run, args):
        assert run("orgs", "seed", *args).exit_code == 2


@pytest.mark.parametrize("named", [None, "somebody-else"])
def test_resolver_at_the_shell_is_who_the_system_says_whatever_the_environment_says(
    run, bank, operator, monkeypatch, named
):
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, named) if named else monkeypatch.delenv(name, raising=False)
    bank.push(b"{}")
    number = run("incidents", "list").output.splitlines()[1].split()[0]

    assert run("incidents", "resolve", number, "seen").output == "Resolved.\n"
    assert operator.get(f"/incidents/{number}/").json["resolved_by"] == f"shell:{pwd.getpwuid(os.getuid()).pw_name}"


def test_organisation_is_added_once(run, client, database):
    assert run("orgs", "add", "7707083893", "Sber").output == "Registered.\n"
    assert run("orgs", "add", "7707083893").exit_code == 1
    assert run("orgs", "add", "123").exit_code == 2
    assert client.get("/api/v1/organizations/7707083893/").json["name"] == "Sber"


def test_organisations_are_listed_and_shown(run, bank):
    bank.send()

    assert "1234567890  1 450.00 RUB      1" in run("orgs", "list").output
    shown = run("orgs", "show", INN).output
    assert "Balance       1 450.00 RUB" in shown
    assert "does not hold (advice only)" in shown


def test_list_says_when_there_is_more(run, context):
    for number in range(3):
        make_org(f"{7_700_000_000 + number}")

    assert "more" not in run("orgs", "list").output
    assert "raise --limit above 2" in run("orgs", "list", "--limit", "2").output


@pytest.mark.parametrize(
    "args",
    [
        ["orgs", "show", "\udcff"],
        ["orgs", "show", "123"],
        ["incidents", "show", "99999999999999999999999"],
        ["incidents", "resolve", "1", ""],
        ["incidents", "resolve", "1", "\x1b[31m"],
        ["incidents", "assign", "1", "x"],
        ["keys", "create", "a\nb", "--all"],
        ["keys", "revoke", "\udcff"],
        ["ledger", "statement", INN, "--from", "0001-01-01T00:00:00+23:59"],
        ["ledger", "statement", INN, "--from", "2024-04-27"],
    ],
)
def test_argument_of_the_wrong_shape_is_a_usage_error(run, database, args):
    result = run(*args)

    assert result.exit_code == 2
    assert "Traceback" not in result.output


def test_nothing_stored_can_move_the_terminal(run, operator):
    operator.post("/organizations/", inn="7707083893", name="a\u202eb\u2028c")

    assert "a\\u202eb\\u2028c" in run("orgs", "list").output
    assert "a\\u202eb\\u2028c" in run("orgs", "show", "7707083893").output


@only("sqlite")
def test_nothing_stored_can_pass_for_a_finding_or_for_none(run, bank, database):
    """SQLite keeps whatever it is given: past its checks any column may hold anything."""
    bank.send()
    evil = "1\x1b]0;title\x07\x1b[31m\nClean: 9 rows"
    with database.unguarded() as connection:
        connection.execute(text("UPDATE organizations SET inn = :evil, balance = 1"), {"evil": evil})

    result = run("ledger", "verify")

    assert result.exit_code == 1
    assert "\x1b" not in result.output
    assert "\x07" not in result.output
    assert not [line for line in result.output.splitlines() if line.startswith("Clean")]
    assert "\\x1b[31m\\nClean: 9 rows" in result.output


@only("sqlite")
@pytest.mark.parametrize(
    "args",
    [
        ["ledger", "statement", INN],
        ["ledger", "payments", INN],
        ["orgs", "list"],
        ["orgs", "show", INN],
        ["incidents", "list", "--state", "all"],
        ["incidents", "show", "1"],
        ["endpoints", "list"],
        ["endpoints", "show", "1"],
        ["deliveries", "list"],
        ["deliveries", "show", "1"],
        ["keys", "list"],
        ["secrets", "rotate"],
    ],
)
def test_no_command_lets_a_stored_text_move_the_terminal(run, loopback_app, database, args):
    Bank(loopback_app.test_client()).send(amount=0)
    with loopback_app.app_context():
        make_org()
        api_keys.create(name="key", scopes=[], now=START)
        open_endpoint()
        pay(1)
        jobs.deliver_one(1)
    columns = {
        "organizations": ("name", "currency"),
        "payments": ("document_number", "source", "key_id", "payer_inn"),
        "incidents": ("source", "key_id", "resolution", "resolved_by", "kind", "facts", "body"),
        "endpoints": ("url", "description", "event_types"),
        "delivery_attempts": ("excerpt", "error", "cause"),
        "api_keys": ("name", "scopes"),
    }
    with database.unguarded() as connection:
        connection.execute(text("PRAGMA ignore_check_constraints = ON"))
        for table, names in columns.items():
            for name in names:
                evil = json.dumps({"\u202e": "\u009b31m"}, ensure_ascii=False) if name == "facts" else EVIL
                value = evil.encode() if name == "body" else evil
                connection.execute(text(f"UPDATE {table} SET {name} = :evil"), {"evil": value})

    output = run(*args).output

    assert len(output.splitlines()) == output.count("\n")
    assert not [character for character in output if character != "\n" and not character.isprintable()]


@pytest.mark.parametrize(
    "args",
    [
        ["orgs", "show", "7707083893"],
        ["ledger", "statement", "7707083893"],
        ["incidents", "show", "99"],
        ["incidents", "resolve", "99", "x"],
        ["incidents", "assign", "99", INN],
        ["keys", "revoke", "nobody"],
    ],
)
def test_what_is_not_there_ends_in_one_line(run, database, args):
    result = run(*args)

    assert result.exit_code == 1
    assert result.output.startswith("Error: ")
    assert "Traceback" not in result.output


def test_statement_is_a_table_or_csv(run, bank, clock):
    bank.send(amount=145000)
    clock.move(days=1)
    bank.send(amount=5)

    table = run("ledger", "statement", INN).output.splitlines()
    assert [line.split()[0] for line in table] == ["VERSION", "2", "1"]
    assert "1 450.05" in table[1]
    lines = run("ledger", "statement", INN, "--csv").output.splitlines()
    assert [line.split(",")[2] for line in lines] == ["delta", "5", "145000"]
    spanned = run("ledger", "statement", INN, "--csv", "--from", "2026-03-02T00:00:00Z").output.splitlines()
    assert [line.split(",")[2] for line in spanned] == ["delta", "5"]


def test_incident_is_listed_shown_and_resolved(run, bank):
    bank.push(b'{"operation_id": "\x1b[31mred"}')
    (line,) = run("incidents", "list").output.splitlines()[1:]
    number = line.split()[0]

    shown = run("incidents", "show", number).output
    assert "unusable_body" in shown
    assert "\x1b" not in shown
    assert "\\x1b[31mred" in shown
    assert run("incidents", "resolve", number, "seen").output == "Resolved.\n"
    assert run("incidents", "resolve", number, "seen").exit_code == 1
    assert "seen" in run("incidents", "list", "--state", "resolved").output


def test_incident_is_assigned(run, bank, context, check_ledger):
    make_org("7707083893")
    bank.send(amount=2**63 - 1)
    held = bank.send(amount=7).json["incident_id"]

    result = run("incidents", "assign", str(held), "7707083893")

    assert result.output.startswith("Credited to 7707083893 as payment ")
    check_ledger()


def test_key_is_shown_once_and_can_be_revoked(run, context):
    token = run("keys", "create", "anna", "--scope", "organizations:read").stdout.strip()

    assert api_keys.authorize(token, "organizations:read").name == "anna"
    assert token not in run("keys", "list").output
    assert run("keys", "create", "anna", "--all").exit_code == 1
    assert run("keys", "create", "ben").exit_code == 2
    assert run("keys", "create", "ben", "--all", "--scope", "organizations:read").exit_code == 2
    assert run("keys", "create", " ", "--all").exit_code == 2
    assert run("keys", "revoke", "anna").output == "Revoked.\n"
    with pytest.raises(api_keys.KeyRefused):
        api_keys.authorize(token, "organizations:read")
    assert run("keys", "revoke", "anna").exit_code == 1


def test_rotation_counts_payments_by_every_name_that_a_secret_has_had(run, bank, make_app, database):
    changed = make_app(SECRETS_KEYS=f"{'another-key-' * 4},{SECRETS_KEY}")
    for sender in (bank, bank, Bank(changed.test_client())):
        sender.send()
    with database.unguarded() as connection:
        plain = hashlib.sha256(b"kopeck key id:" + SECRET.encode()).hexdigest()[:12]
        query = "UPDATE payments SET key_id = :plain WHERE id = (SELECT min(id) FROM (SELECT id FROM payments) AS p)"
        if database.family == "postgresql":
            query = "UPDATE payments SET key_id = :plain WHERE id = (SELECT id FROM payments ORDER BY id LIMIT 1)"
        connection.execute(text(query), {"plain": plain})

    output = changed.test_cli_runner().invoke(args=["secrets", "rotate"]).output

    assert ": 3 payments, the last 2026-03-01 12:00:00Z" in output
    assert f"key_id {KEY_ID}" not in output


def test_rotation_guidance_names_keys_but_no_current_secret(run, bank):
    bank.send()
    output = run("secrets", "rotate").output

    assert f"key_id {KEY_ID}: 1 payments, the last 2026-03-01 12:00:00Z" in output
    assert f"key_id {SecretCipher([SECRETS_KEY]).key_id(OLD_SECRET)}: unused" in output
    assert SECRET not in output
    assert run("secrets", "rotate", "--bank", "nobody").exit_code == 1
    assert "BANK_WEBHOOK_SECRETS=NEW,OLD" in output


class TestBankSend:
    @pytest.fixture
    def server(self, app):
        with wsgi.listening(app) as url:
            yield f"{url}/api/v1/webhook/bank/"

    def test_sends_a_signed_webhook_and_shows_both_sides(self, run, server, check_ledger):
        result = run("bank", "send", "--url", server, "--repeat", "2", "--amount", "100")

        assert result.exit_code == 0, result.output
        assert result.output.count("> X-Signature: ") == 2
        assert '"status":"credited"' in result.output
        assert '"status":"duplicate"' in result.output
        check_ledger()

    def test_refusal_is_shown_and_fails(self, run, server):
        result = run("bank", "send", "--url", server, "--inn", "123")

        assert result.exit_code == 1
        assert "#/payer_inn" in result.output

    def test_nobody_there_is_said_in_one_line(self, run):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            result = run("bank", "send", "--url", f"http://127.0.0.1:{free.getsockname()[1]}/")

        assert result.exit_code == 1
        assert "Nothing answers at this address" in result.output

    @pytest.mark.parametrize("url", ["ftp://127.0.0.1/", "nonsense", "http://", "http://[::1"])
    def test_address_that_is_none_is_said_in_one_line(self, run, url):
        result = run("bank", "send", "--url", url)

        assert result.exit_code == 1
        assert "Error: " in result.output
        assert "Traceback" not in result.output

    def test_redirect_is_not_followed(self, run):
        class Redirect(BaseHTTPRequestHandler):
            asked = 0

            def do_POST(self) -> None:
                type(self).asked += 1
                self.send_response(302)
                self.send_header("Location", "/elsewhere")
                self.end_headers()

            def log_message(self, *args: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Redirect)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        result = run("bank", "send", "--url", f"http://127.0.0.1:{server.server_port}/")
        server.shutdown()
        thread.join()
        server.server_close()

        assert (result.exit_code, Redirect.asked) == (1, 1)
        assert "< 302" in result.output


def test_curl_prints_a_signed_request_that_the_shell_can_run(run, tmp_path):
    output = run("bank", "curl").output
    fake = tmp_path / "curl"
    fake.write_text('#!/bin/sh\nfor word; do printf "%s\\n" "$word"; done\n')
    fake.chmod(0o755)

    words = subprocess.run(
        ["sh", "-c", output], env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, capture_output=True, text=True, check=True
    ).stdout.splitlines()

    assert words[1] == "http://127.0.0.1:8000/api/v1/webhook/bank/"
    signature, body = words[5].removeprefix("X-Signature: "), words[7]
    assert signing.sign(body.encode(), SECRET) == signature


def test_welcome_shows_a_first_webhook_unless_the_port_is_taken(make_app):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        port = str(other.getsockname()[1])
        free = make_app(PORT=port).test_cli_runner()
        other.listen()
        taken = free.invoke(args=["bank", "welcome"])
    served = free.invoke(args=["bank", "welcome"])

    assert taken.exit_code == 1
    assert f"such as PORT={int(port) + 10}" in taken.output
    assert served.exit_code == 0
    assert f"curl -sS http://127.0.0.1:{port}/api/v1/webhook/bank/" in served.output


@pytest.mark.parametrize("url", ["postgresql://x:pass-word@127.0.0.1:9/k", "mariadb://x:pass-word@127.0.0.1:9/k"])
def test_migration_without_a_database_says_so_in_one_line(tmp_path, url):
    result = _flask(tmp_path, "db", "upgrade", DATABASE_URL=url)

    assert result.returncode == 1
    assert "Error: The database is not available. Look at DATABASE_URL." in result.stderr
    assert "Traceback" not in result.stderr
    assert "pass-word" not in result.stderr


def test_database_file_in_a_place_that_cannot_be_made_says_so(tmp_path):
    (tmp_path / "file").touch()

    result = _flask(tmp_path, "orgs", "list", DATABASE_URL=f"sqlite:///{tmp_path / 'file' / 'k.db'}")

    assert result.returncode == 1
    assert "DATABASE_URL names a file in" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("name", ["BANK_WEBHOOK_SECRETS_TYPO"])
def test_secret_of_a_bank_that_is_not_there_stops_the_start(tmp_path, name):
    result = _flask(tmp_path, "orgs", "list", **{name: SECRET})

    assert result.returncode == 1
    assert f"{name} is for a bank that is not in the registry" in result.stderr


def test_command_without_tables_says_what_to_do(tmp_path):
    result = _flask(tmp_path, "orgs", "list", DATABASE_URL=f"sqlite:///{tmp_path / 'empty.db'}")

    assert result.returncode == 1
    assert "run `flask db upgrade`" in result.stderr
    assert "Traceback" not in result.stderr


def test_command_with_bad_settings_lists_them_and_quotes_no_secret(tmp_path):
    result = _flask(tmp_path, "orgs", "list", KOPECK_ENV="production", BANK_WEBHOOK_SECRETS="short", PORT="0")

    assert result.returncode == 1
    assert "PORT must be" in result.stderr
    assert "BANK_WEBHOOK_SECRETS holds a weak secret" in result.stderr
    assert "short" not in result.stderr


def _flask(tmp_path, *args: str, **environ: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"], "BANK_WEBHOOK_SECRETS": SECRET, "SECRETS_KEYS": SECRETS_KEY, **environ}
    command = [sys.executable, "-m", "flask", "--app", str(ROOT / "app.py"), *args]
    return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)

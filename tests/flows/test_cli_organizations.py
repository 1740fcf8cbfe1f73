"""`flask orgs`, and the statement of one: lists of organisations are registered whole or not at all."""

import os
import threading
import tracemalloc

import pytest

from cli import organization_file
from tests.databases import only
from tests.factories import INN, make_org


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

"""Statements as files: whole or an error, exact to the kopeck, in bounded memory, and honest about what still waits."""

import csv
import io
import os
import resource
import stat
import subprocess
import sys
import tempfile
import tracemalloc
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from openpyxl import load_workbook
from openpyxl.utils.escape import unescape
from sqlalchemy import text

from config import ROOT
from enums import ExportFormat
from errors import ExportTooLong
from ledger import exports, workbook
from pagination import EXPORT_ROWS, Span
from tests.databases import Database, only
from tests.factories import INN, SECRET, SECRETS_KEY, START, make_body
from tests.outboxes import pay

LOG = f"/api/v1/organizations/{INN}/log/"
PAYMENTS = f"/api/v1/organizations/{INN}/payments/"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
FORMATS = [form.value for form in ExportFormat]
DOCUMENTS = ("0012", "PAY-328", "12-03", 'x;"=HYPERLINK(A1);"', "№ 7, копия; и ещё", "=1+1", "_x0041_", "'0")


def sheets(data: bytes) -> dict[str, list[tuple[object, ...]]]:
    """Return the cells of a workbook, by sheet."""
    # openpyxl leaves it to its callers to take back the escapes of ECMA-376's ST_Xstring.
    return {
        sheet.title: [tuple(unescape(c.value) if isinstance(c.value, str) else c.value for c in row) for row in sheet]
        for sheet in load_workbook(io.BytesIO(data))
    }


def excel_rows(data: bytes) -> list[list[str]]:
    """Return the cells of what a spreadsheet with Russian settings opens."""
    return list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), delimiter=";"))


def write(form: str, *, seconds: float = 60, span: Span = Span(), name: str = "log") -> bytes:  # noqa: B008
    export = exports.write(exports.statement(name, INN, span), ExportFormat(form), now=START, seconds=seconds)
    with export.file:
        return export.file.read()


@pytest.fixture
def damaged(context, database):
    """A log of several pages in which one row, far behind the first page, cannot be read."""
    pay(2 * EXPORT_ROWS)
    with database.unguarded() as connection:
        connection.execute(text("UPDATE balance_log SET created_at = 'rubbish' WHERE version = 10"))


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("path", [LOG, PAYMENTS])
def test_file_says_how_long_it_is_and_is_given_to_be_kept(bank, client, path, form):
    bank.send()

    answer = client.get(path, query_string={"format": form})

    assert answer.status_code == 200
    assert answer.content_type == exports.CONTENT_TYPES[ExportFormat(form)]
    assert int(answer.headers["Content-Length"]) == len(answer.data) > 0
    assert (answer.headers["Kopeck-Rows"], answer.headers["Kopeck-Waiting"]) == ("1", "0")
    assert answer.headers["Accept-Ranges"] == "none"
    name = path.split("/")[-2]
    ending = "xlsx" if form == "xlsx" else "csv"
    assert answer.headers["Content-Disposition"] == f'attachment; filename="{name}-{INN}.{ending}"'
    assert "no-store" in answer.headers["Cache-Control"]


@pytest.mark.parametrize("form", FORMATS)
def test_head_and_ranges_get_what_get_gets(bank, client, form):
    bank.send()
    whole = client.get(LOG, query_string={"format": form})

    part = client.get(LOG, query_string={"format": form}, headers={"Range": "bytes=10-"})
    with client.head(LOG, query_string={"format": form}) as head:
        assert head.data == b""

    assert (part.status_code, len(part.data)) == (200, len(whole.data))
    assert head.headers["Content-Length"] == whole.headers["Content-Length"]


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (XLSX, XLSX),
        ("text/csv", "text/csv; charset=utf-8"),
        (f"text/csv;q=0.5, {XLSX}", XLSX),
        ("*/*", "application/json"),
        ("text/html", "application/json"),
    ],
)
def test_accept_chooses_the_format_and_the_query_wins(bank, client, accept, content_type):
    bank.send()

    assert client.get(LOG, headers={"Accept": accept}).content_type == content_type
    assert client.get(f"{LOG}?format=json", headers={"Accept": accept}).content_type == "application/json"


@only("sqlite")
@pytest.mark.parametrize("form", FORMATS)
def test_row_that_cannot_be_read_makes_an_error_and_no_shorter_file(damaged, client, form):
    answer = client.get(LOG, query_string={"format": form})

    assert (answer.status_code, answer.content_type) == (500, "application/problem+json")


@only("sqlite")
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("to_file", [True, False])
def test_shell_prints_nothing_of_a_statement_that_cannot_be_read(damaged, app, tmp_path, form, to_file):
    output = ["--output", str(tmp_path / "statement")] if to_file else []

    result = app.test_cli_runner().invoke(args=["ledger", "statement", INN, "--format", form, *output])

    assert result.exit_code == 1
    assert result.stdout == ""
    assert list(tmp_path.iterdir()) == []


@only("sqlite")
@pytest.mark.parametrize("form", FORMATS)
def test_export_leaves_no_file_behind_whether_it_succeeds_or_not(damaged, client, tmp_path, form, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    assert client.get(LOG, query_string={"format": form}).status_code == 500
    assert client.get(PAYMENTS, query_string={"format": form}).data

    assert list(tmp_path.iterdir()) == []


@only("sqlite")
@pytest.mark.parametrize("form", FORMATS)
def test_folder_that_cannot_be_written_is_said_before_anything_is_sent(bank, client, tmp_path, form, monkeypatch):
    bank.send()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))

    answer = client.get(LOG, query_string={"format": form})

    assert (answer.status_code, answer.json["type"]) == (503, "urn:kopeck:problem:export-not-written")


@only("sqlite")
@pytest.mark.parametrize("form", FORMATS)
def test_export_that_takes_too_long_is_given_up(context, form):
    pay(3)

    with pytest.raises(ExportTooLong):
        write(form, seconds=-1)


@pytest.mark.parametrize("form", FORMATS)
def test_empty_statement_is_a_file_too(context, client, form):
    pay(1)

    answer = client.get(LOG, query_string={"format": form, "to": "2020-01-01T00:00:00Z"})

    assert (answer.status_code, answer.headers["Kopeck-Rows"]) == (200, "0")


def test_spreadsheet_with_russian_settings_gets_what_it_can_read(bank, client):
    for document in DOCUMENTS:
        bank.send(amount=145005, document_number=document)
    bank.send(amount=2**62, document_number="large")

    data = client.get(f"{PAYMENTS}?format=excel-csv").data

    assert data.startswith(b"\xef\xbb\xbf")
    assert data.count(b"\r\n") == data.count(b"\n") == len(DOCUMENTS) + 3
    heading, *rows, closing = excel_rows(data)
    by_document = {row[heading.index("document_number")]: row for row in rows}
    assert set(by_document) == {
        "'0012", "PAY-328", "'12-03", "x;\"'=HYPERLINK(A1);\"", "№ 7, копия; и ещё", "'=1+1", "'_x0041_", "'0", "large"
    }  # fmt: skip
    row = dict(zip(heading, by_document["PAY-328"], strict=True))
    assert row["amount (RUB)"] == "1450,05"
    assert row["payer_inn"] == f"'{INN}"
    assert row["document_date (Moscow)"] == "28.04.2024 00:00:00"
    assert row["received_at (Moscow)"] == "01.03.2026 15:00:00"
    assert by_document["large"][heading.index("amount (RUB)")] == "'46116860184273879,04"
    assert len(closing) == 1
    assert closing[0].startswith(f"# complete: {len(rows)} rows, total: 46116860184285479,44 RUB, organisation: {INN}")
    assert "not in it: 0 webhooks" in closing[0]


def test_workbook_holds_text_numbers_and_dates_as_such(bank, client):
    for document in DOCUMENTS:
        bank.send(amount=145005, document_number=document)
    bank.send(amount=10**15 - 1, document_number="just exact")
    bank.send(amount=10**15, document_number="text")

    answer = client.get(f"{PAYMENTS}?format=xlsx")
    book = sheets(answer.data)

    assert list(book) == ["payments", "summary"]
    heading, *rows = book["payments"]
    found = {row[heading.index("document_number")]: dict(zip(heading, row, strict=True)) for row in rows}
    assert set(found) == {*DOCUMENTS, "just exact", "text"}
    row = found["0012"]
    assert row["amount (RUB)"] == 1450.05
    assert row["payer_inn"] == INN
    assert row["document_date (Moscow)"] == datetime(2024, 4, 28)  # noqa: DTZ001 - a spreadsheet knows no zone
    assert row["received_at (Moscow)"] == datetime(2026, 3, 1, 15)  # noqa: DTZ001
    assert f"{found['just exact']['amount (RUB)']:.2f}" == "9999999999999.99"
    assert found["text"]["amount (RUB)"] == "10000000000000.00"
    summary = dict(book["summary"])
    assert summary["complete"] == f"{len(rows)} rows"
    raw = load_workbook(io.BytesIO(answer.data))["payments"]
    kinds = {cell.data_type for line in raw.iter_rows(min_row=2) for cell in line}
    assert kinds <= {"s", "n", "d", "inlineStr"}
    assert not [cell for line in raw.rows for cell in line if cell.hyperlink]
    formats = {cell.data_type: cell.number_format for cell in raw[chr(ord("A") + heading.index("amount (RUB)"))][1:]}
    assert formats == {"n": "#,##0.00", "s": "General"}


def test_moment_before_the_calendar_of_spreadsheets_is_text(bank, client):
    bank.send(document_date="1900-01-01T00:00:00Z")

    (heading, row) = sheets(client.get(f"{PAYMENTS}?format=xlsx").data)["payments"]

    assert row[heading.index("document_date (Moscow)")] == "01.01.1900 02:30:17"


@only("sqlite")
@pytest.mark.parametrize(("count", "pages"), [(0, [1]), (4, [5]), (5, [5, 2]), (8, [5, 5]), (9, [5, 5, 2])])
def test_full_sheet_is_followed_by_another(count, pages, database):
    file = io.BytesIO()
    rows = [(number, "text") for number in range(count)]

    workbook.write(
        file, rows, title="log", headings=["n", "t"], money=[], zone=exports.ZONE, summary=lambda: [], sheet_rows=5
    )

    book = sheets(file.getvalue())
    assert [len(found) for title, found in book.items() if title != "summary"] == pages
    assert [row[0] for title, found in book.items() if title != "summary" for row in found[1:]] == list(range(count))


@pytest.mark.parametrize("form", ["json", *FORMATS])
def test_export_says_what_of_its_span_still_waits(make_app, client, bank, form, clock):
    queued = make_app(BALANCE_UPDATES="queued")
    bank.send()
    for _ in range(2):
        assert bank.__class__(queued.test_client()).push(make_body()).json == {"status": "accepted"}
    end = START + timedelta(hours=1)
    clock.move(hours=2)
    bank.__class__(queued.test_client()).push(make_body())

    within = client.get(LOG, query_string={"format": form, "to": end.isoformat()})
    later = client.get(LOG, query_string={"format": form, "from": end.isoformat()})

    assert (within.headers["Kopeck-Waiting"], later.headers["Kopeck-Waiting"]) == ("2", "1")
    if form == "excel-csv":
        assert "not in it: 2 webhooks" in excel_rows(within.data)[-1][0]
    if form == "xlsx":
        assert dict(sheets(within.data)["summary"])["not in it"].startswith("2 webhooks")
    later.close()


@only("sqlite")
@pytest.mark.parametrize("form", FORMATS)
def test_memory_does_not_grow_with_the_statement(context, form):
    def peak() -> int:
        tracemalloc.start()
        try:
            export = exports.write(exports.statement("log", INN, Span()), ExportFormat(form), now=START, seconds=600)
            export.file.close()
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    pay(1000)
    peak()  # what is made once
    small = peak()
    pay(7000)

    assert peak() < small + 2_000_000


class TestShell:
    @pytest.mark.parametrize("name", ["statement", "payments"])
    @pytest.mark.parametrize("form", FORMATS)
    def test_files_are_those_of_the_api(self, app, bank, client, tmp_path, name, form):
        bank.send()
        path = tmp_path / "file"

        result = app.test_cli_runner().invoke(args=["ledger", name, INN, "--format", form, "--output", str(path)])
        printed = app.test_cli_runner().invoke(args=["ledger", name, INN, "--format", form])

        served = client.get(LOG if name == "statement" else PAYMENTS, query_string={"format": form}).data
        assert (result.exit_code, result.output) == (0, f"1 rows are in {path}.\n")
        if form != "xlsx":  # a workbook holds the moment at which it was made
            assert path.read_bytes() == printed.stdout_bytes == served
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert [path] == list(tmp_path.iterdir())

    @only("sqlite")
    def test_payments_are_a_table_too(self, app, bank):
        bank.send(amount=145000)

        output = app.test_cli_runner().invoke(args=["ledger", "payments", INN]).output

        assert "1 450.00" in output
        assert output.startswith("RECEIVED")

    @only("sqlite")
    def test_existing_file_stays(self, app, bank, tmp_path):
        bank.send()
        path = tmp_path / "file"
        path.write_text("mine")

        result = app.test_cli_runner().invoke(args=["ledger", "statement", INN, "--csv", "--output", str(path)])

        assert result.exit_code == 1
        assert path.read_text() == "mine"
        assert [path] == list(tmp_path.iterdir())

    @only("sqlite")
    def test_output_without_a_format_is_a_usage_error(self, app, bank, tmp_path):
        bank.send()

        result = app.test_cli_runner().invoke(args=["ledger", "statement", INN, "--output", str(tmp_path / "file")])

        assert result.exit_code == 2

    @only("sqlite")
    def test_what_waits_is_said_beside_the_file(self, app, make_app, bank):
        bank.send()
        bank.__class__(make_app(BALANCE_UPDATES="queued").test_client()).push(make_body())

        result = app.test_cli_runner().invoke(args=["ledger", "statement", INN, "--csv"])

        assert "Not in it: 1 webhooks" in result.stderr
        assert "webhook" not in result.stdout

    @only("sqlite")
    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
    @pytest.mark.parametrize("form", FORMATS)
    def test_full_disk_under_the_output_is_an_error(self, context, database, form):
        pay(200)
        with Path("/dev/full").open("w") as full:
            ended = flask_process(database, "ledger", "statement", INN, "--format", form, stdout=full)

        assert ended.returncode == 1
        assert ended.stderr == "Error: The output could not be written whole: No space left on device.\n"

    @only("sqlite")
    @pytest.mark.parametrize("form", FORMATS)
    def test_full_disk_under_the_temporary_folder_is_an_error(self, context, database, form):
        pay(2000)

        ended = flask_process(
            database,
            *("ledger", "statement", INN, "--format", form),
            stdout=subprocess.PIPE,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000)),
        )

        assert (ended.returncode, ended.stdout) == (1, "")
        assert "Error: The server could not write it into its temporary folder" in ended.stderr


def flask_process(database: Database, *args: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own."""
    environ = {
        "PATH": os.environ["PATH"],
        "DATABASE_URL": str(database.url),
        "BANK_WEBHOOK_SECRETS": SECRET,
        "SECRETS_KEYS": SECRETS_KEY,
    }
    command = [Path(sys.executable).with_name("flask"), *args]
    return subprocess.run(command, cwd=ROOT, env=environ, stderr=subprocess.PIPE, text=True, check=False, **options)

"""What an accountant with Russian settings opens by double click, as LibreOffice reads it: complete, and no formula."""

import csv
import io
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.databases import only
from tests.factories import INN

PROGRAM = shutil.which("soffice")
RUSSIAN = 1049
"""Microsoft's number of a language, which LibreOffice's filter for CSV takes."""

DOCUMENTS = {
    "0012": "0012",
    "12-03": "12-03",
    "№ 7, копия; «ё»": "№ 7, копия; «ё»",
    '=HYPERLINK("http://x";"y")': '=HYPERLINK("http://x";"y")',
    'x;"=HYPERLINK(A1);"': 'x;"=HYPERLINK(A1);"',
    "_x0041_": "_x0041_",
    "+7 495": "+7 495",
}

pytestmark = [
    only("sqlite"),
    pytest.mark.skipif(PROGRAM is None, reason="LibreOffice is not here: no export was opened by a spreadsheet"),
]


def opened(folder: Path, name: str, data: bytes, *, filter_in: str | None = None) -> list[list[str]]:
    """Have LibreOffice read a file and write down each cell of its first sheet as formula or value."""
    (folder / name).write_bytes(data)
    options = [f"--infilter={filter_in}"] if filter_in else []
    # The ninth part of the filter has formulas written instead of what they come to, the eighth dates as they look.
    written = "csv:Text - txt - csv (StarCalc):44,34,76,1,,0,true,true,true"
    subprocess.run(
        [
            *(PROGRAM, f"-env:UserInstallation=file://{folder}/profile", "--headless", *options),
            *("--convert-to", written, "--outdir", folder / "out", folder / name),
        ],
        env={**os.environ, "HOME": str(folder)},
        check=True,
        capture_output=True,
    )
    text = (folder / "out" / f"{Path(name).stem}.csv").read_text(encoding="utf-8")
    return list(csv.reader(io.StringIO(text, newline="")))


def by_document(rows: list[list[str]]) -> dict[str, dict[str, str]]:
    heading, *rest = rows
    return {row[heading.index("document_number")]: dict(zip(heading, row, strict=True)) for row in rest if row[1]}


@pytest.fixture
def payments(bank, client):
    for document in DOCUMENTS:
        bank.send(amount=145005, document_number=document, payer_inn=INN)

    def fetch(form: str) -> bytes:
        return client.get(f"/api/v1/organizations/{INN}/payments/?format={form}").data

    return fetch


def test_workbook_shows_every_cell_as_it_is(payments, tmp_path):
    found = by_document(opened(tmp_path, "payments.xlsx", payments("xlsx")))

    assert set(found) == set(DOCUMENTS)
    for row in found.values():
        assert row["payer_inn"] == INN
        assert row["amount (RUB)"] == "1,450.05"
        assert row["document_date (Moscow)"] == "28.04.2024 00:00:00"


def test_excel_csv_shows_letters_columns_zeros_and_numbers(payments, tmp_path):
    russian = f"Text - txt - csv (StarCalc):59,34,76,1,,{RUSSIAN},false,true"
    found = by_document(opened(tmp_path, "payments.csv", payments("excel-csv"), filter_in=russian))

    assert {"'0012", "'12-03", "№ 7, копия; «ё»", "'_x0041_", "'+7 495"} <= set(found)
    for row in found.values():
        assert row["payer_inn"] == f"'{INN}"
        # A number and a date, or they would still look as in the file: what is written down has American settings.
        assert row["amount (RUB)"] == "1450.05"
        assert row["document_date (Moscow)"] == "04/28/24 12:00 AM"


@pytest.mark.parametrize(("form", "separator"), [("csv", ";"), ("csv", "\t"), ("excel-csv", ","), ("excel-csv", "|")])
def test_no_separator_makes_a_formula(payments, tmp_path, form, separator):
    split = f"Text - txt - csv (StarCalc):{ord(separator)},34,76,1,,{RUSSIAN},false,true"
    rows = opened(tmp_path, "payments.csv", payments(form), filter_in=split)

    assert len(rows) > len(DOCUMENTS)
    assert not [cell for row in rows for cell in row if cell.startswith("=")]

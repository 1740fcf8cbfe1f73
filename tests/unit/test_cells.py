"""Text in a CSV file is never a formula, whichever spreadsheet splits the file, and can be read back exactly."""

import csv
import io
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from config import ROOT
from ledger import cells

SIGNS = "=+-@＝＋－＠﹢﹣﹦﹫−"
ATTACKS = (
    'x;"=HYPERLINK(A1);"',
    'b;"=1+3',
    'c;"@SUM(1)"',
    "=1+1",
    " =1+1",
    "\t=1+1",
    "\r=1+1",
    "\xa0+1",
    "\ufeff-1",
    "a\n=1",
    "a\r\n@SUM(1)",
    "a\u2028=1",
    'a|"=1',
    "a\t=1",
    'a,"=1+1,"',
    'a"",""=1',
    ';"";=1',
    "＝1",
    "a;＋1",
    "a;\u200b＝1",
    "a; - b",
    "=1;=2;=3",
)
TEXTS = st.one_of(
    st.sampled_from(ATTACKS), st.text(alphabet="=+-@＝＋a1 ,;|\t\r\n\"'\xa0\u200b.", max_size=20), st.text(max_size=20)
)
ROWS = st.lists(st.lists(TEXTS, min_size=3, max_size=3), min_size=1, max_size=4)


def written(rows: list[list[str]], *, delimiter: str, cell=cells.neutral) -> str:
    """Return a file as an export writes it: a number in front, text behind."""
    file = io.StringIO(newline="")
    lines = csv.writer(file, delimiter=delimiter)
    for number, row in enumerate(rows):
        lines.writerow([number, *map(cell, row)])
    return file.getvalue()


def every_cell(text: str) -> list[str]:
    """Return the cells that spreadsheets may find: at each separator and break, with quotation marks or without."""
    found = []
    for delimiter in ",;\t|":
        for options in ({}, {"skipinitialspace": True}, {"doublequote": False}, {"quoting": csv.QUOTE_NONE}):
            for lines in (
                io.StringIO(text, newline=""),
                text.splitlines(keepends=True),
                re.split(r"(?<=[\r\n])", text),
            ):
                reader = csv.reader(lines, delimiter=delimiter, strict=False, **options)
                found += [cell for row in reader for cell in row]
    found += re.split(r"[,;\t|\r\n\x0b\x0c\x1c-\x1e\x85\u2028\u2029]", text)
    return found


def begins_formula(cell: str) -> bool:
    return cell.strip(' \t\r\n\xa0"\u200b\ufeff').startswith(tuple(SIGNS))


@given(ROWS, st.sampled_from(",;"), st.sampled_from([cells.neutral, cells.as_text]))
@example([[attack, "", attack] for attack in ATTACKS], ",", cells.neutral)
@example([[attack, "", attack] for attack in ATTACKS], ";", cells.as_text)
def test_no_cell_begins_a_formula_however_the_file_is_split(rows, delimiter, cell):
    assert not [cell for cell in every_cell(written(rows, delimiter=delimiter, cell=cell)) if begins_formula(cell)]


def test_each_attack_would_be_a_formula_if_it_were_written_as_it_is():
    for attack in ATTACKS:
        files = [written([[attack, "x", "y"]], delimiter=delimiter, cell=str) for delimiter in ",;"]
        assert any(begins_formula(cell) for text in files for cell in every_cell(text)), attack


@given(TEXTS)
@example("'=1")
@example("''=1;'=2")
def test_exact_text_comes_back_as_the_page_says(text):
    (line,) = re.findall(r"^exact = (.+)$", (ROOT / "docs" / "api.md").read_text(), re.MULTILINE)
    recipe = eval(f"lambda cell, re: {line}")

    assert recipe(cells.neutral(text), re) == text


@pytest.mark.parametrize("text", ["PAY-328", "№ 7, копия", "ООО «Ромашка»", "a-b", "счёт = 1", "a - b", "Ёлка"])
def test_usual_text_stays_as_it_is(text):
    assert cells.neutral(text) == cells.as_text(text) == text


@pytest.mark.parametrize(
    "text",
    [
        *("0012", "7707083893", "500100732259", "12-03", "1/2", "1e5", "12 мая", "Мар 5", "MAR1", "1:30", "50%"),
        *("TRUE", "истина", ".5", "(5)", "$5", "#N/A", " 12", "5 руб", "١٢"),
    ],
)
def test_what_would_lose_its_form_is_marked_as_text(text):
    assert cells.as_text(text) == f"'{text}"

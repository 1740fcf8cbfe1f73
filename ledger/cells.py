"""How text is written into a CSV file that a spreadsheet may open: never as a formula, whichever way it is split.

Called by ledger.exports. docs/api.md says how a program gets the exact text back.
"""

import re

SEPARATORS = r",;|\t\n\x0b\x0c\r\x1c-\x1e\x85\u2028\u2029"
"""Behind each of these some spreadsheet begins a cell, whatever the file itself is separated by."""

IGNORED = r"\s\x00-\x1f\x7f-\x9f\"'\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff"
"""What a reader may take for blank, or for the quotation marks of a cell, and pass over at its beginning."""

SIGNS = r"=+\-@＝＋－＠﹢﹣﹦﹫−"
"""What a formula begins with; some spreadsheets take the full-width and the small ones too."""

FORMULA = re.compile(f"((?:^|[{SEPARATORS}])[{IGNORED}]*|')(?=[{SIGNS}])")
"""Where a formula might begin: at the start of the text, or of what would be a cell if the text were split.

And behind an apostrophe: so each one that stands in front of a sign was put there, or has another one in front of it.
"""

WORD = re.compile(
    r"(?!(?:true|false|истина|ложь)\s*$)"
    r"(?!jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec|янв|фев|мар|апр|ма[йя]|июн|июл|авг|сен|окт|ноя|дек)"
    r"[^\W\d_]|[№«']",
    re.IGNORECASE,
)
"""How text begins that no spreadsheet takes for a number, a date or a truth value."""


def neutral(text: str) -> str:
    """Put an apostrophe in front of each sign with which a formula might begin."""
    return FORMULA.sub(r"\1'", text)


def as_text(text: str) -> str:
    """Put one too in front of what would be taken for a number or a date, and lose its zeros and its form."""
    safe = neutral(text)
    return safe if not safe or WORD.match(safe) else f"'{safe}"

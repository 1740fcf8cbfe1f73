"""Names are the field's standard terms: words that a reader would have to learn here do not come back."""

import io
import re
import tokenize

import pytest

from config import ROOT

GONE = {
    *(
        "courier",
        "parcel",
        "lane",
        "vault",
        "bell",
        "ring",
        "rung",
        "ringer",
        "metronome",
        "seat",
        "letterbox",
        "arrivals",
    ),
    *("park", "parked", "heard", "told", "untold", "foretell", "wish", "turns", "truth", "stage", "room"),
    *("wording", "intake", "shapes", "desk", "speech", "postman", "tries", "wallets"),
}
"""Parts of names, as `park` is one of `_park_due` and of `ParkDue`; docs/decisions.md says what they are called now."""

GONE_WHOLE = {"hang_up", "hand_over", "wind_down", "take_turns", "judge"}
"""Names that are made of words which are good by themselves."""

SENTENCES = GONE - {"told", "heard", "ring", "park", "room"}

FOLDERS = (
    "api",
    "auth",
    "banks",
    "bench",
    "cli",
    "database",
    "http_client",
    "ledger",
    "migrations",
    "outbox",
    "sandbox",
)
FILES = sorted(
    path.relative_to(ROOT)
    for path in [
        *ROOT.glob("*.py"),
        *(file for name in (*FOLDERS, "server", "worker", "tests") for file in (ROOT / name).rglob("*.py")),
    ]
    if path.name != "test_words.py"
)


def parts(name: str) -> set[str]:
    """Return the words that a name is made of, in lower case."""
    return {part.lower() for part in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}


@pytest.mark.parametrize("file", FILES, ids=str)
def test_names_hold_no_word_that_is_gone(file):
    # A module of Werkzeug is called so, and none of ours.
    text = re.sub(r"^from werkzeug\.serving import .*$", "", (ROOT / file).read_text(), flags=re.MULTILINE)
    names = {
        token.string for token in tokenize.generate_tokens(io.StringIO(text).readline) if token.type == tokenize.NAME
    }

    assert names.isdisjoint(GONE_WHOLE)
    # The names of tests are sentences, in which one may be told and heard.
    assert not {name for name in names | {file.stem} if parts(name) & (SENTENCES if name.startswith("test_") else GONE)}

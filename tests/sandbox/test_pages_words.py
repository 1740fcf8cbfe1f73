"""The words of the pages: every language has all of them, and the pages use no others."""

import ast
import re
import string
from datetime import UTC, datetime

import pytest

from sandbox.bank import payload
from sandbox.gateway import cards
from sandbox.gateway.model import Status
from sandbox.message import Message
from sandbox.pages import languages
from sandbox.settings import ROOT
from sandbox.storm.findings import SENTENCES, Fault
from sandbox.storm.plan import VARIANTS, Kind
from sandbox.storm.text import ANSWERS

FOLDER = ROOT / "sandbox"
SOURCES = [
    *(FOLDER / "templates").glob("*.html"),
    *(FOLDER / "pages").glob("*.py"),
    FOLDER / "bank/views.py",
    FOLDER / "gateway/mail_texts.py",
]
MADE_UP = re.compile(
    r"(status|delivery|reason|test|mail|text|signature|column)\.|storm\.(seed|day|operations|organisations|amount_max)$"
    r"|.+\.(title|text)$"
)
"""Keys that the code puts together, of a state or of a reason."""


def get_language(code: str) -> languages.Language:
    return languages.get_language(code)


def placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def named_keys() -> set[str]:
    source = "\n".join(path.read_text(encoding="utf-8") for path in SOURCES)
    return set(re.findall(r"""["']([a-z_]+\.[a-z0-9_]+)["']""", source)) & set(get_language("en").words)


@pytest.mark.parametrize("code", languages.NAMES)
def test_every_language_has_every_key_and_none_is_empty(code):
    words = get_language(code).words

    assert set(words) == set(get_language("en").words)
    assert [key for key, text in words.items() if not text.strip()] == []


@pytest.mark.parametrize("code", languages.NAMES)
def test_every_language_fills_in_the_same_values(code):
    english = get_language("en").words

    assert {
        key for key, text in get_language(code).words.items() if placeholders(text) != placeholders(english[key])
    } == set()


@pytest.mark.parametrize("code", [code for code in languages.NAMES if code != "en"])
def test_other_languages_are_translated(code):
    kept = {
        *("Webhooks", "Webhook {id}", "{milliseconds} ms", "Bank", "Sandbox", "Shop"),
        *("Code:", "Code", "E-Mail", "Kopeck Sandbox"),
    }
    english = get_language("en").words

    assert {text for key, text in get_language(code).words.items() if text == english[key]} <= kept


def test_every_word_that_is_asked_for_exists_and_every_word_is_asked_for():
    calls = "\n".join(path.read_text(encoding="utf-8") for path in SOURCES)
    asked = set(re.findall(r"""(?:\bt|translate)\(["']([^"']+)["'][,)]""", calls))

    assert asked <= set(get_language("en").words)
    assert {key for key in get_language("en").words if not MADE_UP.match(key)} - named_keys() == set()


@pytest.mark.parametrize("code", languages.NAMES)
def test_every_state_reason_and_test_card_has_words(code):
    words = set(get_language(code).words)

    assert {f"status.{status.value}" for status in Status} <= words
    assert {f"reason.{reason.lower()}" for reason in cards.DECLINES} <= words
    assert {f"test.{card.title}" for card in cards.TABLE} <= words


FINDERS = ("about", "about_step", "Finding", "_of_balance")
"""The functions that make a finding."""


def texts_of_the_code() -> set[str]:
    """Return every English text that a page may get from the code."""
    sources = [path.read_text(encoding="utf-8") for path in FOLDER.rglob("*.py")]
    calls = [call for source in sources for call in ast.walk(ast.parse(source)) if isinstance(call, ast.Call)]
    messages = {call.args[0].value for call in calls if ast.unparse(call.func) == "Message"}
    assigned = {text for source in sources for text in re.findall(r'(?:cause=|\bphase = |"phase": )"([^"]+)"', source)}
    findings = {*map(str, Fault), *SENTENCES.values()}
    expected = {text for call in calls if function_name(call) in FINDERS for text in constants(call)}
    variants = {variant for variants in VARIANTS.values() for variant in variants}
    problems = {
        problem for problems in payload.problems(dict.fromkeys(payload.FIELDS)).values() for problem in problems
    }
    kinds = {*map(str, Kind), *ANSWERS, "sent", "steps", "There is no such field."}
    return messages | assigned | findings | expected | variants | problems | kinds


def function_name(call: ast.Call) -> str:
    return ast.unparse(call.func).rsplit(".", maxsplit=1)[-1]


def constants(call: ast.Call) -> set[str]:
    """Return the texts that a call is given: what was expected, and what was found."""
    given = [*call.args, *(keyword.value for keyword in call.keywords if keyword.arg in ("expected", "found"))]
    return {each.value for each in given if isinstance(each, ast.Constant) and isinstance(each.value, str)}


@pytest.mark.parametrize("code", languages.NAMES)
def test_every_text_of_the_code_has_a_translation(code):
    words = get_language(code).words
    needed = {text for text in texts_of_the_code() if re.search("[a-z]{3}", re.sub(r"{[a-z]+}", "", text))}

    assert len(needed) > 80
    assert {text for text in needed if f"text.{text}" not in words} == set()


def test_no_translation_of_a_text_is_left_over():
    kept = {key.removeprefix("text.") for key in get_language("en").words if key.startswith("text.")}
    code = "\n".join(path.read_text(encoding="utf-8") for path in FOLDER.rglob("*.py"))

    assert {text for text in kept if f'"{text}"' not in re.sub(r'"\s+"', "", code)} == set()


@pytest.mark.parametrize("code", languages.NAMES)
def test_messages_are_translated_with_their_values(code):
    step = Message("{kind} ({detail})", kind=Kind.FORGED, detail="a list")
    message = Message("{status} to a {step}", status=200, step=step)
    language = get_language(code)

    assert str(message) == "200 to a forged signature (a list)"
    assert language.text(message) == language.words["text.{status} to a {step}"].format(
        status=200, step=f"{language.text('forged signature')} ({language.text('a list')})"
    )
    assert language.text("7 of 8") == "7 of 8"


@pytest.mark.parametrize(
    ("code", "currency", "minor", "text"),
    [
        ("en", "USD", 123456789, "$1,234,567.89"),
        ("de", "EUR", 123456789, "1.234.567,89\N{NO-BREAK SPACE}€"),
        ("uk", "UAH", 100, "1,00\N{NO-BREAK SPACE}₴"),
        ("ru", "RUB", 100050, "1\N{NO-BREAK SPACE}000,50\N{NO-BREAK SPACE}₽"),
        ("en", "JPY", 500, "¥500"),
        ("en", "KWD", 1234, "1.234\N{NO-BREAK SPACE}KWD"),
        ("en", "PLN", 1, "0.01\N{NO-BREAK SPACE}zł"),
        ("de", "USD", -5, "\N{MINUS SIGN}0,05\N{NO-BREAK SPACE}$"),
    ],
)
def test_money_is_written_as_the_language_writes_it(code, currency, minor, text):
    assert get_language(code).money(minor, currency) == text


def test_a_symbol_of_the_settings_wins():
    assert get_language("de").money(100, "UAH", "грн") == "1,00\N{NO-BREAK SPACE}грн"


def test_an_unknown_language_is_refused_and_an_unknown_phrase_is_said_otherwise():
    with pytest.raises(KeyError):
        get_language("../en")
    assert get_language("en").get("status.paid", "?") == "paid"
    assert get_language("en").get("status.new", "new") == "new"


def test_moments_are_written_in_utc():
    moment = datetime(2026, 3, 1, 12, 5, 9, tzinfo=UTC)

    assert languages.clock_time(moment) == "12:05 UTC"
    assert languages.full_time(moment) == "2026-03-01 12:05:09 UTC"

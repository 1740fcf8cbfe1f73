"""The four languages of the sandbox: choice of language, translations, formats of money and time.

The translations are in words/.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from pathlib import Path

from flask import Request

from sandbox.message import Message

FOLDER = Path(__file__).resolve().parents[1] / "words"
NAMES = {"en": "English", "uk": "Українська", "de": "Deutsch", "ru": "Русский"}
"""The languages by their own names, in the order of the language switcher."""

DEFAULT = "en"
COOKIE = "lang"
PARAMETER = "lang"

SYMBOLS = {"USD": "$", "EUR": "€", "GBP": "£", "UAH": "₴", "RUB": "₽", "PLN": "zł", "KZT": "₸", "JPY": "¥"}
WITHOUT_MINOR = frozenset({"JPY", "KRW", "CLP", "VND", "XAF", "XOF", "ISK"})
WITH_THREE_DECIMALS = frozenset({"BHD", "IQD", "JOD", "KWD", "OMR", "TND"})
SEPARATORS = {"en": (",", "."), "de": (".", ","), "uk": ("\N{NO-BREAK SPACE}", ","), "ru": ("\N{NO-BREAK SPACE}", ",")}
"""The thousands separator and the decimal separator."""


@dataclass(frozen=True)
class Language:
    """One language with its translations."""

    code: str
    words: Mapping[str, str]

    def __call__(self, key: str, /, **values: object) -> str:
        """Return a translation; an unknown key is a bug and raises KeyError."""
        return self.words[key].format(**values)

    def text(self, english: str) -> str:
        """Return the translation of an English text of the code; a text without one stays as it is."""
        if not isinstance(english, Message):
            return self.words.get(f"text.{english}", english)
        template = self.words.get(f"text.{english.template}", english.template)
        if not english.values:
            return template
        values = {name: self.text(value) if isinstance(value, str) else value for name, value in english.values.items()}
        return template.format(**values)

    def get(self, key: str, default: str) -> str:
        """Return the translation of a key that comes from data, or a default."""
        return self.words.get(key, default)

    def money(self, minor: int, currency: str, symbol: str | None = None) -> str:
        """Format minor units, with the currency's symbol where the language puts it."""
        decimals = 0 if currency in WITHOUT_MINOR else 3 if currency in WITH_THREE_DECIMALS else 2
        thousands, point = SEPARATORS[self.code]
        text = f"{abs(Decimal(minor)).scaleb(-decimals):,.{decimals}f}"
        text = text.translate({ord(","): thousands, ord("."): point})
        sign, symbol = "\N{MINUS SIGN}" if minor < 0 else "", symbol or SYMBOLS.get(currency, currency)
        if self.code == "en" and len(symbol) == 1:
            return f"{sign}{symbol}{text}"
        return f"{sign}{text}\N{NO-BREAK SPACE}{symbol}"


def get_language(code: str) -> Language:
    """Return a language by its code; raise KeyError for an unknown one."""
    if code not in NAMES:
        raise KeyError(code)
    return _read(code)


def requested_language(request: Request) -> Language:
    """Return the language from the address, else from the cookie, else from the browser's settings."""
    for code in (request.args.get(PARAMETER, ""), request.cookies.get(COOKIE, "")):
        if code in NAMES:
            return _read(code)
    return _read(request.accept_languages.best_match(list(NAMES), default=DEFAULT) or DEFAULT)


def clock_time(moment: datetime) -> str:
    """Format a moment as hours and minutes."""
    return f"{moment.astimezone(UTC):%H:%M} UTC"


def full_time(moment: datetime) -> str:
    """Format a moment to the second; the same in every language."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


@cache
def _read(code: str) -> Language:
    return Language(code, json.loads((FOLDER / f"{code}.json").read_text(encoding="utf-8")))

"""Four languages: which one a browser wants, every word of the pages in it, money and moments as it writes them.

Called by the pages alone. Knows no invoice and no table; the words themselves are in words/.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from pathlib import Path

from flask import Request

FOLDER = Path(__file__).resolve().parents[1] / "words"
NAMES = {"en": "English", "uk": "Українська", "de": "Deutsch", "ru": "Русский"}
"""The languages by their own names, in the order in which the switcher offers them."""

DEFAULT = "en"
COOKIE = "lang"
PARAMETER = "lang"

SYMBOLS = {"USD": "$", "EUR": "€", "GBP": "£", "UAH": "₴", "RUB": "₽", "PLN": "zł", "KZT": "₸", "JPY": "¥"}
WITHOUT_MINOR = frozenset({"JPY", "KRW", "CLP", "VND", "XAF", "XOF", "ISK"})
WITH_THREE_DECIMALS = frozenset({"BHD", "IQD", "JOD", "KWD", "OMR", "TND"})
SEPARATORS = {"en": (",", "."), "de": (".", ","), "uk": ("\N{NO-BREAK SPACE}", ","), "ru": ("\N{NO-BREAK SPACE}", ",")}
"""Between thousands, and before the minor units."""


@dataclass(frozen=True)
class Language:
    """One language, ready to speak."""

    code: str
    words: Mapping[str, str]

    def __call__(self, key: str, /, **values: object) -> str:
        """Say a phrase; one that does not exist is a mistake of ours and raises."""
        return self.words[key].format(**values)

    def perhaps(self, key: str, otherwise: str) -> str:
        """Say a phrase that depends on what came from outside, or something else where there is none."""
        return self.words.get(key, otherwise)

    def money(self, minor: int, currency: str, symbol: str | None = None) -> str:
        """Write an amount of minor units, with the currency's symbol where the language has it."""
        decimals = 0 if currency in WITHOUT_MINOR else 3 if currency in WITH_THREE_DECIMALS else 2
        thousands, point = SEPARATORS[self.code]
        text = f"{abs(Decimal(minor)).scaleb(-decimals):,.{decimals}f}"
        text = text.translate({ord(","): thousands, ord("."): point})
        sign, symbol = "\N{MINUS SIGN}" if minor < 0 else "", symbol or SYMBOLS.get(currency, currency)
        if self.code == "en" and len(symbol) == 1:
            return f"{sign}{symbol}{text}"
        return f"{sign}{text}\N{NO-BREAK SPACE}{symbol}"


def speak(code: str) -> Language:
    """Return a language by its code; raises KeyError for one that we do not have."""
    if code not in NAMES:
        raise KeyError(code)
    return _read(code)


def chosen(request: Request) -> Language:
    """Return the language that was asked for in the address, else before (cookie), else by the browser."""
    for code in (request.args.get(PARAMETER, ""), request.cookies.get(COOKIE, "")):
        if code in NAMES:
            return _read(code)
    return _read(request.accept_languages.best_match(list(NAMES), default=DEFAULT) or DEFAULT)


def clock_time(moment: datetime) -> str:
    """Write the hour of a moment."""
    return f"{moment.astimezone(UTC):%H:%M} UTC"


def full_time(moment: datetime) -> str:
    """Write a moment to the second, as logs do, the same in each language."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


@cache
def _read(code: str) -> Language:
    return Language(code, json.loads((FOLDER / f"{code}.json").read_text(encoding="utf-8")))

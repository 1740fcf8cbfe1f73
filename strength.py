"""How hard a secret is to guess: what a person typed is told from what a generator made.

Called by config.py for production. An estimate from above, in bits, after the parts that anybody would try first.
"""

import math
import re

BITS_MIN = 64
"""Below this a secret is weak: one of `openssl rand -hex 16` has 128, a person's sentence some 60."""

PLACEHOLDER = re.compile(
    r"change.?(me|this|it)|replace.?(me|this|with)|place.?holder|(your|insert|put|enter).{0,9}(secret|key|here)"
    r"|x{4}|correct.?horse|example|sample|dummy|default|secret.?(key|goes|here)|quick.?brown|lorem.?ipsum|pass.?word|parol|not.?(a.?)?secret",
    re.IGNORECASE,
)
"""What stands where somebody was to put a secret, or stands for one in documentation."""

ROWS = (
    *("abcdefghijklmnopqrstuvwxyz", "01234567890", "qwertyuiop", "asdfghjkl", "zxcvbnm", "qazwsxedcrfvtgbyhnujmikolp"),
    *("1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik9ol0p", "1q2w3e4r5t6y7u8i9o0p", "!@#$%^&*()", "йцукенгшщзхъ", "фывапролджэ"),
    *("ячсмитьбю", "абвгдеёжзийклмнопрстуфхцчшщъыьэюя"),
)
"""Keys that lie side by side, and signs that follow each other."""

RUNS = (*ROWS, *(row[::-1] for row in ROWS))
RUN_CHARACTERS_MIN = 3
RUN_BITS = 6
REPEAT_BITS = 4
AGAIN_BITS = 1
"""Of a sign that stands twice in a row, or that separates words."""

SHORT_WORD_BITS = 8
WORD_BITS = 11
"""As in a list of 2048 words, from which careful people draw theirs."""

COMMON = re.compile(
    r"(the|and|for|not|this|that|very|only|my|our)|(web)?hooks?|(secret|key|token|bank|test|signing)s?|kopeck|sandbox"
    r"|prod(uction)?|dev(elopment)?|staging|strong|super|секрет|ключ|банк(а)?|тест"
)
"""Words that come to mind where a secret is asked for."""

LETTER_BITS = 4
"""Of each letter in what may be several words without a space."""

WORD = re.compile(r"[A-Za-z][a-z]{2,}|[A-Z]{3,}|[А-Яа-яЁё]{3,}")
SHORT_WORD = re.compile(r"(?<![^\W_])[^\W\d_]{1,2}(?![^\W_])")
YEAR = re.compile(r"(19|20)[0-9]{2}(?![0-9])")
SEPARATOR = re.compile(r"(?<=[^\W_])[^0-9A-Za-zА-Яа-яЁё](?=[^\W_])")
VOWELS = "aeiouyаеёиоуыэюя"
CONSONANTS_MAX = 3
"""In a row: `str` begins words, and hardly any holds four."""


def is_weak(secret: str) -> bool:
    """Return whether somebody who guesses would come to this secret before long."""
    if PLACEHOLDER.search(secret) or secret.isdecimal():
        return True
    # Two runs may be laced into each other: 0f1e2d3c, aabbcc.
    return min(bits(secret), bits(secret[::2]) + bits(secret[1::2])) < BITS_MIN


def bits(secret: str) -> float:
    """Estimate how many bits a secret holds, from its start to its end, each time by the longest part that is known."""
    alphabet = _alphabet_bits(secret)
    found, place = 0.0, 0
    while place < len(secret):
        length, worth = max(_known_parts(secret, place), key=lambda part: (part[0], -part[1]))
        found += min(worth, length * alphabet)
        place += length
    return found


def _known_parts(secret: str, place: int) -> list[tuple[int, float]]:
    """Return the length of each known part that begins here, and its bits; in doubt it is one sign of the alphabet."""
    lower = secret.lower()
    again = (place > 0 and lower[place] == lower[place - 1]) or SEPARATOR.match(secret, place)
    parts = [(1, AGAIN_BITS if again else math.inf)]
    parts += [(_repeated(lower, place), REPEAT_BITS), (_run(lower, place), RUN_BITS)]
    if found := YEAR.match(secret, place) or SHORT_WORD.match(secret, place):
        parts.append((len(found[0]), RUN_BITS))
    if (found := WORD.match(secret, place)) and _is_pronounceable(found[0].lower()):
        length = len(found[0])
        common = COMMON.fullmatch(found[0].lower())
        word = (length, REPEAT_BITS if common else SHORT_WORD_BITS if length < 5 else WORD_BITS)
        # Several words without a space: letter by letter, so that repetitions among them are found.
        parts.append(word if length < 13 else (1, LETTER_BITS))
    return parts


def _repeated(text: str, place: int) -> int:
    """Return the length of what has been there before."""
    length = 0
    while place + length < len(text) and text.find(text[place : place + length + 1], 0, place + length) >= 0:
        length += 1
    return length if length >= RUN_CHARACTERS_MIN else 0


def _run(text: str, place: int) -> int:
    """Return the length of what lies in a row on a keyboard or in an alphabet."""
    length = 0
    while place + length < len(text) and any(text[place : place + length + 1] in row for row in RUNS):
        length += 1
    return length if length >= RUN_CHARACTERS_MIN else 0


def _is_pronounceable(word: str) -> bool:
    """Return whether letters could be a word: enough vowels, and no long row of consonants."""
    vowels = sum(letter in VOWELS for letter in word)
    return vowels * 4 >= len(word) and max(map(len, re.split(f"[{VOWELS}]", word))) <= CONSONANTS_MAX


def _alphabet_bits(secret: str) -> float:
    """Return what one sign is worth: as many bits as the classes of signs allow, and no more than those that occur."""
    classes = ((r"[0-9]", 10), (r"[a-f]", 6), (r"[g-z]", 20), (r"[A-F]", 6), (r"[G-Z]", 20), (r"[^0-9A-Za-z]", 20))
    signs = sum(count for shape, count in classes if re.search(shape, secret))
    return math.log2(max(2, min(signs, 4 * len(set(secret)))))

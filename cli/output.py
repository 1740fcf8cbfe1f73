"""How the commands speak: lines and tables that cannot move a terminal, examples in every help text, errors in a line.

The only code of the shell that prints.
"""

import os
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import wraps
from typing import Any

import click
from flask.cli import AppGroup
from marshmallow import ValidationError, fields, validate
from sqlalchemy.exc import SQLAlchemyError

import fields as field_types
import rules
import schemas
from database.failures import is_unavailable
from errors import PaymentError

BAR_FROM_ROWS = 200
"""Shorter work is over before a progress bar could be read."""


class Shaped(click.ParamType[Any]):
    """An argument that must have the shape which the API asks for too."""

    def __init__(self, name: str, field: fields.Field[Any]) -> None:
        self.name = name
        self.field = field

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Check one argument, and say what is wrong with it."""
        try:
            return self.field.deserialize(value)
        except ValidationError as error:
            self.fail(" ".join(str(message) for message in error.messages), param, ctx)


INN = Shaped("inn", field_types.Inn())
NAME = Shaped("name", field_types.Text(validate=validate.Length(0, schemas.NAME_CHARACTERS_MAX)))
KEY_NAME = Shaped("name", field_types.Text(validate=validate.Length(1, 100)))
NOTE = Shaped("note", field_types.Text(validate=validate.Length(1, schemas.NOTE_CHARACTERS_MAX)))
MOMENT = Shaped("moment", field_types.Moment())
TEXT = Shaped("text", field_types.Text(validate=validate.Length(0, schemas.NAME_CHARACTERS_MAX)))
NUMBER = click.IntRange(1, rules.MONEY_MAX)


class Group(AppGroup):
    """A group of commands that turns our own errors into one line and exit status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command of the group."""
        with _in_one_line():
            return super().invoke(ctx)


def guarded(command: Callable[..., None]) -> Callable[..., None]:
    """Turn our own errors into one line for a command that stands in no group."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        with _in_one_line():
            command(*args, **kwargs)

    return run


@contextmanager
def _in_one_line() -> Iterator[None]:
    try:
        yield
    except click.UsageError as error:
        raise click.UsageError(_printable_lines(error.format_message()), error.ctx) from None
    except click.ClickException as error:
        raise click.ClickException(_printable_lines(error.format_message())) from None
    except PaymentError as error:
        raise click.ClickException(error.detail) from None
    except SQLAlchemyError as error:
        if not is_unavailable(error):
            raise
        raise click.ClickException(
            "The database is not available or has no tables yet. Look at DATABASE_URL, then run `flask db upgrade`."
        ) from None


def example(*lines: str) -> str:
    """Return an epilog that shows how a command is called."""
    return "\b\nExample:\n" + "\n".join(f"  {line}" for line in lines)


def operator() -> str:
    """Name the person at the shell, for what is kept about who did what: as the system knows him, not the environment.

    A container's user may have only a number, and Windows may know none.
    """
    try:
        import pwd  # noqa: PLC0415 - there is none on Windows
    except ImportError:
        with suppress(OSError):
            return f"shell:{os.getlogin()}"
        return "shell:unknown"
    try:
        return f"shell:{pwd.getpwuid(os.getuid()).pw_name}"
    except KeyError:
        return f"shell:{os.getuid()}"


def say(*lines: str, err: bool = False) -> None:
    """Print lines; what is in them, stored or received by whomever, can neither move a terminal nor pass for a line."""
    for line in lines:
        click.echo(printable(line), err=err)


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    """Lay out rows in columns, numbers to the right."""
    cells = [[shown(cell) for cell in row] for row in rows]
    widths = [max(len(line[column]) for line in [list(header), *cells]) for column in range(len(header))]
    numeric = [all(_is_number(line[column]) for line in cells) for column in range(len(header))]
    for line in [list(header), *cells]:
        padded = [
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(line, widths, numeric, strict=True)
        ]
        yield "  ".join(padded).rstrip()


def counted(number: int, one: str, many: str | None = None) -> str:
    """Write a number with what it counts, which has an s behind if there are several."""
    return f"{number} {one if number == 1 else many or f'{one}s'}"


def money(kopecks: int) -> str:
    """Write kopecks as people read them."""
    return f"{rules.roubles(kopecks)} RUB"


@contextmanager
def progress(total: int, label: str) -> Iterator[Callable[[int], None]]:
    """Show a bar on standard error while long work goes on; give back what to call with the rows done."""
    hidden = total < BAR_FROM_ROWS
    with click.progressbar(length=total, label=label, hidden=hidden, file=sys.stderr) as bar:
        yield bar.update


def printable(text: str) -> str:
    """Write out, as escapes, whatever could move the cursor, change colours or turn the line around."""
    return "".join(
        character if character == " " or unicodedata.category(character)[0] not in "CZ" else ascii(character)[1:-1]
        for character in text
    )


def _printable_lines(text: str) -> str:
    """Write out the same, but leave the line breaks: an error quotes what was typed, stored or received."""
    return "\n".join(map(printable, text.split("\n")))


def shown(cell: object) -> str:
    """Write one value as every table does."""
    if isinstance(cell, datetime):
        return cell.strftime("%Y-%m-%d %H:%M:%SZ")
    return "" if cell is None else printable(str(cell))


def _is_number(text: str) -> bool:
    return text.replace(" ", "").replace(".", "").removeprefix("-").removesuffix("RUB").isdigit()

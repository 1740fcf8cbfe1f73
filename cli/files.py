"""Files that commands write: whole or not there, for their owner alone, and never in the place of another.

Called by the commands that write one. Knows nothing of what is in it.
"""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import click

PIECE_BYTES = 64 * 1024

PATH = click.Path(dir_okay=False, path_type=Path)
EXISTING = click.Path(exists=True, dir_okay=False, path_type=Path)


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Give the path of an empty file to write into, which gets its name at the end; without an end nothing is left."""
    _refuse_existing(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        _give_name(part, path)
    except OSError as error:
        raise click.ClickException(f"{path} cannot be written: {error.strerror}. No file was left.") from None
    finally:
        part.unlink(missing_ok=True)


def write(source: IO[bytes], output: Path | None) -> None:
    """Copy a file that is whole to a new one or, without a name, to standard output."""
    if output is None:
        _print(source)
        return
    with new_file(output) as part, part.open("wb") as target:
        shutil.copyfileobj(source, target)


def _print(source: IO[bytes]) -> None:
    try:
        while piece := source.read(PIECE_BYTES):
            click.echo(piece, nl=False)
    except BrokenPipeError:
        raise  # click ends quietly: whoever reads has read enough
    except OSError as error:
        # What is left in the buffer would fail once more at the exit, with a traceback.
        sys.stdout = None
        raise click.ClickException(f"The output could not be written whole: {error.strerror}.") from None


def _refuse_existing(path: Path) -> None:
    if path.exists() or path.is_symlink():
        raise click.ClickException(f"{path} exists already, and nothing is written over it; choose another name.")


def _give_name(part: Path, path: Path) -> None:
    """Name a file, unless another has got that name meanwhile."""
    try:
        os.link(part, path)
    except FileExistsError:
        _refuse_existing(path)
    except OSError:  # some file systems have no second names
        _refuse_existing(path)
        part.rename(path)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Have the name on disk too, where a folder can be opened."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

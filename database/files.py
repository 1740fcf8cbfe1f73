"""The file of a SQLite database, which is its owner's alone.

Called when an app is made, before anything connects.
"""

import stat
from contextlib import suppress
from pathlib import Path

from sqlalchemy import URL

from config import end_if


def make_file(url: URL) -> None:
    """Make a SQLite file that only its owner reads, and its folder, or end the process and say why that is impossible.

    One that is there already loses what others may, and what its group may unless somebody let the group write.
    """
    if url.get_backend_name() != "sqlite" or not url.database:
        return
    file = Path(url.database)
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not file.exists():
            file.touch(mode=0o600)
    except OSError as error:
        end_if([f"DATABASE_URL names {file}, which cannot be made or opened: {error.strerror}"])
    for suffix in ("", "-wal", "-shm"):
        _close_to_others(file.with_name(file.name + suffix))


def _close_to_others(file: Path) -> None:
    # One that is gone or belongs to somebody else stays as it is.
    with suppress(OSError):
        mode = stat.S_IMODE(file.stat().st_mode)
        kept = mode & (0o770 if mode & stat.S_IWGRP else 0o700)
        if kept != mode:
            file.chmod(kept)
